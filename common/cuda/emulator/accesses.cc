/* What the compiler's thread sanitizer calls at each access of an instrumented file, in place of its library. */
#include "common/cuda/emulator/inside.h"

#include <algorithm>
#include <string.h>

/* ---- sites ---- */

static std::vector<Site> sites(4 * MOST_SITES); /* a table by address, open to the next free place */
static std::vector<const void *> addresses(1);

static Site *site_of(const void *return_address) {
    size_t i = ((uintptr_t)return_address * 0x9e3779b97f4a7c15u) >> 50;
    static_assert(4 * MOST_SITES == 1 << 14, "the hash is as wide as the table");
    for (;; i = (i + 1) % sites.size()) {
        Site *s = &sites[i];
        if (s->return_address == return_address) return s;
        if (s->return_address) continue;
        if (addresses.size() == MOST_SITES) { /* later ones have no number, and share a place */
            static Site other;
            other = {return_address, 0, NULL, 0};
            return &other;
        }
        *s = {return_address, (unsigned)addresses.size(), NULL, 0};
        addresses.push_back(return_address);
        return s;
    }
}

const void *site_address(unsigned number) { return addresses[number]; }

/* ---- an access ---- */

extern "C" char __executable_start, end; /* the program's own constants and variables lie between */

static Area *area_of(Block *b, uintptr_t p, Site *site) {
    if (site->area && site->generation == area_generation && p - site->area->begin < site->area->bytes)
        return site->area;
    Area *area = p - (uintptr_t)b->shared < SHARED_SPACE ? shared_find(b, p) : memory_find(p);
    site->area = area;
    site->generation = area_generation;
    return area;
}

/* What is not the device's memory: the launch's arguments, and constants of the program. */
static bool is_readable(Block *b, uintptr_t p) {
    return p - (uintptr_t)b->launch->arguments < b->launch->argument_bytes ||
           (p >= (uintptr_t)&__executable_start && p < (uintptr_t)&end);
}

static void tell(Block *b, Area *area, size_t offset, size_t bytes, bool written) {
    size_t final = offset + bytes - 1;
    for (size_t i = offset / 256; i <= final / 256; i++) {
        ToldPiece *piece = &area->told[written][i];
        if (piece->launch != b->launch_number) {
            *piece = {b->launch_number, 0};
            emulator_touched((char *)area->begin + i * 256, written);
        }
        size_t first = i * 256 < offset ? (offset - i * 256) / 4 : 0,
               last = std::min<size_t>(final - i * 256, 255) / 4;
        piece->words |= ~(uint64_t)0 >> (63 - last) & ~(uint64_t)0 << first;
    }
}

uint64_t emulator_touched_words(const void *piece, bool written) {
    Area *area = memory_find((uintptr_t)piece);
    return area ? area->told[written][((uintptr_t)piece - area->begin) / 256].words : 0;
}

static const char *const verb[] = {"reads", "writes", "changes"};

[[noreturn]] static void outside(Block *b, uintptr_t p, size_t bytes, AccessKind kind, const Site *site,
                                 const Area *area) {
    std::string where = "which is no memory of the device's";
    if (!area && p - (uintptr_t)b->shared < SHARED_SPACE) {
        for (auto &a : b->arrays)
            if (a->area.begin <= p) area = &a->area;
        where = "in shared memory, but in no array";
    }
    if (!area) area = memory_near(p);
    if (area)
        where = "byte " + std::to_string((int64_t)(p - area->begin)) + " of " +
                (area->shared ? "shared '" : "'") + area->name + "', which has " +
                std::to_string(area->bytes);
    finding("look at the last index, and at the mask of the last block",
            "thread %s %s %zu bytes outside of memory%s: %s", thread_text(b, b->current).c_str(), verb[kind],
            bytes, place_text(site->return_address).c_str(), where.c_str());
}

void access_seen(Block *b, void *address, size_t bytes, AccessKind kind, const void *return_address) {
    uintptr_t p = (uintptr_t)address;
    if (!bytes || p - (uintptr_t)b->stacks.begin < b->stacks.bytes) return;
    Site *site = site_of(return_address);
    Area *area = area_of(b, p, site);
    if (!area) {
        if (kind == READ && is_readable(b, p)) return;
        outside(b, p, bytes, kind, site, NULL);
    }
    size_t offset = p - area->begin;
    if (bytes > area->bytes - offset) outside(b, p, bytes, kind, site, area);
    area_access(b, area, offset, bytes, kind, site);
    if (!area->shared) {
        if (kind != WRITE) tell(b, area, offset, bytes, false);
        if (kind != READ) tell(b, area, offset, bytes, true);
    }
    if (kind != ATOMIC_ACCESS)
        log_access(&warp_of(b, b->current)->log, site, b->current % 32, p, bytes, area->shared);
}

static inline void seen(void *p, size_t bytes, AccessKind kind, const void *return_address) {
    Block *b = emulator_watched;
    if (b) access_seen(b, p, bytes, kind, return_address);
}

extern "C" {
#define ACCESSES(n)                                                                                          \
    void __tsan_read##n(void *p) { seen(p, n, READ, __builtin_return_address(0)); }                          \
    void __tsan_write##n(void *p) { seen(p, n, WRITE, __builtin_return_address(0)); }                        \
    void __tsan_unaligned_read##n(void *p) { seen(p, n, READ, __builtin_return_address(0)); }                \
    void __tsan_unaligned_write##n(void *p) { seen(p, n, WRITE, __builtin_return_address(0)); }              \
    void __tsan_read_write##n(void *p) {                                                                     \
        seen(p, n, READ, __builtin_return_address(0));                                                       \
        seen(p, n, WRITE, __builtin_return_address(0));                                                      \
    }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void *p, size_t n) { seen(p, n, READ, __builtin_return_address(0)); }
void __tsan_write_range(void *p, size_t n) { seen(p, n, WRITE, __builtin_return_address(0)); }
void *__tsan_memcpy(void *to, const void *from, size_t n) {
    seen((void *)from, n, READ, __builtin_return_address(0));
    seen(to, n, WRITE, __builtin_return_address(0));
    return memcpy(to, from, n);
}
void *__tsan_memset(void *to, int value, size_t n) {
    seen(to, n, WRITE, __builtin_return_address(0));
    return memset(to, value, n);
}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_init(void) {}
}

/* ---- atomics: no instrumented code touches the memory itself ---- */

void emulator_atomic_begin(void *p, size_t bytes, void *old) {
    if (Block *b = emulator_watched) {
        access_seen(b, p, bytes, ATOMIC_ACCESS, __builtin_return_address(0));
        b->counts->atomics++;
    }
    memcpy(old, p, bytes);
}

bool emulator_atomic_try(void *p, size_t bytes, void *old, const void *wanted) {
    if (bytes == 4)
        return __atomic_compare_exchange((uint32_t *)p, (uint32_t *)old, (uint32_t *)wanted, false,
                                         __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return __atomic_compare_exchange((uint64_t *)p, (uint64_t *)old, (uint64_t *)wanted, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
