/* tensor_parallel: every matrix of the model is cut over the t devices of the mesh's axis `tensor`, which all work on the
 * same windows (Shoeybi et al. 2019; with sequence parallel Korthikanti et al. 2022).
 *
 *                     weight                       bias              x              y
 *   column linear     (in, out/t)   Shard(1)       Shard(0)          Private        Shard(last)    qkv, ffn_up
 *   row linear        (in/t, out)   Shard(0)       Replicate         Shard(last)    Partial        attention_out, ffn_down
 *   token, head       (Vp/t, C)     Shard(0)       Shard(0)          Vp: V, padded to a multiple of t
 *   norms, position   Replicate
 *
 * A column linear feeds a row linear, and what lies between (attention of some heads, an activation) needs no other
 * device. So a half of a block has two places at which devices meet:
 *
 *   f, before the columns: op_copy, Replicate -> Private. Forward nothing moves. A Private value's gradient is Partial: each
 *      device has the term that its columns give. A Replicate value's gradient is the sum. So backward is an all-reduce.
 *   g, behind the rows: op_reduce, Partial -> Replicate. Forward is an all-reduce. A Replicate value's gradient is Replicate,
 *      and so is that of each term of a sum. So backward is the identity, and to add up here would be t times too much.
 *
 * With sequence parallel, x is Shard(1) wherever it is not in a matrix product: norms, dropout and the residual stream work
 * on T/t positions. f becomes op_all_gather and g op_reduce_scatter, which together move what an all-reduce does. A
 * parameter that is Replicate, but was applied to a slice, then has a Partial gradient: norms, the biases of row linears
 * and the position table are summed once a step (tensor_parallel_finish). For backward a column linear keeps its slice of
 * what it has read, which is then gathered a second time (gather_again; sequence.h), or, without, all of it.
 *
 * Fewer key/value heads than devices (K < t): t/K devices hold the same key and value head, and each has the term of the
 * gradient that its queries give. These are summed once a step as well. */
#ifndef TENSOR_PARALLEL_H
#define TENSOR_PARALLEL_H

#include "common/comm/mesh.h"
#include "common/model/model.h"

typedef struct {
    bool sequence_parallel;
    bool gather_again; /* with it: column linears keep their slice of x alone (sequence.h) */
    int64_t
        overlap_chunks; /* row linears: their all-reduce in so many pieces (row_overlap.h); 0: in one, plainly */
} TensorParallelOptions;

typedef struct {
    const Mesh *mesh;
    TensorParallelOptions options;
    Comm *same_head;   /* those that hold the same key/value head; NULL: nobody else does */
    LayerTable layers; /* layers_tensor_parallel, unless a mistake is planted (mistakes.h) */
    bool unsummed;     /* a planted mistake as well */
} TensorParallel;

/* NULL, or why such a model cannot be cut over t devices, with *hint: the nearest sizes that can. The caller frees both.
 * Nothing is allocated before this has been asked. */
char *tensor_parallel_problem(const ModelConfig *model, int t, const TensorParallelOptions *options,
                              char **hint);

/* Every rank of the mesh calls both. */
TensorParallel *tensor_parallel_new(const Mesh *mesh, const ModelConfig *model,
                                    const TensorParallelOptions *options);
void tensor_parallel_delete(TensorParallel *tp);

/* This device's slice of the model; every element starts as in the whole. planned: see model_new_of. */
Model *tensor_parallel_model(TensorParallel *tp, Device *device, const ModelConfig *config, uint64_t seed,
                             bool planned);
/* `pass`, with this device's slice of the sequence when the options say sequence_parallel. Training alone: evaluation and
 * generation take any number of tokens. */
Pass tensor_parallel_pass(const TensorParallel *tp, const ModelConfig *config, Pass pass);

/* After the last micro-batch's backward, and after any sum over the data axis: gradients that are still Partial along
 * `tensor` are summed, in one all-reduce (and one among those with the same key/value head). params: the model's, or pieces
 * of them that lie the same way on every device of the axis. */
void tensor_parallel_finish(TensorParallel *tp, Params *params);

/* The devices along `tensor` that hold the same elements of p as this one; NULL: none do. */
Comm *tensor_parallel_holders(const TensorParallel *tp, const Param *p);
/* NULL, or the name of one of these parameters (or pieces, see above) of which devices along `tensor` that should hold the same
 * bits do not. Every rank of the mesh calls it. */
const char *tensor_parallel_drift(const TensorParallel *tp, const Params *params);

extern const LayerTable layers_tensor_parallel; /* its context is a TensorParallel */

#endif
