/* kernels_cpu: what the files of the CPU backend share. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include "common/base/closed_memory.h"
#include "common/tensor/kernels.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Where kernels find the elements of a tensor. */
static inline void *cpu_data(const Tensor *t) { return closed_memory_open(t->data); }
static inline real *cpu_reals(const Tensor *t) { return cpu_data(t); }
static inline int32_t *cpu_ints(const Tensor *t) { return cpu_data(t); }

/* A loop over independent pieces, on the queue's threads; `worth` false keeps short work on one thread. */
#define OMP_PRAGMA(text) _Pragma(#text)
#define PARALLEL(q, worth) OMP_PRAGMA(omp parallel for schedule(static) num_threads((q)->threads) if (worth))
enum { WORTH = 1 << 14 }; /* elements below which waking threads costs more than it gains */

/* Uneven or large pieces of work. Each thread takes its own stretch first, in order, so that from kernel to
 * kernel it meets its own rows in its own cache; then what slower threads have left:
 *     Pieces pieces = pieces_new(count);
 *     #pragma omp parallel
 *     for (int64_t turn = 0, piece; (piece = pieces_take(&pieces, &turn)) >= 0;) ...
 *     pieces_free(&pieces); */
typedef struct {
    int64_t count;
    atomic_bool *taken;
} Pieces;
Pieces pieces_new(int64_t count);
void pieces_free(Pieces *pieces);
int64_t pieces_take(Pieces *pieces, int64_t *turn); /* -1: none is left */

/* One piece of columns in sums over rows: each is summed by one thread, in row order. */
enum { COLUMN_BLOCK = 64 };

/* e^x in a form that compilers turn into few vector instructions: x = n ln 2 + r with |r| <= ln(2) / 2, then a
 * polynomial in r, and n added to its exponent. n is rounded by adding a number so large that the sum has no bits
 * behind the point: n then stands in its lowest bits, whence it is shifted into the exponent's place. Float: the
 * polynomial of degree 6 with the least relative error, 3e-9; in all within 1.5 units in the last place. Double: Taylor
 * to the 13th power. Below the smallest normal number it gives about that number, 1e-38. A NaN passes both bounds.
 * The bounds stand in cpu/rows.c: where gcc sees their values it works out what becomes of each of them, and
 * chooses at the end with three times as many instructions. */
extern const real exp_lowest, exp_highest;
#ifdef REAL_DOUBLE
static inline double exp_real(double x) {
    const double round = 0x1.8p52;
    x = exp_highest < x ? exp_highest : x;
    x = exp_lowest > x ? exp_lowest : x;
    double shifted = x * 1.4426950408889634 + round, n = shifted - round;
    double r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    uint64_t power, bits;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += power << 52;
    memcpy(&p, &bits, sizeof p);
    return p;
}
#else
static inline float exp_real(float x) {
    const float round = 0x1.8p23f;
    x = exp_highest < x ? exp_highest : x;
    x = exp_lowest > x ? exp_lowest : x;
    float shifted = x * 1.44269504f + round, n = shifted - round;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.3814540299e-3f;
    p = p * r + 8.3687452526e-3f;
    p = p * r + 4.1668390792e-2f;
    p = p * r + 1.6666520398e-1f;
    p = p * r + 4.9999993432e-1f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t power, bits;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += power << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}
#endif

/* The parts of a softmax, on s[0 .. count): the largest, -inf where there is none; exp(s[j] - top) in place, and the sum
 * of that; and s[j] *= factor. */
static inline real row_top(const real *s, int64_t count) {
    real top = count > 0 ? s[0] : (real)-INFINITY;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < count; j++) top = s[j] > top ? s[j] : top;
    return top;
}
static inline real row_exp(real *s, real top, int64_t count) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < count; j++) {
        s[j] = exp_real(s[j] - top);
        sum += s[j];
    }
    return sum;
}
static inline void row_scale(real *s, real factor, int64_t count) {
#pragma omp simd
    for (int64_t j = 0; j < count; j++) s[j] *= factor;
}

/* Softmax of s[0 .. count) in place: s[j] = exp(s[j] - top) / sum. The log-sum-exp of what was there is top + log_sum. */
typedef struct {
    real top, log_sum;
} SoftmaxRow;
static inline SoftmaxRow softmax_row(real *s, int64_t count) {
    real top = row_top(s, count), sum = row_exp(s, top, count);
    row_scale(s, 1 / sum, count);
    return (SoftmaxRow){top, (real)log((double)sum)};
}

/* cpu/elementwise.c */
void cpu_zero(Queue *q, Tensor *y);
void cpu_copy(Queue *q, const Tensor *x, Tensor *y);
void cpu_add(Queue *q, const Tensor *a, const Tensor *b, Tensor *y);
void cpu_accumulate(Queue *q, const Tensor *x, Tensor *y);
void cpu_add_row(Queue *q, const Tensor *x, const Tensor *row, Tensor *y);
void cpu_copy_slice(Queue *q, const Tensor *x, int64_t x_first, Tensor *y, int64_t y_first, int axis,
                    int64_t count, bool add_to);
void cpu_scale(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add_to);
void cpu_relu(Queue *q, const Tensor *x, Tensor *y);
void cpu_relu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add_to);
void cpu_gelu(Queue *q, const Tensor *x, Tensor *y);
void cpu_gelu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add_to);
void cpu_swiglu(Queue *q, const Tensor *x, Tensor *y);
void cpu_swiglu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add_to);
void cpu_dropout(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first,
                 int64_t window, Tensor *y, bool add_to);

