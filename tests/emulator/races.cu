#include "tests/emulator/cases.h"

/* Neighbours in global memory, within a block. */
template <bool broken> __global__ void neighbour_kernel(float *x) {
    int i = (int)threadIdx.x;
    float next = x[(i + 1) % 64]; /* LINE neighbour: read */
    if (!broken) __syncthreads();
    x[i] = next; /* LINE neighbour: written */
}
CASE(neighbour) { LAUNCH_CASE(neighbour_kernel, 1, 64, zeros<float>(q, 64)); }

/* Two blocks write a word; the second launch may. */
template <bool broken> __global__ void blocks_kernel(float *y) {
    if (threadIdx.x == 0) y[broken ? 0 : blockIdx.x] = 1; /* LINE blocks */
}
CASE(blocks) {
    float *y = unwritten<float>(3);
    for (int i = 0; i < 2; i++) LAUNCH_CASE(blocks_kernel, 3, 32, y);
}

/* A block reads what another one of the grid writes. */
template <bool broken> __global__ void chain_kernel(float *y) {
    if (threadIdx.x == 0) y[blockIdx.x + 1] = broken ? y[blockIdx.x] : 1; /* LINE chain */
}
CASE(chain) { LAUNCH_CASE(chain_kernel, 3, 32, zeros<float>(q, 4)); }

/* Atomics do not race among themselves, but with what is none. */
template <bool broken> __global__ void histogram_kernel(int *total) {
    SHARED(int, bins, [4]);
    if (threadIdx.x < 4) bins[threadIdx.x] = 0;
    __syncthreads();
    atomicAdd(&bins[threadIdx.x % 4], 1);
    if (!broken) __syncthreads();
    if (threadIdx.x == 0) atomicAdd(total, bins[0] + bins[1] + bins[2] + bins[3]); /* LINE histogram */
}
CASE(histogram) { LAUNCH_CASE(histogram_kernel, 4, 64, zeros<int>(q, 1)); }

/* A sum that is no atomic in one of the blocks. */
template <bool broken> __global__ void total_kernel(float *total) {
    if (threadIdx.x > 0) return;
    if (broken && blockIdx.x == 1)
        *total += 1; /* LINE total */
    else
        atomicAdd(total, 1.0f);
}
CASE(total) { LAUNCH_CASE(total_kernel, 3, 32, zeros<float>(q, 1)); }

/* Many read, then one writes: a reader of the first warp, which meets, and one of the second, which does not. */
template <bool broken> __global__ void last_kernel(float *y) {
    SHARED(float, word, [1]);
    if (threadIdx.x == 0) word[0] = 1;
    __syncthreads();
    y[threadIdx.x] = word[0];
    if (broken)
        __syncwarp();
    else
        __syncthreads();
    if (threadIdx.x == 5) word[0] = 2; /* LINE last */
}
CASE(last) { LAUNCH_CASE(last_kernel, 1, 64, unwritten<float>(64)); }
