/* Losses and optimizers on a GPU. */
#include "common/cuda/row_losses.h"

enum { LONE_THREADS = 1024 }; /* of a block that forms a sum alone, so that it has one order */

/* ---- losses ---- */

/* A block has a row: one look at it for the sum of exponentials, each thread relative to the largest that it has met so far
 * (Milakov & Gimelshein 2018), a second one for the gradient. Every thread begins with the target's logit. */
template <class In, class Out>
__global__ void softmax_loss_kernel(const In *logits, const int32_t *targets, int64_t V, Out *gradient,
                                    real *row_loss) {
    SHARED(real, scratch, [THREADS / WARP]);
    const In *z = logits + blockIdx.x * V;
    Out *dz = gradient ? gradient + blockIdx.x * V : NULL;
    int64_t target = targets[blockIdx.x];
    if (target < 0) { /* masked */
        for (int64_t j = threadIdx.x; dz && j < V; j += blockDim.x) dz[j] = narrow<Out>(0);
        if (threadIdx.x == 0) row_loss[blockIdx.x] = 0;
        return;
    }
    real at_target = wide(z[target]), top = at_target, sum = 0;
    for (int64_t j = threadIdx.x; j < V; j += blockDim.x) {
        real x = wide(z[j]);
        if (x > top) {
            sum *= exp(top - x);
            top = x;
        }
        sum += exp(x - top);
    }
    real row_top = block_max(top, at_target, scratch);
    sum = block_sum(sum * exp(top - row_top), scratch);
    if (threadIdx.x == 0) row_loss[blockIdx.x] = (real)log((double)sum) - (at_target - row_top);
    real factor = 1 / sum;
    for (int64_t j = threadIdx.x; dz && j < V; j += blockDim.x)
        dz[j] = narrow<Out>(exp(wide(z[j]) - row_top) * factor - (j == target ? 1 : 0));
}

__global__ void add_losses_kernel(const real *row_loss, int64_t rows, double *loss) {
    add_row_losses([=](int64_t r) { return row_loss[r]; }, rows, loss);
}

extern "C" void cuda_softmax_loss(Queue *q, const Tensor *logits, const Tensor *targets, int64_t first_row,
                                  Tensor *gradient, Tensor *row_loss, Tensor *loss) {
    int64_t rows = tensor_rows(logits), V = tensor_columns(logits);
    if (!rows) return;
    const int32_t *target = data<int32_t>(targets) + first_row;
    BY_TYPE(logits->type, In,
            BY_TYPE(gradient ? gradient->type : logits->type, Out,
                    LAUNCH((softmax_loss_kernel<In, Out>), (unsigned)rows, THREADS, 0, q, data<In>(logits),
                           target, V, data<Out>(gradient), data<real>(row_loss))));
    LAUNCH(add_losses_kernel, 1, THREADS, 0, q, data<real>(row_loss), rows, data<double>(loss));
}

extern "C" void cuda_softmax_cross_entropy(Queue *q, Tensor *logits, const Tensor *targets, int64_t first_row,
                                           Tensor *row_loss, Tensor *loss) {
    cuda_softmax_loss(q, logits, targets, first_row, logits, row_loss, loss);
}

