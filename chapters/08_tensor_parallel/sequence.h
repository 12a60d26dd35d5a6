/* sequence: a product whose input is in slices of the sequence, and is gathered for the product alone (--gather-again).
 *
 *   forward    x is gathered, multiplied, and freed: of a layer's activations none is left that t does not divide.
 *   backward   x is gathered once more, for dW, while dy W^T is formed, which does not need it; then dx is reduce-scattered.
 *
 * That is one all-gather more for each of a layer's two column linears (Korthikanti et al. 2022, section 4.2.2). */
#ifndef SEQUENCE_H
#define SEQUENCE_H

#include "common/comm/clock.h"
#include "common/comm/mesh.h"
#include "common/tensor/ops.h"

/* y (B,T,N) Shard(its last axis) = x (B,T/n,M) weight (M,N) [+ bias (N)]: op_all_gather, then op_linear. x is Shard(1),
 * weight Shard(1), bias Shard(0) or NULL. What is gathered is communication memory; in backward it is there from the step
 * towards the inputs until the one towards the parameters. */
Tensor *op_gather_linear(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *weight, Param *bias);

/* What backward waits for the second all-gather, by the model clock: that of x (rows,in), all slices together, which has the
 * time of the product of dy (rows,out) with the weight. */
double gather_again_seconds(const DeviceModel *model, const Comm *comm, ElementType type, int64_t rows,
                            int64_t in, int64_t out);

#endif
