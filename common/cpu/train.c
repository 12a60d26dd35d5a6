/* Losses and optimizers on CPUs. */
#include "common/cpu/kernels_cpu.h"

#include <math.h>

/* ---- losses ---- */

void cpu_softmax_cross_entropy(Queue *q, Tensor *logits, const Tensor *targets, int64_t first_row,
                               Tensor *row_loss, Tensor *loss) {
    int64_t R = tensor_rows(logits), V = tensor_columns(logits);
    const int32_t *target = cpu_ints(targets) + first_row;
    PARALLEL(q, R * V > WORTH)
    for (int64_t r = 0; r < R; r++) {
        real *z = cpu_reals(logits) + r * V;
        if (target[r] < 0) { /* masked */
            memset(z, 0, (size_t)V * sizeof(real));
            cpu_reals(row_loss)[r] = 0;
            continue;
        }
        real at_target = z[target[r]];
        SoftmaxRow row = softmax_row(z, V);
        z[target[r]] -= 1;
        cpu_reals(row_loss)[r] = row.log_sum - (at_target - row.top);
    }
    for (int64_t r = 0; r < R; r++) *(double *)cpu_data(loss) += cpu_reals(row_loss)[r];
}

void cpu_squared_error(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss) {
    (void)q;
    const real *Y = cpu_reals(y), *wanted = cpu_reals(target);
    real *DY = cpu_reals(dy);
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(y); i++) {
        real difference = Y[i] - wanted[i];
        DY[i] = 2 * difference;
        sum += (double)difference * difference;
    }
    *(double *)cpu_data(loss) += sum;
}

/* ---- the numbers of a step ---- */

static double *number(const Tensor *t) { return cpu_data(t); }

void cpu_reciprocal(Queue *q, const Tensor *x, Tensor *y) {
    (void)q;
    *cpu_reals(y) = (real)(1.0 / *number(x));
}

void cpu_add_means(Queue *q, const Tensor *sums, const Tensor *count, Tensor *total) {
    (void)q;
    for (int64_t i = 0; i < tensor_count(sums); i++) *number(total) += number(sums)[i] / *number(count);
}

void cpu_sum(Queue *q, const Tensor *x, Tensor *total) {
    (void)q;
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(x); i++) sum += number(x)[i];
    *number(total) = sum;
}

void cpu_clip(Queue *q, const Tensor *squares, const Tensor *loss, double limit, Tensor *norm, Tensor *clip) {
    (void)q;
    double length = sqrt(*number(squares));
    bool finite = isfinite(length) && isfinite(*number(loss)) && isfinite(*number(clip));
    *number(norm) = length;
    *number(clip) = finite ? clip_factor(length, limit) : NAN;
}

/* ---- optimizers ---- */

void cpu_squares(Queue *q, const Tensor *x, Tensor *partials) {
    enum { BLOCK = SQUARES_BLOCK };
    double *sums = cpu_data(partials);
    int64_t count = tensor_count(x);
    const real *X = cpu_reals(x);
    PARALLEL(q, count > WORTH)
    for (int64_t block = 0; block < ceil_div(count, BLOCK); block++) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = block * BLOCK; i < min64(count, (block + 1) * BLOCK); i++)
            sum += (double)X[i] * X[i];
        sums[block] = sum;
    }
}

void cpu_adamw(Queue *q, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, const Tensor *clip_by,
               const AdamwStep *step) {
    double factor = clip_by ? *number(clip_by) : 1;
    if (!isfinite(factor)) return;
    real *W = cpu_reals(w), *M = cpu_reals(m), *V = cpu_reals(v);
    const real *G = cpu_reals(g);
    real beta1 = (real)step->beta1, beta2 = (real)step->beta2, eps = (real)step->eps, clip = (real)factor;
    real rest1 = (real)(1 - step->beta1), rest2 = (real)(1 - step->beta2);
    real correct1 = (real)(step->lr / (1 - pow(step->beta1, (double)step->step)));
    real correct2 = (real)(1 / (1 - pow(step->beta2, (double)step->step)));
    real shrink = (real)(1 - step->lr * step->decay);
    PARALLEL(q, tensor_count(w) > WORTH)
    for (int64_t block = 0; block < ceil_div(tensor_count(w), WORTH); block++) {
#pragma omp simd
        for (int64_t i = block * WORTH; i < min64(tensor_count(w), (block + 1) * WORTH); i++) {
            real grad = G[i] * clip;
            M[i] = beta1 * M[i] + rest1 * grad;
            V[i] = beta2 * V[i] + rest2 * grad * grad;
            W[i] = shrink * W[i] - correct1 * M[i] / ((real)__builtin_sqrt(V[i] * correct2) + eps);
        }
    }
}

void cpu_sgd(Queue *q, Tensor *w, const Tensor *g, Tensor *v, const Tensor *clip_by, double lr,
             double momentum) {
    double factor = clip_by ? *number(clip_by) : 1;
    if (!isfinite(factor)) return;
    real *W = cpu_reals(w), *V = cpu_reals(v);
    const real *G = cpu_reals(g);
    PARALLEL(q, tensor_count(w) > WORTH)
    for (int64_t i = 0; i < tensor_count(w); i++) {
        V[i] = (real)momentum * V[i] + G[i] * (real)factor;
        W[i] -= (real)lr * V[i];
    }
}
