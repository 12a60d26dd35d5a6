/* row_losses: the losses of rows, added in an order that is the CPU's too. For .cu files. */
#ifndef ROW_LOSSES_H
#define ROW_LOSSES_H

#include "common/cuda/gpu.h"

/* loss += of_row(0) + of_row(1) + .., one after the other in double. One block of THREADS: it forms so many at once, and
 * its first thread adds them up. */
template <class OfRow>
__device__ static inline void add_row_losses(OfRow of_row, int64_t rows, double *loss) {
    SHARED(double, formed, [THREADS]);
    double sum = *loss;
    for (int64_t first = 0; first < rows; first += THREADS) {
        int64_t row = first + threadIdx.x;
        if (row < rows) formed[threadIdx.x] = of_row(row);
        __syncthreads();
        for (int64_t i = 0; threadIdx.x == 0 && i < THREADS && first + i < rows; i++) sum += formed[i];
        __syncthreads();
    }
    if (threadIdx.x == 0) *loss = sum;
}

#endif
