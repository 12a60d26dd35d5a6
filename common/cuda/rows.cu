/* Norms, which treat each row by itself, and sums over rows. A row belongs to a block, a sum over rows to a block as well:
 * no sum is cut by who comes first, so that the same input gives the same bits. */
#include "common/cuda/gpu.h"

/* ---- norms: layer norm is centred, rms norm is not, and its mean counts as 0 ---- */

/* Threads for a row of C elements: whole warps, about four elements a thread. */
static unsigned row_threads(int64_t C) {
    return (unsigned)(min64(ceil_div(C, 4 * WARP), THREADS / WARP) * WARP);
}
static unsigned row_blocks(int64_t R) { return (unsigned)min64(R, MOST_BLOCKS); }

template <class T>
__global__ void norm_kernel(const T *x, const real *gain, const real *bias, real eps, bool centred, T *y,
                            real *stats, int64_t R, int64_t C) {
    SHARED(real, scratch, [WARP]);
    for (int64_t r = blockIdx.x; r < R; r += gridDim.x) {
        const T *from = x + r * C;
        T *to = y + r * C;
        real mean = 0, squares = 0;
        if (centred) {
            for (int64_t c = threadIdx.x; c < C; c += blockDim.x) mean += wide(from[c]);
            mean = block_sum(mean, scratch) / (real)C;
        }
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            real distance = wide(from[c]) - mean;
            squares += distance * distance;
        }
        real inverse = 1 / sqrt(block_sum(squares, scratch) / (real)C + eps);
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
            to[c] = narrow<T>((wide(from[c]) - mean) * inverse * gain[c] + (bias ? bias[c] : 0));
        if (threadIdx.x == 0) {
            stats[2 * r] = mean;
            stats[2 * r + 1] = inverse;
        }
    }
}

static void norm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps, bool centred,
                 Tensor *y, Tensor *stats) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    if (!tensor_count(x)) return;
    BY_TYPE(x->type, T,
            LAUNCH(norm_kernel<T>, row_blocks(R), row_threads(C), 0, q, data<T>(x), data<real>(gain),
                   data<real>(bias), (real)eps, centred, data<T>(y), data<real>(stats), R, C));
}

extern "C" void cuda_layernorm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps,
                               Tensor *y, Tensor *stats) {
    norm(q, x, gain, bias, eps, true, y, stats);
}

extern "C" void cuda_rmsnorm(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y,
                             Tensor *stats) {
    norm(q, x, gain, NULL, eps, false, y, stats);
}

/* With g = dy * gain and x_hat = (x - mean) / deviation: dx (+)= (g - mean(g) - x_hat mean(g x_hat)) / deviation;
 * without the mean, where it is not centred. */
template <class T>
__global__ void norm_backward_kernel(const T *dy, const T *x, const real *gain, const real *stats,
                                     bool centred, T *dx, bool add, int64_t R, int64_t C) {
    SHARED(real, scratch, [WARP]);
    for (int64_t r = blockIdx.x; r < R; r += gridDim.x) {
        const T *dy_row = dy + r * C, *x_row = x + r * C;
        T *to = dx + r * C;
        real mean = stats[2 * r], inverse = stats[2 * r + 1], mean_g = 0, dot = 0;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            real g = wide(dy_row[c]) * gain[c];
            mean_g += g;
            dot += g * (wide(x_row[c]) - mean);
        }
        mean_g = centred ? block_sum(mean_g, scratch) / (real)C : 0;
        real slope = block_sum(dot, scratch) * inverse * inverse / (real)C;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            real g = wide(dy_row[c]) * gain[c];
            put(to + c, (g - mean_g - (wide(x_row[c]) - mean) * slope) * inverse, add);
        }
    }
}

static void norm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                          const Tensor *stats, bool centred, Tensor *dx, bool add) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    if (!tensor_count(x)) return;
    BY_TYPE(x->type, T,
            LAUNCH(norm_backward_kernel<T>, row_blocks(R), row_threads(C), 0, q, data<T>(dy), data<T>(x),
                   data<real>(gain), data<real>(stats), centred, data<T>(dx), add, R, C));
}

