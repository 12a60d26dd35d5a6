/* Which work touched which memory, and whether events stand between. */
#include "common/cuda/emulator/streams.h"

extern "C" {
#include "common/base/base.h"
}

#include <algorithm>
#include <tuple>

/* ---- one piece of work after another ---- */

static bool before(const Access &a, const Work *now) {
    return a.number == 0 ||
           ((size_t)a.stream < now->clock.size() && now->clock[(size_t)a.stream] >= a.number);
}

static void check(const Access &a, bool a_writes, cudaStream_t stream, const Work *now, bool writes,
                  const char *name, size_t begin, size_t end) {
    if (before(a, now)) return;
    fail(1, "order the queues: device_mark on the one, device_after on the other",
         "'%s' on stream %d %s bytes %zu to %zu of '%s', which '%s' on stream %d %s: no event stands between",
         now->what, stream->number, writes ? "writes" : "reads", begin, end - 1, name, a.what, a.stream,
         a_writes ? "writes" : "reads");
}

/* A piece begins at this offset, if one lies there. */
static void split(Touched *touched, size_t at) {
    auto next = touched->upper_bound(at);
    if (next == touched->begin()) return;
    auto piece = std::prev(next);
    if (piece->first == at || piece->second.end <= at) return;
    Piece second = piece->second;
    piece->second.end = at;
    touched->emplace(at, second);
}

static void add_reader(Piece *piece, const Access &reader) {
    for (Access &r : piece->readers)
        if (r.stream == reader.stream) {
            r = reader;
            return;
        }
    piece->readers.push_back(reader);
}

void order_touch(Touched *touched, const char *name, size_t begin, size_t end, bool writes) {
    cudaStream_t stream;
    const Work *now = work_running(&stream);
    ASSERT(now);
    if (!emulator_checks() || begin == end) return;
    Access me = {stream->number, now->number, now->what};
    split(touched, begin);
    split(touched, end);
    auto first = touched->lower_bound(begin), last = touched->lower_bound(end);
    for (auto i = first; i != last; ++i) {
        check(i->second.writer, true, stream, now, writes, name, i->first, i->second.end);
        if (writes)
            for (const Access &r : i->second.readers)
                check(r, false, stream, now, true, name, i->first, i->second.end);
    }
    if (writes) {
        touched->erase(first, last);
        touched->emplace(begin, Piece{end, me, {}});
        return;
    }
    size_t at = begin;
    for (auto i = first; i != last; ++i) {
        if (at < i->first) touched->emplace_hint(i, at, Piece{i->first, {0, 0, NULL}, {me}});
        add_reader(&i->second, me);
        at = i->second.end;
    }
    if (at < end) touched->emplace(at, Piece{end, {0, 0, NULL}, {me}});
}

/* ---- what a kernel touches ---- */

struct KernelPiece {
    uintptr_t begin;
    bool written;
    bool operator<(const KernelPiece &other) const {
        return std::tie(written, begin) < std::tie(other.written, other.begin);
    }
};
static std::vector<KernelPiece> *const pieces = new std::vector<KernelPiece>;

/* Called from a thread of a kernel, on its small stack: it is looked at later. */
void emulator_touched(void *piece, bool written) { pieces->push_back({(uintptr_t)piece, written}); }

/* Open addresses. Two blocks never touch each other: a page lies between. */
static void touch_range(uintptr_t begin, uintptr_t end, bool written) {
    MemoryBlock *block = begin < end ? block_at((void *)begin, true) : NULL;
    if (!block) return;
    uintptr_t of_block = (uintptr_t)emulator_open((void *)block->begin, "a kernel");
    end = std::min(end, of_block + block->bytes);
    order_touch(&block->touched, block->name.c_str(), begin - of_block, end - of_block, written);
}

void order_look_at_kernel(void) {
    if (pieces->empty()) return;
    std::sort(pieces->begin(), pieces->end());
    uintptr_t begin = 0, end = 0; /* a range that grows */
    bool written = false;
    for (const KernelPiece &p : *pieces) {
        uint64_t words = emulator_touched_words((void *)p.begin, p.written);
        for (int at = 0, first; at < 64; at++) {
            if (!(words >> at & 1)) continue;
            for (first = at; at < 64 && (words >> at & 1);) at++;
            if (p.begin + 4 * (uintptr_t)first != end || p.written != written) {
                touch_range(begin, end, written);
                begin = p.begin + 4 * (uintptr_t)first;
                written = p.written;
            }
            end = p.begin + 4 * (uintptr_t)at;
        }
    }
    touch_range(begin, end, written);
    pieces->clear();
}
