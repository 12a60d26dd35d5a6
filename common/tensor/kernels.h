/* kernels: one visible table of functions per backend. Ops and chapters never ask which one they run on.
 *
 * Tensors are seen as rows x columns (the last axis is the columns). Every kernel states its shapes;
 * placements do not matter here: a kernel works on what its device holds. `add` means += into the output,
 * otherwise it is overwritten. Results do not depend on the number of threads: work is cut into fixed pieces,
 * and a sum runs in one fixed order. Forward and backward are neighbours.
 *
 * Types: activations (x, y, qkv, out and the like), their gradients, weights, and tables of words and positions are
 * TYPE_REAL, or all of a call are TYPE_BF16: widened, computed with as reals, rounded once. Reals in any case: biases,
 * gains, gradients of parameters, statistics, log-sum-exps, logits of a loss, the table of angles, scratch, and the s of
 * scale. What matmul and accumulate write may be of either type, whatever they read; A and B are of one. */
#ifndef KERNELS_H
#define KERNELS_H

#include "common/tensor/tensor.h"

/* Decoupled weight decay (Loshchilov & Hutter 2019): w -= lr (m_hat / (sqrt(v_hat) + eps) + decay w). */
typedef struct {
    double lr, beta1, beta2, eps, decay;
    int64_t step; /* 1 at the first update: the bias correction */
} AdamwStep;

enum { SQUARES_BLOCK = 1024 };

/* The factor that brings a gradient of this norm down to `limit` (Pascanu et al. 2013); limit 0: never clip. */
static inline double clip_factor(double norm, double limit) {
    return limit > 0 && norm > limit ? limit / norm : 1;
}

