#include "tests/emulator/cases.h"

/* One too many. */
template <bool broken> __global__ void past_kernel(float *y, int count) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (broken ? i <= count : i < count) y[i] = 1; /* LINE past */
}
CASE(past) { LAUNCH_CASE(past_kernel, 4, 32, unwritten<float>(100), 100); }

template <bool broken> __global__ void past_shared_kernel(float *y) {
    SHARED(float, tile, [32]);
    SHARED(float, other, [32]);
    int i = (int)threadIdx.x;
    tile[i] = other[i] = (float)i;
    __syncwarp();
    y[i] = tile[broken ? i + 1 : 31 - i] + other[0]; /* LINE past_shared */
}
CASE(past_shared) { LAUNCH_CASE(past_shared_kernel, 1, 32, unwritten<float>(32)); }

/* An element of the row before the first. */
template <bool broken> __global__ void shift_kernel(const float *x, float *y, int count) {
    int i = (int)threadIdx.x;
    y[i] = x[broken ? i - 1 : i % count]; /* LINE shift */
}
CASE(shift) { LAUNCH_CASE(shift_kernel, 1, 32, zeros<float>(q, 32), unwritten<float>(32), 32); }

/* An index that was taken for one of another array. */
template <bool broken> __global__ void far_kernel(const float *x, float *y) {
    y[threadIdx.x] = x[broken ? (int64_t)1 << 42 : 0]; /* LINE far */
}
CASE(far) { LAUNCH_CASE(far_kernel, 1, 32, zeros<float>(q, 32), unwritten<float>(32)); }

/* Memory that holds what was there before: of the half of an array, a word of a shared one, half of a bf16. */
template <bool broken> __global__ void unwritten_kernel(const float *x, float *y) {
    y[threadIdx.x] = x[threadIdx.x]; /* LINE unwritten */
}
CASE(unwritten) {
    float *x = unwritten<float>(33);
    CUDA((int)cudaMemsetAsync(x, 0, (broken ? 31 : 32) * sizeof *x, (cudaStream_t)q->stream));
    LAUNCH_CASE(unwritten_kernel, 1, 32, x, unwritten<float>(32));
}

template <bool broken> __global__ void unwritten_shared_kernel(float *y) {
    SHARED(float, sums, [WARP]);
    if (threadIdx.x < (broken ? 31 : 32)) sums[threadIdx.x] = 1;
    __syncthreads();
    y[blockIdx.x * 32 + threadIdx.x] = sums[threadIdx.x]; /* LINE unwritten_shared */
}
CASE(unwritten_shared) { LAUNCH_CASE(unwritten_shared_kernel, 3, 32, unwritten<float>(32 * 3)); }

/* Shared memory does not outlive a block. */
template <bool broken> __global__ void outlive_kernel(float *y) {
    DYNAMIC_SHARED(float, tile);
    if (!broken || blockIdx.x == 0) tile[threadIdx.x] = 1;
    y[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x]; /* LINE outlive */
}
CASE(outlive) {
    float *y = unwritten<float>(64);
    if (broken)
        LAUNCH(outlive_kernel<true>, 2, 32, 128, q, y);
    else
        LAUNCH(outlive_kernel<false>, 2, 32, 128, q, y);
}

/* Halves of a word: each thread its own, or the neighbour's as well. */
template <bool broken> __global__ void halves_kernel(bf16 *y) {
    int i = (int)threadIdx.x;
    y[i] = __float2bfloat16(1); /* LINE halves */
    if (broken) y[i ^ 1] = y[i];
}
CASE(halves) { LAUNCH_CASE(halves_kernel, 1, 32, unwritten<bf16>(32)); }
