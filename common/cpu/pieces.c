/* Uneven pieces of work, shared among threads. */
#include "common/cpu/kernels_cpu.h"

#include <omp.h>
#include <stdlib.h>

Pieces pieces_new(int64_t count) { return (Pieces){count, xcalloc((size_t)count, sizeof(atomic_bool))}; }

void pieces_free(Pieces *pieces) { free(pieces->taken); }

int64_t pieces_take(Pieces *pieces, int64_t *turn) {
    int64_t first = pieces->count * omp_get_thread_num() / omp_get_num_threads();
    while (*turn < pieces->count) {
        int64_t piece = (first + (*turn)++) % pieces->count;
        if (!atomic_exchange_explicit(&pieces->taken[piece], true, memory_order_relaxed)) return piece;
    }
    return -1;
}