typedef struct Kernels {
    const char *name;

    /* ---- memory ---- */
    void (*zero)(Queue *q, Tensor *y);
    void (*copy)(Queue *q, const Tensor *x, Tensor *y); /* y = x, same count and type */
    /* y = x, same count, each in a type of its own: TYPE_REAL or TYPE_BF16 */
    void (*cast)(Queue *q, const Tensor *x, Tensor *y);
    void (*add)(Queue *q, const Tensor *a, const Tensor *b, Tensor *y); /* y = a + b */
    void (*accumulate)(Queue *q, const Tensor *x, Tensor *y);           /* y += x */
    /* along `axis`: y[y_first + i] (+)= x[x_first + i] for 0 <= i < count; the other axes of x and y are equal */
    void (*copy_slice)(Queue *q, const Tensor *x, int64_t x_first, Tensor *y, int64_t y_first, int axis,
                       int64_t count, bool add);
    /* y (+)= s x with the scalar s (1) on the device; x may be y */
    void (*scale)(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add);

    /* ---- matrix products ---- */
    /* C (M,N) (+)= op(A) op(B) [+ bias (N) on each row, may be NULL]; a_t: A is (K,M), b_t: B is (N,K) */
    void (*matmul)(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias,
                   Tensor *C, bool add);
    /* elements that it takes from C's device and gives back before it returns */
    int64_t (*matmul_scratch)(const Queue *q, int64_t M, int64_t N, int64_t K, bool b_t);
    /* y (M,N) = x (M,N) + row (N) */
    void (*add_row)(Queue *q, const Tensor *x, const Tensor *row, Tensor *y);
    /* y (N) (+)= the sum of the rows of x (M,N) */
    void (*sum_rows)(Queue *q, const Tensor *x, Tensor *y, bool add);

    /* ---- embedding ---- */
    /* y (R,C) = token (V,C)[ids (R) - first_id] + position (T,C)[first + r % T'], T' = columns of ids; position
     * may be NULL. An id that is not in the table (another device has its row) counts as a row of zeros. */
    void (*embedding)(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id,
                      const Tensor *position, int64_t first, Tensor *y);
    /* dtoken (V,C) += rows of dy by id, those of ids in the table; the position's gradient sums over the batch:
     * dposition[first + t], all of it overwritten */
    void (*embedding_backward)(Queue *q, const Tensor *ids, const Tensor *dy, int64_t first_id,
                               Tensor *dtoken);
    void (*position_backward)(Queue *q, const Tensor *dy, int64_t first, Tensor *dposition);

    /* ---- normalisation: y = gain * x_hat [+ bias], stats (R,2) = mean and 1/deviation of each row ---- */
    void (*layernorm)(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps,
                      Tensor *y, Tensor *stats);
    void (*layernorm_backward)(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                               const Tensor *stats, Tensor *dx, bool add);
    /* dgain (C), dbias (C) or NULL: overwritten; also serves rmsnorm, whose mean is stored as 0 */
    void (*norm_backward_param)(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *stats,
                                Tensor *dgain, Tensor *dbias);
    void (*rmsnorm)(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats);
    void (*rmsnorm_backward)(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                             const Tensor *stats, Tensor *dx, bool add);

    /* ---- activations ---- */
    void (*relu)(Queue *q, const Tensor *x, Tensor *y);
    void (*relu_backward)(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
    void (*gelu)(Queue *q, const Tensor *x, Tensor *y); /* the tanh form */
    void (*gelu_backward)(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
    /* x (R,2F) = [gate | up], y (R,F) = silu(gate) * up */
    void (*swiglu)(Queue *q, const Tensor *x, Tensor *y);
    void (*swiglu_backward)(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
    /* y (+)= x * mask / (1 - rate); element i of the mask is f(seed, stream, first + i): also its own backward.
     * window: entry b of the first axis, a slice of a window of so many elements, begins at first + b window
     * instead; 0: x is whole */
    void (*dropout)(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first,
                    int64_t window, Tensor *y, bool add);

    /* ---- attention; qkv (B,T,(H+2K)D) = [queries | keys | values], each key head serves H/K query heads
     * ---- */
    /* y = qkv with queries and keys rotated by their position first + t (halves, table (T,D) = [cos | sin]);
     * inverse: by the opposite angle, which is the backward */
    void (*rope)(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
                 bool inverse, Tensor *y);
    /* causal; out (B,T,H D), lse (B,T,H) = log-sum-exp of each row of scores; scratch as attention_scratch
     * says */
    void (*attention)(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                      Tensor *scratch);
    void (*attention_backward)(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                               const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch);
    /* elements, for B windows of T tokens (of attention_cached: the rows of the caches) and H query heads */
    int64_t (*attention_scratch)(const Queue *q, int64_t B, int64_t T, int64_t H, int64_t D);
    /* the T' tokens of qkv (1,T',..) stand at positions first ..: their keys and values go into the caches
     * (T,K D), then each attends to all up to itself */
    void (*attention_cached)(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys,
                             Tensor *values, Tensor *out, Tensor *scratch);

    /* ---- losses ---- */
    /* logits (R,V) become their gradient softmax - onehot (0 where the target is negative); loss (1) += the
     * sum of -log p(target) over the others, in double and in row order; row_loss (R) is scratch */
    void (*softmax_cross_entropy)(Queue *q, Tensor *logits, const Tensor *targets, int64_t first_row,
                                  Tensor *row_loss, Tensor *loss);
    /* The same where each device has some columns of the logits (R,V'): of this one's the first `columns` exist, the
     * others are padding, and column 0 belongs to the id first_id. Three pieces, with all-reduces between them
     * (Shoeybi et al. 2019, section 3); targets name ids of the whole vocabulary.
     *
     * top (R) = the largest of each row, -inf where no column exists: then its maximum over the devices */
    void (*row_max)(Queue *q, const Tensor *logits, int64_t columns, Tensor *top);
    /* logits become exp(logit - top); sums (R,2) = [their sum | the target's logit, 0 where it is another device's or
     * masked]: then their sum over the devices */
    void (*exp_sums)(Queue *q, Tensor *logits, int64_t columns, const Tensor *top, const Tensor *targets,
                     int64_t first_row, int64_t first_id, Tensor *sums);
    /* logits, as exp_sums left them, become this device's columns of softmax - onehot: 0 in padding, and where the
     * target is negative; loss (1) += the sum over the others of log(sum) + top - the target's logit, in double and in
     * row order, the same on each device */
    void (*split_cross_entropy)(Queue *q, Tensor *logits, int64_t columns, const Tensor *top,
                                const Tensor *sums, const Tensor *targets, int64_t first_row,
                                int64_t first_id, Tensor *loss);
    /* softmax_cross_entropy for logits x w^T [+ bias], x (R,C), w (V,C), bias (V) or NULL, without holding them
     * as a matrix of this layout: dx (R,C) is overwritten, dw and dbias (+)= theirs. dx NULL: the loss alone. */
    void (*head_loss)(Queue *q, const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *targets,
                      int64_t first_row, Tensor *dx, Tensor *dw, Tensor *dbias, bool add, Tensor *loss,
                      Tensor *scratch);
    int64_t (*head_loss_scratch)(const Queue *q, int64_t R, int64_t C, int64_t V, bool backward);
    /* loss (1) += the sum of (y - target)^2; dy = 2 (y - target) */
    void (*squared_error)(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss);

    /* ---- the numbers of a step: each (1), TYPE_F64 where nothing else is said ---- */
    /* y (TYPE_REAL) = 1 / x */
    void (*reciprocal)(Queue *q, const Tensor *x, Tensor *y);
    /* total += sums[0] / count + sums[1] / count + .., in this order; sums (n) */
    void (*add_means)(Queue *q, const Tensor *sums, const Tensor *count, Tensor *total);
    /* total = x[0] + x[1] + .., in one order; x (n), n may be 0 */
    void (*sum)(Queue *q, const Tensor *x, Tensor *total);
    /* norm = sqrt(squares); clip = the factor that brings a gradient of this norm down to `limit` (clip_factor). NaN where
     * the loss or the norm is not finite, and from then on: nothing more is updated, whoever looks how late. */
    void (*clip)(Queue *q, const Tensor *squares, const Tensor *loss, double limit, Tensor *norm,
                 Tensor *clip);

    /* ---- optimizer ---- */
    /* sums of squares over blocks of SQUARES_BLOCK elements: partials (ceil(count / SQUARES_BLOCK)), TYPE_F64 */
    void (*squares)(Queue *q, const Tensor *x, Tensor *partials);
    /* AdamW on one parameter; the gradient is multiplied by clip (1), TYPE_F64, first; NULL: by 1. Where clip is not finite,
     * w, m and v stay as they are. */
    void (*adamw)(Queue *q, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, const Tensor *clip,
                  const AdamwStep *step);
    /* v = momentum v + g clip; w -= lr v; clip as above */
    void (*sgd)(Queue *q, Tensor *w, const Tensor *g, Tensor *v, const Tensor *clip, double lr,
                double momentum);
} Kernels;

#endif
