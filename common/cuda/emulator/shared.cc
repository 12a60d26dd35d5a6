/* Shared memory of a block: an array for each SHARED of its kernel, with gaps between, where accesses are mistakes. */
#include "common/cuda/emulator/inside.h"

extern "C" {
#include "common/base/base.h"
}

#include <string.h>
#include <sys/mman.h>

static const size_t GAP = 512; /* each array begins at the first bank */

static void *add_array(Block *b, const void *place, size_t bytes, const char *name) {
    if (b->shared_used + bytes + 2 * GAP > SHARED_SPACE)
        finding("make a kernel of fewer arrays", "too many arrays of shared memory");
    char *begin = b->shared + b->shared_used;
    b->shared_used += (bytes + 2 * GAP - 1) / GAP * GAP;
    b->arrays.emplace_back(new SharedArray{place, {}});
    Area *area = &b->arrays.back()->area;
    if (b->checks) {
        area_start(area, (uintptr_t)begin, bytes, name, true);
        memset(begin, 0xff, bytes);
    } else {
        area->begin = (uintptr_t)begin;
        area->bytes = bytes;
    }
    return begin;
}

void shared_launch(Block *b) {
    if (!b->shared) {
        void *p = mmap(NULL, SHARED_SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED, NULL, "no memory for the emulator's shared memory");
        b->shared = (char *)p;
    }
    for (auto &a : b->arrays)
        if (a->area.cells) area_end(&a->area);
    b->arrays.clear();
    area_generation += b->checks;
    b->shared_used = GAP;
    b->static_bytes = 0;
    if (b->launch->dynamic_bytes) add_array(b, NULL, b->launch->dynamic_bytes, "dynamic shared memory");
}

void shared_begin(Block *b) {
    if (!b->checks) return;
    for (auto &a : b->arrays) memset((void *)a->area.begin, 0xff, a->area.bytes);
}

Area *shared_find(Block *b, uintptr_t p) {
    for (auto &a : b->arrays)
        if (p - a->area.begin < a->area.bytes) return &a->area;
    return NULL;
}

void *emulator_shared(const void *place, size_t bytes, const char *name) {
    Block *b = emulator_block;
    for (auto &a : b->arrays)
        if (a->place == place) return (void *)a->area.begin;
    b->static_bytes += (bytes + 15) / 16 * 16;
    if (b->static_bytes + b->launch->dynamic_bytes > MOST_SHARED)
        finding("make tiles smaller", "%zu bytes of shared memory with '%s', of at most %zu",
                b->static_bytes + b->launch->dynamic_bytes, name, MOST_SHARED);
    return add_array(b, place, bytes, name);
}

void *emulator_dynamic(void) {
    Block *b = emulator_block;
    if (!b->launch->dynamic_bytes)
        finding("give LAUNCH the bytes", "dynamic shared memory is used, and the launch gives none");
    return (void *)b->arrays[0]->area.begin;
}
