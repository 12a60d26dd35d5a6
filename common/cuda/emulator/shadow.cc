#include "common/cuda/emulator/inside.h"

extern "C" {
#include "common/base/base.h"
}

#include <string.h>
#include <sys/mman.h>

/* ---- cells ---- */

static size_t cell_count(const Area *area) { return ((area->bytes - 1) >> area->shift) + 1; }

static Cell *cells_new(size_t count) { /* zeros, that take memory when they are touched */
    void *p = mmap(NULL, count * sizeof(Cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED, "make the model or the batch smaller, or run with SHARD_EMULATOR_CHECKS=0",
          "no memory for what the emulator keeps of each access");
    return (Cell *)p;
}

void area_start(Area *area, uintptr_t begin, size_t bytes, const char *name, bool shared) {
    area->begin = begin;
    area->bytes = bytes;
    area->name = name;
    area->shared = shared;
    area->shift = 3;
    area->cells = cells_new(cell_count(area));
    if (shared) return;
    for (auto &told : area->told) told.assign(bytes / 256 + 1, {0, 0});
}

void area_forget(Area *area) {
    size_t bytes = cell_count(area) * sizeof(Cell);
    if (bytes < (1 << 20) || madvise(area->cells, bytes, MADV_DONTNEED) != 0) memset(area->cells, 0, bytes);
}

void area_end(Area *area) {
    munmap(area->cells, cell_count(area) * sizeof(Cell));
    area->cells = NULL;
}

void area_split(Area *area, size_t begin, size_t end) {
    size_t edges = begin | (end == area->bytes ? 0 : end);
    int shift = edges ? __builtin_ctzll(edges) : area->shift;
    if (shift >= area->shift) return;
    Area fine = {area->begin, area->bytes, "", area->shared, shift, NULL, {}};
    size_t count = cell_count(&fine);
    fine.cells = cells_new(count);
    for (size_t i = 0; i < count; i++) {
        const Cell *coarse = &area->cells[i << shift >> area->shift];
        if (coarse->writer | coarse->reader[0]) fine.cells[i] = *coarse;
    }
    area_end(area);
    area->cells = fine.cells;
    area->shift = shift;
}

/* ---- which access comes before which ---- */

static bool of_this_block(const Block *b, Stamp s) { return stamp_serial(s) >= b->block_serial; }

/* The access is known to come before what the running thread does now. Each block has shared memory of its own. */
static bool before(Block *b, const Area *area, Stamp s) {
    uint32_t serial = stamp_serial(s);
    if (serial < b->launch_serial) return true;
    if (serial < b->block_serial) return area->shared;
    if (serial < b->serial) return true;
    unsigned thread = stamp_thread(s), me = (unsigned)b->current;
    if (thread == me) return true;
    const Warp *w = warp_of(b, b->current);
    const unsigned *known = w->clock[me % 32];
    if (thread < WARP_OF_THREADS) return thread / 32 == me / 32 && stamp_time(s) < known[thread % 32];
    if (thread != WARP_OF_THREADS + me / 32) return false;
    for (int lane = 0; lane < 32; lane++)
        if ((w->there >> lane & 1) && stamp_time(s) >= known[lane]) return false;
    return true;
}

static std::string block_text(Block *b, Stamp s) {
    size_t i = b->serials.size();
    while (i > 1 && b->serials[i - 1].first > stamp_serial(s)) i--;
    uint64_t n = b->serials[i - 1].second;
    dim3 g = b->launch->grid;
    return "(" + std::to_string(n % g.x) + "," + std::to_string(n / g.x % g.y) + "," +
           std::to_string(n / g.x / g.y) + ")";
}

static std::string who(Block *b, Stamp s) {
    unsigned thread = stamp_thread(s);
    std::string text = thread < WARP_OF_THREADS ? "thread " + thread_text(b, (int)thread) : "other threads";
    return of_this_block(b, s) ? text : text + " of block " + block_text(b, s);
}

static std::string where(const Area *area, size_t offset) {
    return "byte " + std::to_string(offset) + " of " + (area->shared ? "shared " : "") + "'" + area->name +
           "'";
}

[[noreturn]] static void race(Block *b, const Area *area, size_t offset, AccessKind kind, const Site *site,
                              Stamp other, bool other_wrote) {
    static const char *const verb[] = {"reads", "writes", "changes"};
    b->pending.clear(); /* it would be said of a word that these two touch */
    finding(of_this_block(b, other) ? "put a __syncthreads() between (__syncwarp() within a warp)"
                                    : "blocks of a grid run in any order: let each write memory of its own",
            "thread %s %s %s%s, which %s %s%s without a barrier between", thread_text(b, b->current).c_str(),
            verb[kind], where(area, offset).c_str(), place_text(site->return_address).c_str(),
            who(b, other).c_str(), other_wrote ? "wrote" : "has read",
            place_text(site_address(stamp_site(other))).c_str());
}

/* ---- accesses ---- */

static void remember_reader(Block *b, const Area *area, Cell *cell, Stamp now) {
    Stamp *r = cell->reader;
    if (before(b, area, r[0]))
        r[0] = now;
    else if (before(b, area, r[1]))
        r[1] = now;
    /* Of three the two that are far from each other are kept, so that whoever writes is found by one of them. */
    else if (stamp_thread(r[0]) / 32 == stamp_thread(r[1]) / 32 &&
             stamp_thread(now) / 32 != stamp_thread(r[0]) / 32)
        r[1] = now;
}

/* The writer that a cell keeps after an atomic, whose last one, not before it, was another. */
static Stamp several(Block *b, Stamp writer, Stamp now) {
    if (!of_this_block(b, writer)) return writer;
    unsigned had = stamp_thread(writer), warp = (unsigned)b->current / 32;
    bool own = had < WARP_OF_THREADS ? had / 32 == warp : had == WARP_OF_THREADS + warp;
    return stamp_new(b->serial, own ? WARP_OF_THREADS + warp : MANY_THREADS, stamp_time(now)) | ATOMIC |
           stamp_site(now);
}

static void touch_cell(Block *b, Area *area, size_t i, size_t offset, AccessKind kind, const Site *site) {
    Cell *cell = &area->cells[i];
    Stamp w = cell->writer, now = b->now | site->number;
    if (kind != WRITE && (area->shared ? !of_this_block(b, w) : w == 0) && b->pending.empty()) {
        b->pending = "thread " + thread_text(b, b->current) + " reads " + where(area, offset) +
                     place_text(site->return_address) + ", which nobody has written";
        b->pending_hint = "write it first: what is new is not zero";
    }
    bool known = before(b, area, w);
    if (!known && !(kind == ATOMIC_ACCESS && (w & ATOMIC))) race(b, area, offset, kind, site, w, true);
    if (kind == READ) {
        remember_reader(b, area, cell, now);
        return;
    }
    for (Stamp r : cell->reader)
        if (!before(b, area, r)) race(b, area, offset, kind, site, r, false);
    cell->writer = kind == WRITE ? now : known ? now | ATOMIC : several(b, w, now);
}

void area_access(Block *b, Area *area, size_t offset, size_t bytes, AccessKind kind, const Site *site) {
    if ((offset | bytes) & (((size_t)1 << area->shift) - 1)) area_split(area, offset, offset + bytes);
    size_t last = (offset + bytes - 1) >> area->shift;
    for (size_t i = offset >> area->shift; i <= last; i++)
        touch_cell(b, area, i, std::max(offset, i << area->shift), kind, site);
}
