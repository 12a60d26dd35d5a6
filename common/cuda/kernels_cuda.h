/* kernels_cuda: the table of kernels of a GPU. tensor/kernels.h says what each does; here stands only where. */
#ifndef KERNELS_CUDA_H
#define KERNELS_CUDA_H

#include "common/tensor/kernels.h"

extern const Kernels kernels_cuda;

/* elementwise.cu */
void cuda_zero(Queue *q, Tensor *y);
void cuda_copy(Queue *q, const Tensor *x, Tensor *y);
void cuda_cast(Queue *q, const Tensor *x, Tensor *y);
void cuda_add(Queue *q, const Tensor *a, const Tensor *b, Tensor *y);
void cuda_accumulate(Queue *q, const Tensor *x, Tensor *y);
void cuda_add_row(Queue *q, const Tensor *x, const Tensor *row, Tensor *y);
void cuda_copy_slice(Queue *q, const Tensor *x, int64_t x_first, Tensor *y, int64_t y_first, int axis,
                     int64_t count, bool add);
void cuda_scale(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add);

/* activations.cu, dropout.cu */
void cuda_relu(Queue *q, const Tensor *x, Tensor *y);
void cuda_relu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
void cuda_gelu(Queue *q, const Tensor *x, Tensor *y);
void cuda_gelu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
void cuda_swiglu(Queue *q, const Tensor *x, Tensor *y);
void cuda_swiglu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add);
void cuda_dropout(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first,
                  int64_t window, Tensor *y, bool add);

/* matmul.c: cublasLt; rows.cu: sums of rows */
int64_t cuda_matmul_scratch(const Queue *q, int64_t M, int64_t N, int64_t K, bool b_t);
void cuda_matmul(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias,
                 Tensor *C, bool add);
void cuda_sum_rows(Queue *q, const Tensor *x, Tensor *y, bool add);

/* embedding.cu, rows.cu: embedding and norms */
void cuda_embedding(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id,
                    const Tensor *position, int64_t first, Tensor *y);
void cuda_embedding_backward(Queue *q, const Tensor *ids, const Tensor *dy, int64_t first_id, Tensor *dtoken);
void cuda_position_backward(Queue *q, const Tensor *dy, int64_t first, Tensor *dposition);
void cuda_layernorm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps, Tensor *y,
                    Tensor *stats);
void cuda_layernorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                             const Tensor *stats, Tensor *dx, bool add);
void cuda_norm_backward_param(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *stats, Tensor *dgain,
                              Tensor *dbias);
void cuda_rmsnorm(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats);
void cuda_rmsnorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                           const Tensor *stats, Tensor *dx, bool add);

/* rope.cu, attention.cu */
void cuda_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
               bool inverse, Tensor *y);
void cuda_attention(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                    Tensor *scratch);
void cuda_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                             const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch);
int64_t cuda_attention_scratch(const Queue *q, int64_t B, int64_t T, int64_t H, int64_t D);
void cuda_attention_cached(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys,
                           Tensor *values, Tensor *out, Tensor *scratch);

/* head.c */
void cuda_head_loss(Queue *q, const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *targets,
                    int64_t first_row, Tensor *dx, Tensor *dw, Tensor *dbias, bool add, Tensor *loss,
                    Tensor *scratch);
int64_t cuda_head_loss_scratch(const Queue *q, int64_t R, int64_t C, int64_t V, bool backward);

/* vocabulary.cu */
void cuda_row_max(Queue *q, const Tensor *logits, int64_t columns, Tensor *top);
void cuda_exp_sums(Queue *q, Tensor *logits, int64_t columns, const Tensor *top, const Tensor *targets,
                   int64_t first_row, int64_t first_id, Tensor *sums);
void cuda_split_cross_entropy(Queue *q, Tensor *logits, int64_t columns, const Tensor *top,
                              const Tensor *sums, const Tensor *targets, int64_t first_row, int64_t first_id,
                              Tensor *loss);

/* train.cu: losses, the numbers of a step, and optimizers */
void cuda_softmax_cross_entropy(Queue *q, Tensor *logits, const Tensor *targets, int64_t first_row,
                                Tensor *row_loss, Tensor *loss);
/* The same for logits that need not become their gradient: it has a type of its own and may be NULL. */
void cuda_softmax_loss(Queue *q, const Tensor *logits, const Tensor *targets, int64_t first_row,
                       Tensor *gradient, Tensor *row_loss, Tensor *loss);
void cuda_squared_error(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss);
void cuda_reciprocal(Queue *q, const Tensor *x, Tensor *y);
void cuda_add_means(Queue *q, const Tensor *sums, const Tensor *count, Tensor *total);
void cuda_sum(Queue *q, const Tensor *x, Tensor *total);
void cuda_clip(Queue *q, const Tensor *squares, const Tensor *loss, double limit, Tensor *norm, Tensor *clip);
void cuda_squares(Queue *q, const Tensor *x, Tensor *partials);
void cuda_adamw(Queue *q, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, const Tensor *clip,
                const AdamwStep *step);
void cuda_sgd(Queue *q, Tensor *w, const Tensor *g, Tensor *v, const Tensor *clip, double lr,
              double momentum);

#endif
