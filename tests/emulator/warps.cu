#include "tests/emulator/cases.h"

/* The upper lanes leave; the mask names one of them. */
template <bool broken> __global__ void half_kernel(float *y) {
    unsigned mask = broken ? 0x1ffffu : 0xffffu;
    if (threadIdx.x >= 16) return;
    float x = (float)threadIdx.x;
    for (int offset = 8; offset > 0; offset /= 2) x += __shfl_xor_sync(mask, x, offset);
    y[threadIdx.x] = x;
}
CASE(half) { LAUNCH_CASE(half_kernel, 1, 32, unwritten<float>(16)); }

/* The last lane is not in its mask. */
template <bool broken> __global__ void without_kernel(int *y) {
    y[threadIdx.x] = __any_sync(broken ? 0x7fffffffu : 0xffffffffu, threadIdx.x == 3);
}
CASE(without) { LAUNCH_CASE(without_kernel, 1, 32, unwritten<int>(32)); }

/* A value of a lane that is not in the mask. */
template <bool broken> __global__ void source_kernel(float *y) {
    if (threadIdx.x >= 16) return;
    y[threadIdx.x] = __shfl_sync(0xffffu, (float)threadIdx.x, broken ? 16 : 15);
}
CASE(source) { LAUNCH_CASE(source_kernel, 1, 32, unwritten<float>(16)); }

/* Half of the warp waits for a shuffle, the other half for the block. */
template <bool broken> __global__ void apart_kernel(float *y) {
    float x = 1;
    if (!broken || threadIdx.x < 16) x += __shfl_down_sync(0xffffffffu, x, 1);
    __syncthreads();
    y[threadIdx.x] = x;
}
CASE(apart) { LAUNCH_CASE(apart_kernel, 1, 32, unwritten<float>(32)); }

/* Lanes exchange by shared memory; a shuffle does not order memory, __syncwarp does. */
template <bool broken> __global__ void exchange_kernel(float *y) {
    SHARED(float, tile, [64]);
    int i = (int)threadIdx.x;
    tile[i] = (float)i;
    if (broken)
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    else
        __syncwarp();
    y[i] = tile[i ^ 1]; /* LINE exchange */
}
CASE(exchange) { LAUNCH_CASE(exchange_kernel, 1, 64, unwritten<float>(64)); }

/* __syncwarp orders lanes of a warp, not warps. */
template <bool broken> __global__ void across_kernel(float *y) {
    SHARED(float, tile, [64]);
    int i = (int)threadIdx.x;
    tile[i] = (float)i;
    if (broken)
        __syncwarp();
    else
        __syncthreads();
    y[i] = tile[i ^ 32]; /* LINE across */
}
CASE(across) { LAUNCH_CASE(across_kernel, 1, 64, unwritten<float>(64)); }

/* Quarters of a warp meet, and then halves: each lane knows what its half did. */
template <bool broken> __global__ void quarters_kernel(float *y) {
    SHARED(float, tile, [32]);
    int i = (int)threadIdx.x;
    unsigned quarter = 0xffu << i / 8 * 8, half = 0xffffu << i / 16 * 16;
    tile[i] = (float)i;
    __syncwarp(quarter);
    if (!broken) __syncwarp(half);
    y[i] = tile[i ^ 8]; /* LINE quarters */
}
CASE(quarters) { LAUNCH_CASE(quarters_kernel, 1, 32, unwritten<float>(32)); }

/* A block that is no multiple of a warp. */
template <bool broken> __global__ void ragged_kernel(int *y) {
    unsigned votes = __ballot_sync(0xffffffffu, 1);
    y[threadIdx.x] = (int)votes;
    if (broken && threadIdx.x >= 32) __shfl_down_sync(0xffffffffu, 1.0f, 4);
}
CASE(ragged) { LAUNCH_CASE(ragged_kernel, 1, 40, unwritten<int>(40)); }