/* cpu/any_type.c: kernels that treat rows apart, for reals and bf16; those of these names without `any` are for reals. */
void cpu_cast(Queue *q, const Tensor *x, Tensor *y);
void cpu_any_add(Queue *q, const Tensor *a, const Tensor *b, Tensor *y);
void cpu_any_accumulate(Queue *q, const Tensor *x, Tensor *y);
void cpu_any_add_row(Queue *q, const Tensor *x, const Tensor *row_of_all, Tensor *y);
void cpu_any_scale(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add);
void cpu_any_embedding(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id,
                       const Tensor *position, int64_t first, Tensor *y);
void cpu_any_layernorm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps,
                       Tensor *y, Tensor *stats);
void cpu_any_layernorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                                const Tensor *stats, Tensor *dx, bool add);
void cpu_any_rmsnorm(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats);
void cpu_any_rmsnorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                              const Tensor *stats, Tensor *dx, bool add);
void cpu_any_relu(Queue *q, const Tensor *x, Tensor *y);
void cpu_any_relu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
void cpu_any_gelu(Queue *q, const Tensor *x, Tensor *y);
void cpu_any_gelu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
void cpu_any_swiglu(Queue *q, const Tensor *x, Tensor *y);
void cpu_any_swiglu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
void cpu_any_dropout(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first,
                     int64_t window, Tensor *y, bool add);
void cpu_any_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
                  bool inverse, Tensor *y);
void cpu_any_squared_error(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss);

/* cpu/matmul.c */
int64_t cpu_matmul_scratch(const Queue *q, int64_t M, int64_t N, int64_t K, bool b_t);
void cpu_matmul(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias, Tensor *C,
                bool add);
void cpu_sum_rows(Queue *q, const Tensor *x, Tensor *y, bool add);

/* cpu/gemm.c: one product on the calling thread, C (M,N) (+)= alpha op(A) op(B), leading dimensions
 * given. a_t: A is (K,M), b_t: B is (N,K). */
void cpu_gemm(const Queue *q, bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, const real *A,
              int64_t lda, const real *B, int64_t ldb, bool add, real *C, int64_t ldc);

/* cpu/rows.c: embedding and norms */
void cpu_embedding(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id, const Tensor *position,
                   int64_t first, Tensor *y);
void cpu_embedding_backward(Queue *q, const Tensor *ids, const Tensor *dy, int64_t first_id, Tensor *dtoken);
void cpu_position_backward(Queue *q, const Tensor *dy, int64_t first, Tensor *dposition);
void cpu_layernorm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps, Tensor *y,
                   Tensor *stats);
void cpu_layernorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                            const Tensor *stats, Tensor *dx, bool add);
void cpu_norm_backward_param(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *stats, Tensor *dgain,
                             Tensor *dbias);
void cpu_rmsnorm(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats);
void cpu_rmsnorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                          const Tensor *stats, Tensor *dx, bool add);

/* cpu/attention.c */
void cpu_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
              bool inverse, Tensor *y);
void cpu_attention(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                   Tensor *scratch);
void cpu_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                            const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch);
int64_t cpu_attention_scratch(const Queue *q, int64_t B, int64_t T, int64_t H, int64_t D);
void cpu_attention_cached(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys,
                          Tensor *values, Tensor *out, Tensor *scratch);

/* cpu/head.c */
void cpu_head_loss(Queue *q, const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *targets,
                   int64_t first_row, Tensor *dx, Tensor *dw, Tensor *dbias, bool add, Tensor *loss,
                   Tensor *scratch);
int64_t cpu_head_loss_scratch(const Queue *q, int64_t R, int64_t C, int64_t V, bool backward);

/* cpu/vocabulary.c */
void cpu_row_max(Queue *q, const Tensor *logits, int64_t columns, Tensor *top);
void cpu_exp_sums(Queue *q, Tensor *logits, int64_t columns, const Tensor *top, const Tensor *targets,
                  int64_t first_row, int64_t first_id, Tensor *sums);
void cpu_split_cross_entropy(Queue *q, Tensor *logits, int64_t columns, const Tensor *top, const Tensor *sums,
                             const Tensor *targets, int64_t first_row, int64_t first_id, Tensor *loss);

/* cpu/train.c: losses and optimizers */
void cpu_softmax_cross_entropy(Queue *q, Tensor *logits, const Tensor *targets, int64_t first_row,
                               Tensor *row_loss, Tensor *loss);
void cpu_squared_error(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss);
void cpu_reciprocal(Queue *q, const Tensor *x, Tensor *y);
void cpu_add_means(Queue *q, const Tensor *sums, const Tensor *count, Tensor *total);
void cpu_sum(Queue *q, const Tensor *x, Tensor *total);
void cpu_clip(Queue *q, const Tensor *squares, const Tensor *loss, double limit, Tensor *norm, Tensor *clip);
void cpu_squares(Queue *q, const Tensor *x, Tensor *partials);
void cpu_adamw(Queue *q, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, const Tensor *clip,
               const AdamwStep *step);
void cpu_sgd(Queue *q, Tensor *w, const Tensor *g, Tensor *v, const Tensor *clip, double lr, double momentum);

#endif
