#include "tests/emulator/cases.h"

/* Each thread writes an element, and reads another's. */
template <bool broken> __global__ void reverse_kernel(const float *x, float *y) {
    SHARED(float, tile, [64]);
    int i = (int)threadIdx.x;
    tile[i] = x[i]; /* LINE reverse: written */
    if (!broken) __syncthreads();
    y[blockIdx.x * 64 + i] = tile[63 - i]; /* LINE reverse: read */
}
CASE(reverse) { LAUNCH_CASE(reverse_kernel, 2, 64, zeros<float>(q, 64), unwritten<float>(128)); }

/* The tile is used again: what was read must be read before it is overwritten. */
template <bool broken> __global__ void reuse_kernel(const float *x, float *y) {
    SHARED(float, tile, [64]);
    int i = (int)threadIdx.x;
    float sum = 0;
    for (int round = 0; round < 3; round++) {
        tile[i] = x[i]; /* LINE reuse: written */
        __syncthreads();
        sum += tile[63 - i]; /* LINE reuse: read */
        if (!broken) __syncthreads();
    }
    y[i] = sum;
}
CASE(reuse) { LAUNCH_CASE(reuse_kernel, 1, 64, zeros<float>(q, 64), unwritten<float>(64)); }

/* A barrier in two branches. */
template <bool broken> __global__ void diverge_kernel(float *y) {
    if (broken && threadIdx.x >= 32) {
        y[threadIdx.x] = 1;
        __syncthreads(); /* LINE diverge: one */
    } else {
        y[threadIdx.x] = 2;
        __syncthreads(); /* LINE diverge: other */
    }
}
CASE(diverge) { LAUNCH_CASE(diverge_kernel, 1, 64, unwritten<float>(64)); }

/* Threads beyond the end leave before the barrier. */
template <bool broken> __global__ void leave_kernel(float *y, int count) {
    SHARED(float, tile, [64]);
    int i = (int)threadIdx.x;
    if (broken && i >= count) return;
    tile[i] = 1;
    __syncthreads(); /* LINE leave */
    if (i < count) y[i] = tile[(i + 1) % count];
}
CASE(leave) { LAUNCH_CASE(leave_kernel, 1, 64, unwritten<float>(50), 50); }

/* block_sum in a loop whose rounds differ among warps. */
template <bool broken> __global__ void rounds_kernel(float *y) {
    SHARED(float, scratch, [WARP]);
    int rounds = broken ? 1 + (int)threadIdx.x / WARP : 2;
    float sum = 0;
    for (int i = 0; i < rounds; i++) sum += block_sum(1.0f, scratch); /* LINE rounds */
    if (threadIdx.x == 0) y[0] = sum;
}
CASE(rounds) { LAUNCH_CASE(rounds_kernel, 1, 64, unwritten<float>(1)); }
