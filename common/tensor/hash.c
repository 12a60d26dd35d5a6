#include "common/tensor/tensor.h"

#include <xxhash.h>

uint64_t tensor_hash(const Tensor *t, uint64_t seed) {
    enum { PIECE = 1 << 13 };
    double piece[PIECE]; /* wide enough for any type */
    XXH64_state_t *state = XXH64_createState();
    ASSERT(state);
    XXH64_reset(state, seed);
    for (int64_t first = 0, count; (count = min64(PIECE, tensor_count(t) - first)) > 0; first += count) {
        tensor_read(t, first, count, piece);
        XXH64_update(state, piece, (size_t)(count * element_bytes(t->type)));
    }
    uint64_t hash = XXH64_digest(state);
    XXH64_freeState(state);
    return hash;
}
