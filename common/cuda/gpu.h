/* gpu: what every .cu file includes first, and all that tells a GPU from the emulator (emulator/emulator.h).
 *
 * A function of the table of kernels (tensor/kernels.h) stands right behind the kernels that it launches. Kernels are
 * templates over T, the element type of activations and weight matrices: real, or bf16 in builds whose real is float. They
 * compute in real; what is real whatever T is: vectors of parameters, statistics, losses, gradients of parameters.
 * README.md in this folder says how to write one. */
#ifndef GPU_H
#define GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

extern "C" {
#include "common/cuda/kernels_cuda.h"
#include "common/cuda/launched.h"
#include "common/tensor/kernels.h"
}

#ifdef __CUDACC__
/* Shared memory of a block: an array of this type and these dimensions, its elements not set. */
#    define SHARED(type, name, dimensions) __shared__ type name dimensions
/* Shared memory whose size the launch gives, from its beginning. */
#    define DYNAMIC_SHARED(type, name)                                                                       \
        extern __shared__ double gpu_dynamic[];                                                              \
        type *name = (type *)gpu_dynamic
/* Issues kernel<<<grid, block>>>(arguments) to the queue; a launch that is refused ends the program and names it. */
#    define LAUNCH(kernel, grid, block, dynamic_bytes, q, ...)                                               \
        do {                                                                                                 \
            cuda_launching(q);                                                                               \
            kernel<<<grid, block, dynamic_bytes, (cudaStream_t)(q)->stream>>>(__VA_ARGS__);                  \
            cuda_launched(q, #kernel, cudaGetLastError());                                                   \
        } while (0)
#else
#    include "common/cuda/emulator/emulator.h"
#endif

typedef __nv_bfloat16 bf16;

enum { WARP = 32, THREADS = 256 };

/* ---- element types ---- */

__device__ static inline real wide(real x) { return x; }
template <class T> __device__ static inline T narrow(real x);
template <> __device__ inline real narrow<real>(real x) { return x; }
#ifndef REAL_DOUBLE
__device__ static inline real wide(bf16 x) { return __bfloat162float(x); }
template <> __device__ inline bf16 narrow<bf16>(real x) { return __float2bfloat16(x); }
#endif

/* y (+)= value, rounded once. */
template <class T> __device__ static inline void put(T *y, real value, bool add) {
    *y = narrow<T>(add ? wide(*y) + value : value);
}

/* BY_TYPE(type, T, statement): the statement with T as that element type. */
#ifdef REAL_DOUBLE
#    define BY_TYPE(type, T, ...)                                                                            \
        do {                                                                                                 \
            typedef real T;                                                                                  \
            __VA_ARGS__;                                                                                     \
        } while (0)
#else
#    define BY_TYPE(type, T, ...)                                                                            \
        do {                                                                                                 \
            if ((type) == TYPE_BF16) {                                                                       \
                typedef bf16 T;                                                                              \
                __VA_ARGS__;                                                                                 \
            } else {                                                                                         \
                typedef real T;                                                                              \
                __VA_ARGS__;                                                                                 \
            }                                                                                                \
        } while (0)
#endif

template <class T> static inline T *data(Tensor *t) { return t ? (T *)t->data : NULL; }
template <class T> static inline const T *data(const Tensor *t) { return t ? (const T *)t->data : NULL; }

/* ---- grids ---- */

/* Of a launch whose blocks go around a loop, whatever the size. In the emulator so few that they do so in tests, too. */
#ifdef __CUDACC__
enum { MOST_BLOCKS = 1 << 16 };
#else
enum { MOST_BLOCKS = 32 };
#endif

/* Blocks of THREADS threads for a loop over `count` elements in which thread i takes elements i, i + all threads, ... */
static inline unsigned blocks_for(int64_t count) {
    return (unsigned)min64(ceil_div(count, THREADS), MOST_BLOCKS);
}
#define FOR_EACH(i, count)                                                                                   \
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < (count);                            \
         i += (int64_t)gridDim.x * blockDim.x)

/* One thread for each element: kernel<T>(arguments, count), T the element type `type`; nothing where there are none. */
#define LAUNCH_EACH(kernel, type, q, count, ...)                                                             \
    do {                                                                                                     \
        if ((count) > 0)                                                                                     \
            BY_TYPE(type, T, LAUNCH(kernel<T>, blocks_for(count), THREADS, 0, q, __VA_ARGS__, count));       \
    } while (0)

/* ---- sums and maxima over a block, in a fixed order; every thread gets the result ---- */

/* scratch: shared, one number for each warp. All threads of the block call it; a barrier stands at its end, so that the
 * scratch can be used again. */
template <class N> __device__ static inline N warp_sum(N x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
template <class N> __device__ static inline N warp_max(N x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        N other = __shfl_xor_sync(0xffffffffu, x, offset);
        x = other > x ? other : x;
    }
    return x;
}
template <class N> __device__ static inline N block_sum(N x, N *scratch) {
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    x = warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? scratch[lane] : (N)0);
    __syncthreads();
    return x;
}
template <class N> __device__ static inline N block_max(N x, N lowest, N *scratch) {
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    x = warp_max(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = warp_max(lane < warps ? scratch[lane] : lowest);
    __syncthreads();
    return x;
}

#endif
