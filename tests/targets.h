/* targets: ids for losses, the same on a CPU and on a GPU. */
#ifndef TARGETS_H
#define TARGETS_H

#include "tests/both.h"

/* So many ids, from `lowest` on and below `below`; a share of them, 0 to 1, is masked. */
static inline Both targets_new(int64_t count, int32_t lowest, int64_t below, double masked) {
    static uint64_t stream = 1000;
    Both targets = both_new("targets", TYPE_I32, SHAPE(count));
    int32_t *ids = xcalloc((size_t)max64(1, count), sizeof *ids);
    Rng rng = {5, ++stream, 0};
    for (int64_t i = 0; i < count; i++) {
        ids[i] = lowest + (int32_t)rng_below(&rng, (uint32_t)(below - lowest));
        if (rng_below(&rng, 1000) < 1000 * masked) ids[i] = -1;
    }
    both_write(&targets, ids);
    free(ids);
    return targets;
}

#endif
