/* ops: every differentiable operation, forward and backward side by side in ops_*.c.
 *
 * An op makes its output on the tape, appends a node, and returns the output. On each axis of the mesh the output
 * is placed as the input unless stated, and of its type, real or bf16 (an embedding: of its table's); an op that is not linear refuses Partial inputs (places.h). B batch, T
 * sequence, C hidden, F feed-forward, H heads, K key/value heads, D head size, V vocabulary. */
#ifndef OPS_H
#define OPS_H

#include "common/tensor/tape.h"

/* y (..,N) = x (..,M) weight (M,N) [+ bias (N)]; bias may be NULL. With a weight Shard(1), x Private gives y
 * Shard(its last axis); with a weight Shard(0), x Shard(its last axis) gives y Partial, without a bias. */
Tensor *op_linear(Tape *tape, Tensor *x, Param *weight, Param *bias);

/* y (..,N) = x (..,N) + bias (N), which is Shard(0) where x is Shard(its last axis), else Replicate. */
Tensor *op_add_bias(Tape *tape, Tensor *x, Param *bias);

/* y = a + b, same shape, placed alike. */
Tensor *op_add(Tape *tape, Tensor *a, Tensor *b);

/* y (..,M+N) = [a (..,M) | b (..,N)], joined along the last axis; placed alike, or Private and Shard(the last axis): y
 * is in slices then, each of a device's own parts. */
Tensor *op_concat(Tape *tape, Tensor *a, Tensor *b);

/* y (B,T,C) = token (V,C)[ids (B,T) - first_id] + position (T,C)[first + t]; position may be NULL. first_id is the id of
 * the table's first row; an id that is not in the table counts as a row of zeros, and has no gradient. With token
 * Shard(0), ids Replicate give y Partial, without position. The token weight's gradient is its use 0. */
Tensor *op_embedding(Tape *tape, Tensor *ids, Param *token, int64_t first_id, Param *position, int64_t first);

/* y (..,C) = gain (C) * (x - mean) / sqrt(variance + eps) + bias (C), over the last axis; bias may be NULL
 * (Ba, Kiros & Hinton 2016). */
Tensor *op_layernorm(Tape *tape, Tensor *x, Param *gain, Param *bias, double eps);
/* y (..,C) = gain (C) * x / sqrt(mean square + eps) (Zhang & Sennrich 2019). */
Tensor *op_rmsnorm(Tape *tape, Tensor *x, Param *gain, double eps);

Tensor *op_relu(Tape *tape, Tensor *x);
/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016, as in GPT-2). */
Tensor *op_gelu(Tape *tape, Tensor *x);
/* y (..,F) = silu(x[.., :F]) * x[.., F:] (Shazeer 2020). */
Tensor *op_swiglu(Tape *tape, Tensor *x);

/* Which numbers a dropout draws: element i of x is element first + i of the stream, whatever the mesh and
 * when it is recomputed. first counts from the first element of the run's first window. Where x (B,..) is a slice of
 * each of B windows, window is the elements of a whole one: entry b of x begins at first + b window; 0: x is whole. */
typedef struct {
    double rate;
    uint64_t seed, stream;
    int64_t first, window;
} DropoutSite;
/* Each element is 0 with probability rate, otherwise x / (1 - rate). rate 0 gives x itself. */
Tensor *op_dropout(Tape *tape, Tensor *x, DropoutSite site);

/* Rotary positions (Su et al. 2021), rotating halves: qkv (B,T,(H+2K)D) with its queries and keys rotated by
 * the position first + t; table (T,D) is [cos | sin] of every angle. */
Tensor *op_rope(Tape *tape, Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first);

/* Causal attention: qkv (B,T,(H+2K)D) = [queries | keys | values] to (B,T,H D), scores scaled by
 * 1/sqrt(D). Scores are formed a tile at a time and formed again in backward (Dao et al. 2022): no T x T
 * matrix is kept. qkv may be Shard(2): H and K are this device's heads. */
Tensor *op_attention(Tape *tape, Tensor *qkv, int64_t H, int64_t K);

/* Keys and values of one layer while text is generated, each (T,K D); count positions are filled. */
typedef struct {
    Tensor keys, values;
    int64_t count;
} KeyValueCache;
/* Forward only: the new tokens qkv (1,T',(H+2K)D) enter the cache and attend to all up to themselves. */
Tensor *op_attention_cached(Tape *tape, Tensor *qkv, int64_t H, int64_t K, KeyValueCache *cache);

/* Head and loss in one: the sum over rows with target >= 0 of -log softmax(x (..,C) head (V,C)^T + bias
 * (V))[target], a scalar (1) in double. Logits are formed for a chunk of rows at a time, and their gradient
 * towards x, head and bias at once, in the forward (the declared exception: forming the logits again would
 * cost a third more); backward multiplies by the seed. `use` is which use of the head weight this is: 1 when
 * it is tied to the embedding. */
Tensor *op_head_loss(Tape *tape, Tensor *x, Param *head, Param *bias, int use, const Tensor *targets);
/* logits (..,V), forward only; head (V,C) Shard(0): as op_linear with a weight Shard(1). */
Tensor *op_logits(Tape *tape, Tensor *x, Param *head, Param *bias);

/* The sum of (y - target)^2, a scalar (1) in double. */
Tensor *op_squared_error(Tape *tape, Tensor *y, Tensor *target);

/* Runs `forward` without keeping its activations; backward runs it again from x (Chen et al. 2016). forward
 * must compute the same bits both times. In halves of backward it is run again in the first, and what its parameters'
 * gradients need is kept for the second. */
typedef Tensor *(*SegmentFn)(void *context, Tape *tape, Tensor *x);
Tensor *op_recompute(Tape *tape, Tensor *x, SegmentFn forward, const void *context, size_t context_bytes);

#endif