extern "C" void cuda_layernorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                                        const Tensor *stats, Tensor *dx, bool add) {
    norm_backward(q, dy, x, gain, stats, true, dx, add);
}

extern "C" void cuda_rmsnorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                                      const Tensor *stats, Tensor *dx, bool add) {
    norm_backward(q, dy, x, gain, stats, false, dx, add);
}

/* ---- sums over rows ----
 *
 * A block sums some neighbouring columns, as many as are one sector of memory, 32 bytes: so narrow that there are blocks
 * enough, and so wide that nothing is read in vain. Its threads take every n-th row each (first stage), and what they have
 * is added up in shared memory in pairs (second stage). No scratch, and the order depends on the shape alone. */

enum { SECTOR = 32, MOST_THREADS = 1024 };

template <class T> struct Columns { /* of a block */
    static const int count = SECTOR / (int)sizeof(T);
};

/* Threads for R rows: a power of two, so that each sums about four rows where there are enough. */
static unsigned column_threads(int64_t R, int columns) {
    unsigned threads = WARP;
    while (threads < MOST_THREADS && threads * 4 < R * columns) threads *= 2;
    return threads;
}

/* The sum of all threads of this thread's column, for the first threads of the block; `columns` of them. All threads call
 * it; sums: shared, one for each thread. */
__device__ static inline real column_sum(real x, unsigned columns, real *sums) {
    sums[threadIdx.x] = x;
    for (unsigned half = blockDim.x / 2; half >= columns; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[threadIdx.x];
}

template <class T> __global__ void sum_rows_kernel(const T *x, real *y, bool add, int64_t R, int64_t N) {
    SHARED(real, sums, [MOST_THREADS]);
    const int columns = Columns<T>::count;
    int64_t column = blockIdx.x * (int64_t)columns + threadIdx.x % columns;
    real sum = 0;
    if (column < N)
        for (int64_t r = threadIdx.x / columns; r < R; r += blockDim.x / columns)
            sum += wide(x[r * N + column]);
    sum = column_sum(sum, columns, sums);
    if (threadIdx.x < columns && column < N) put(y + column, sum, add);
}

extern "C" void cuda_sum_rows(Queue *q, const Tensor *x, Tensor *y, bool add) {
    int64_t R = tensor_rows(x), N = tensor_columns(x);
    if (!N) return;
    BY_TYPE(x->type, T,
            LAUNCH(sum_rows_kernel<T>, (unsigned)ceil_div(N, Columns<T>::count),
                   column_threads(R, Columns<T>::count), 0, q, data<T>(x), data<real>(y), add, R, N));
}

template <class T>
__global__ void norm_backward_param_kernel(const T *dy, const T *x, const real *stats, real *dgain,
                                           real *dbias, int64_t R, int64_t C) {
    SHARED(real, gains, [MOST_THREADS]);
    SHARED(real, biases, [MOST_THREADS]);
    const int columns = Columns<T>::count;
    int64_t column = blockIdx.x * (int64_t)columns + threadIdx.x % columns;
    real gain = 0, bias = 0;
    if (column < C)
        for (int64_t r = threadIdx.x / columns; r < R; r += blockDim.x / columns) {
            real d = wide(dy[r * C + column]);
            gain += d * (wide(x[r * C + column]) - stats[2 * r]) * stats[2 * r + 1];
            bias += d;
        }
    gain = column_sum(gain, columns, gains);
    bias = column_sum(bias, columns, biases);
    if (threadIdx.x < columns && column < C) {
        dgain[column] = gain;
        if (dbias) dbias[column] = bias;
    }
}

extern "C" void cuda_norm_backward_param(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *stats,
                                         Tensor *dgain, Tensor *dbias) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    if (!C) return;
    BY_TYPE(x->type, T,
            LAUNCH(norm_backward_param_kernel<T>, (unsigned)ceil_div(C, Columns<T>::count),
                   column_threads(R, Columns<T>::count), 0, q, data<T>(dy), data<T>(x), data<real>(stats),
                   data<real>(dgain), data<real>(dbias), R, C));
}