/* One block: the loss of small models. */
template <class T>
__global__ void squared_error_kernel(const T *y, const T *target, T *dy, int64_t count, double *loss) {
    SHARED(double, scratch, [LONE_THREADS / WARP]);
    double sum = 0;
    FOR_EACH(i, count) {
        real difference = wide(y[i]) - wide(target[i]);
        dy[i] = narrow<T>(2 * difference);
        sum += (double)difference * difference;
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *loss += sum;
}

extern "C" void cuda_squared_error(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy,
                                   Tensor *loss) {
    int64_t count = tensor_count(y);
    if (!count) return;
    BY_TYPE(y->type, T,
            LAUNCH(squared_error_kernel<T>, 1, LONE_THREADS, 0, q, data<T>(y), data<T>(target), data<T>(dy),
                   count, data<double>(loss)));
}

/* ---- the numbers of a step: one block each ---- */

__global__ void reciprocal_kernel(const double *x, real *y) { *y = (real)(1.0 / *x); }

extern "C" void cuda_reciprocal(Queue *q, const Tensor *x, Tensor *y) {
    LAUNCH(reciprocal_kernel, 1, 1, 0, q, data<double>(x), data<real>(y));
}

__global__ void add_means_kernel(const double *sums, int64_t n, const double *count, double *total) {
    double mean = *total;
    for (int64_t i = 0; i < n; i++) mean += sums[i] / *count;
    *total = mean;
}

extern "C" void cuda_add_means(Queue *q, const Tensor *sums, const Tensor *count, Tensor *total) {
    LAUNCH(add_means_kernel, 1, 1, 0, q, data<double>(sums), tensor_count(sums), data<double>(count),
           data<double>(total));
}

__global__ void sum_kernel(const double *x, int64_t n, double *total) {
    SHARED(double, scratch, [LONE_THREADS / WARP]);
    double sum = 0;
    FOR_EACH(i, n) sum += x[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *total = sum;
}

extern "C" void cuda_sum(Queue *q, const Tensor *x, Tensor *total) {
    LAUNCH(sum_kernel, 1, LONE_THREADS, 0, q, data<double>(x), tensor_count(x), data<double>(total));
}

__global__ void clip_kernel(const double *squares, const double *loss, double limit, double *norm,
                            double *clip) {
    double length = sqrt(*squares),
           factor = limit > 0 && length > limit ? limit / length : 1; /* clip_factor */
    *norm = length;
    *clip = isfinite(length) && isfinite(*loss) && isfinite(*clip) ? factor : (double)NAN;
}

extern "C" void cuda_clip(Queue *q, const Tensor *squares, const Tensor *loss, double limit, Tensor *norm,
                          Tensor *clip) {
    LAUNCH(clip_kernel, 1, 1, 0, q, data<double>(squares), data<double>(loss), limit, data<double>(norm),
           data<double>(clip));
}

/* ---- optimizers ---- */

__global__ void squares_kernel(const real *x, int64_t count, double *partials) {
    SHARED(double, scratch, [THREADS / WARP]);
    int64_t begin = blockIdx.x * (int64_t)SQUARES_BLOCK;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < count && i < begin + SQUARES_BLOCK; i += blockDim.x)
        sum += (double)x[i] * x[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

extern "C" void cuda_squares(Queue *q, const Tensor *x, Tensor *partials) {
    int64_t count = tensor_count(x);
    if (!count) return;
    LAUNCH(squares_kernel, (unsigned)ceil_div(count, SQUARES_BLOCK), THREADS, 0, q, data<real>(x), count,
           data<double>(partials));
}

__global__ void adamw_kernel(real *w, const real *g, real *m, real *v, int64_t count, const double *clip,
                             real beta1, real beta2, real rest1, real rest2, real correct1, real correct2,
                             real eps, real shrink) {
    double factor = clip ? *clip : 1;
    if (!isfinite(factor)) return;
    FOR_EACH(i, count) {
        real grad = g[i] * (real)factor;
        real mean = beta1 * m[i] + rest1 * grad, square = beta2 * v[i] + rest2 * grad * grad;
        m[i] = mean;
        v[i] = square;
        w[i] = shrink * w[i] - correct1 * mean / (sqrt(square * correct2) + eps);
    }
}

extern "C" void cuda_adamw(Queue *q, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, const Tensor *clip,
                           const AdamwStep *step) {
    int64_t count = tensor_count(w);
    if (!count) return;
    double correct1 = step->lr / (1 - pow(step->beta1, (double)step->step));
    double correct2 = 1 / (1 - pow(step->beta2, (double)step->step));
    LAUNCH(adamw_kernel, blocks_for(count), THREADS, 0, q, data<real>(w), data<real>(g), data<real>(m),
           data<real>(v), count, data<double>(clip), (real)step->beta1, (real)step->beta2,
           (real)(1 - step->beta1), (real)(1 - step->beta2), (real)correct1, (real)correct2, (real)step->eps,
           (real)(1 - step->lr * step->decay));
}

__global__ void sgd_kernel(real *w, const real *g, real *v, int64_t count, const double *clip, real lr,
                           real momentum) {
    double factor = clip ? *clip : 1;
    if (!isfinite(factor)) return;
    FOR_EACH(i, count) {
        real speed = momentum * v[i] + g[i] * (real)factor;
        v[i] = speed;
        w[i] -= lr * speed;
    }
}

extern "C" void cuda_sgd(Queue *q, Tensor *w, const Tensor *g, Tensor *v, const Tensor *clip, double lr,
                         double momentum) {
    int64_t count = tensor_count(w);
    if (!count) return;
    LAUNCH(sgd_kernel, blocks_for(count), THREADS, 0, q, data<real>(w), data<real>(g), data<real>(v), count,
           data<double>(clip), (real)lr, (real)momentum);
}
