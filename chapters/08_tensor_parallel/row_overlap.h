/* row_overlap: the all-reduces of tensor parallelism while the device computes (--overlap-tensor N).
 *
 *   forward    the product of a row linear is formed in N chunks of rows. The all-reduce of one runs while the next is
 *              formed: only the last is waited for in full.
 *   backward   the gradient of a column linear's input is summed while that of its weight is formed, which needs nothing of
 *              it.
 *
 * The same sums of the same numbers as without. More chunks hide more and cost more: each has the latency of an all-reduce,
 * and reads the weight again. */
#ifndef ROW_OVERLAP_H
#define ROW_OVERLAP_H

#include "common/comm/clock.h"
#include "common/comm/mesh.h"
#include "common/tensor/ops.h"

/* y (..,N) Replicate = the sum over the devices of x (..,M) weight (M,N): op_linear, then op_reduce. x is Shard(its last
 * axis), weight Shard(0). */
Tensor *op_linear_reduce(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *weight,
                         int64_t chunks);
/* y (..,N) Shard(its last axis) = x (..,M) weight (M,N) [+ bias (N)]: op_copy, then op_linear. x is Replicate, weight
 * Shard(1), bias Shard(0) or NULL. */
Tensor *op_copy_linear(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *weight, Param *bias);

/* What the forward of op_linear_reduce takes by the model clock: x (rows,in), weight (in,out), on each device of comm.
 * end_k = max(formed_k, end_k-1) + all-reduce_k. */
double row_overlap_seconds(const DeviceModel *model, const Comm *comm, ElementType type, int64_t rows,
                           int64_t in, int64_t out, int64_t chunks);

#endif
