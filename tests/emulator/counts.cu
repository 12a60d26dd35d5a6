#include "tests/emulator/cases.h"

/* 32 x 64 numbers, neighbouring threads at neighbouring numbers, or a row apart. */
template <bool broken> __global__ void order_kernel(const float *x, float *y) {
    for (int i = 0; i < 64; i++) {
        int at = broken ? (int)threadIdx.x * 64 + i : i * 32 + (int)threadIdx.x;
        y[at] = x[at];
    }
}
CASE(order) { LAUNCH_CASE(order_kernel, 1, 32, zeros<float>(q, 32 * 64), unwritten<float>(32 * 64)); }

/* A transpose through shared memory, with rows that begin in the same bank or do not. */
template <bool broken, int pad> __global__ void transpose_kernel(const float *x, float *y) {
    SHARED(float, tile, [32][32 + pad]);
    int column = (int)threadIdx.x;
    for (int row = 0; row < 32; row++) tile[row][column] = x[row * 32 + column];
    __syncthreads();
    for (int row = 0; row < 32; row++) y[row * 32 + column] = tile[column][row];
}
CASE(transpose) {
    const float *x = zeros<float>(q, 32 * 32);
    float *y = unwritten<float>(32 * 32);
    if (broken)
        LAUNCH((transpose_kernel<true, 0>), 1, 32, 0, q, x, y);
    else
        LAUNCH((transpose_kernel<false, 1>), 1, 32, 0, q, x, y);
}

/* Doubles take two turns at best; one word for all takes one. */
template <bool broken> __global__ void doubles_kernel(double *y) {
    SHARED(double, tile, [64]);
    int i = (int)threadIdx.x;
    tile[i] = 1;
    tile[32 + i] = 1;
    __syncthreads();
    y[i] = tile[broken ? i * 2 : i] + tile[0];
}
CASE(doubles) { LAUNCH_CASE(doubles_kernel, 1, 32, unwritten<double>(32)); }
