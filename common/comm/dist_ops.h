/* dist_ops: collectives as differentiable operations. Each changes how a tensor is placed on one axis of the mesh:
 *
 *                       input -> output          forward          backward
 *   op_copy             Replicate -> Private     identity         all-reduce
 *   op_reduce           Partial -> Replicate     all-reduce       identity
 *   op_all_gather       Shard -> Private         all-gather       reduce-scatter
 *   op_gather           Shard -> Replicate       all-gather       own slice
 *   op_reduce_scatter   Partial -> Shard         reduce-scatter   all-gather
 *   op_split            Replicate -> Shard       own slice        all-gather
 *   op_all_to_all       Shard(i) -> Shard(j)     all-to-all       all-to-all back
 *   (and op_send and op_recv, from one device to another: message_ops.h)
 *
 * Each is linear, and its backward is the transpose: <forward(x), y> = <x, backward(y)>, where an inner product sums
 * over the devices and counts a Replicate side once. (copy and reduce are f and g of Shoeybi et al. 2019, section 3.)
 *
 * Every device along the axis makes the same calls in the same order. A tensor that is placed otherwise than the op
 * takes it ends the program with the op that would make it so. Slices are equal: an axis of the shape is cut only into
 * as many as divide it; one that they do not divide is refused, with sizes near it that would do. Where several axes of
 * the mesh cut one axis of the shape, the first cuts first. */
#ifndef DIST_OPS_H
#define DIST_OPS_H

#include "common/comm/mesh.h"
#include "common/tensor/tape.h"

/* x (..) Replicate -> (..) Private */
Tensor *op_copy(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x);
/* x (..) Partial -> (..) Replicate: the sum over the devices */
Tensor *op_reduce(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x);
/* x (..) Shard(i) -> (.. n times as long along i ..) Private */
Tensor *op_all_gather(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x);
/* x (..) Shard(i) -> (.. n times as long along i ..) Replicate */
Tensor *op_gather(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x);
/* x (..) Partial -> (.. an n-th along axis ..) Shard(axis): this device's slice of the sum over the devices */
Tensor *op_reduce_scatter(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int axis);
/* x (..) Replicate -> (.. an n-th along axis ..) Shard(axis) */
Tensor *op_split(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int axis);
/* x (..) Shard(i) -> (.. n times as long along i, an n-th along axis ..) Shard(axis) */
Tensor *op_all_to_all(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int axis);

/* ---- for ops that hold a collective of these within them ---- */

/* An all-gather under way: y (.. n times as long along axis ..) becomes the slices x (..) of the devices of comm. Until
 * dist_gather_wait x must not change, and y must not be read. */
typedef struct {
    Comm *comm;
    CommRequest *request;
    int axis;
    Tensor rows; /* slices that are not blocks of y come here first; otherwise no data */
} Gather;
Gather dist_gather_start(Tape *tape, Comm *comm, const Tensor *x, int axis, const Tensor *y);
void dist_gather_wait(Tape *tape, Gather *gather, Tensor *y);
/* y (.. an n-th along axis ..) (+)= this device's slice of the sum of x (..) over the devices of comm */
void dist_reduce_scatter(Tape *tape, Comm *comm, const Tensor *x, int axis, Tensor *y, bool add);

/* Ends the program, with what would help, unless x is placed as op_`op` takes it. */
void dist_check_place(const char *op, MeshAxis along, const Tensor *x, PlaceKind wanted);

#endif
