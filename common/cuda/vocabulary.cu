/* Softmax and cross-entropy where each device has some columns of the logits, in three pieces (tensor/kernels.h). A block has
 * a row; a row without columns is one as well. */
#include "common/cuda/row_losses.h"

template <class T>
__global__ void row_max_kernel(const T *logits, int64_t width, int64_t columns, real *top) {
    SHARED(real, scratch, [THREADS / WARP]);
    const T *z = logits + blockIdx.x * width;
    real most = (real)-INFINITY;
    for (int64_t j = threadIdx.x; j < columns; j += blockDim.x) {
        real x = wide(z[j]);
        most = x > most ? x : most;
    }
    most = block_max(most, (real)-INFINITY, scratch);
    if (threadIdx.x == 0) top[blockIdx.x] = most;
}

extern "C" void cuda_row_max(Queue *q, const Tensor *logits, int64_t columns, Tensor *top) {
    int64_t rows = tensor_rows(logits);
    if (!rows) return;
    BY_TYPE(logits->type, T,
            LAUNCH(row_max_kernel<T>, (unsigned)rows, THREADS, 0, q, data<T>(logits), tensor_columns(logits),
                   columns, data<real>(top)));
}

/* The column of the target, or -1: another device has it, or it is masked. */
__device__ static inline int64_t own_column(int64_t target, int64_t first_id, int64_t columns) {
    return target >= first_id && target < first_id + columns ? target - first_id : -1;
}

template <class T>
__global__ void exp_sums_kernel(T *logits, int64_t width, int64_t columns, const real *top,
                                const int32_t *targets, int64_t first_id, real *sums) {
    SHARED(real, scratch, [THREADS / WARP]);
    T *z = logits + blockIdx.x * width;
    real *row_sums = sums + 2 * (int64_t)blockIdx.x, row_top = top[blockIdx.x], sum = 0;
    int64_t column = own_column(targets[blockIdx.x], first_id, columns);
    if (threadIdx.x == 0 && column < 0) row_sums[1] = 0;
    for (int64_t j = threadIdx.x; j < columns; j += blockDim.x) {
        real x = wide(z[j]), e = exp(x - row_top);
        if (j == column) row_sums[1] = x;
        z[j] = narrow<T>(e);
        sum += e;
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) row_sums[0] = sum;
}

extern "C" void cuda_exp_sums(Queue *q, Tensor *logits, int64_t columns, const Tensor *top,
                              const Tensor *targets, int64_t first_row, int64_t first_id, Tensor *sums) {
    int64_t rows = tensor_rows(logits);
    if (!rows) return;
    BY_TYPE(logits->type, T,
            LAUNCH(exp_sums_kernel<T>, (unsigned)rows, THREADS, 0, q, data<T>(logits), tensor_columns(logits),
                   columns, data<real>(top), data<int32_t>(targets) + first_row, first_id, data<real>(sums)));
}

template <class T>
__global__ void split_gradient_kernel(T *logits, int64_t width, int64_t columns, const real *sums,
                                      const int32_t *targets, int64_t first_id) {
    T *z = logits + blockIdx.x * width;
    int64_t target = targets[blockIdx.x], column = own_column(target, first_id, columns);
    int64_t kept = target < 0 ? 0 : columns;
    real factor = 1 / sums[2 * (int64_t)blockIdx.x];
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x)
        z[j] = narrow<T>(j < kept ? wide(z[j]) * factor - (j == column ? 1 : 0) : 0);
}

__global__ void split_loss_kernel(const real *top, const real *sums, const int32_t *targets, int64_t rows,
                                  double *loss) {
    add_row_losses(
        [=](int64_t r) {
            return targets[r] < 0 ? 0 : (real)log((double)sums[2 * r]) - (sums[2 * r + 1] - top[r]);
        },
        rows, loss);
}

extern "C" void cuda_split_cross_entropy(Queue *q, Tensor *logits, int64_t columns, const Tensor *top,
                                         const Tensor *sums, const Tensor *targets, int64_t first_row,
                                         int64_t first_id, Tensor *loss) {
    int64_t rows = tensor_rows(logits);
    if (!rows) return;
    const int32_t *target = data<int32_t>(targets) + first_row;
    BY_TYPE(logits->type, T,
            LAUNCH(split_gradient_kernel<T>, (unsigned)rows, THREADS, 0, q, data<T>(logits),
                   tensor_columns(logits), columns, data<real>(sums), target, first_id));
    LAUNCH(split_loss_kernel, 1, THREADS, 0, q, data<real>(top), data<real>(sums), target, rows,
           data<double>(loss));
}
