/* vocabulary: the two ends of the model when each device has some rows of the tables of words. Neither a row of logits nor
 * a table is ever whole on one device. */
#ifndef VOCABULARY_H
#define VOCABULARY_H

#include "common/comm/mesh.h"
#include "common/tensor/ops.h"

/* y (B,T,C) = x (B,T,C) + position (T',C)[first + t]. x is Replicate, or Shard(1): `first` is then that of its slice. */
Tensor *op_add_position(Tape *tape, Tensor *x, Param *position, int64_t first);

/* As op_head_loss, for a head of which each device along the axis has some rows, the last of them padding: head (Vp/n,C)
 * and bias (Vp/n) Shard(0), x (..,C) Private, and the same everywhere. The loss (1) is Replicate. The gradient of x is the
 * term of this device's rows.
 *
 * Each device forms its own columns of the logits. What softmax needs of the others are three numbers a row: the largest
 * logit, the sum of the exponentials, and the target's logit, which one device has. So 3 b s numbers are all-reduced in
 * place of b s V that would be gathered. */
Tensor *op_vocabulary_head_loss(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *head,
                                Param *bias, int use, const Tensor *targets);
/* In how many chunks of its rows, each with two all-reduces. */
int64_t vocabulary_chunks(int64_t rows, int devices);

#endif
