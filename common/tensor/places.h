/* places: which placements an op takes, and how its output is placed. All works axis by axis of the mesh; what an op does
 * not take ends the program with the op, the tensor, how it is placed, and what would help. */
#ifndef PLACES_H
#define PLACES_H

#include "common/tensor/tensor.h"

/* How a tensor that is placed one way comes to be placed as an op wants it: a hint. */
const char *place_remedy(PlaceKind is, PlaceKind wanted);

/* x is on no axis of the mesh in slices along this axis of its shape, of which the op reads the whole. */
void places_check_whole(const char *op, const Tensor *x, int axis, const char *hint);
/* A parameter that every device has as a whole. */
void places_check_replicate(const char *op, const Tensor *param, const char *hint);
/* row (N) meets every row of x (..,N), and is cut where x's last axis is. */
void places_check_row(const char *op, const Tensor *x, const Tensor *row);
/* a and b are placed alike, as terms of a sum must be. */
void places_check_alike(const char *op, const Tensor *a, const Tensor *b);

/* y (..,N) = x (..,M) weight [+ bias (N), may be NULL], y placed as x so far. Axis `in` of the weight is M, the other N.
 *
 *   weight              takes                    y
 *   Replicate           x with M whole           as x                  bias Replicate
 *   cut along N         x Private                Shard(its last)       bias Shard(0)      column parallel
 *   cut along M         x Shard(its last)        Partial               no bias            row parallel
 *
 * (Shoeybi et al. 2019, section 3.) */
void places_of_product(const char *op, const Tensor *x, const Tensor *weight, int in, const Tensor *bias,
                       Tensor *y);
/* y (..,C) = token (V,C)[ids] [+ position, may be NULL], y placed as ids so far. Where token is Shard(0), each device has
 * some of the rows: ids Replicate, no position, y Partial. */
void places_of_look_up(const char *op, const Tensor *ids, const Tensor *token, const Tensor *position,
                       Tensor *y);
/* y = [a | b] along the last axis, y placed as a so far: a and b placed alike; or one is Private and the other in slices
 * along the last axis, as y is then: each device joins its own. */
void places_of_join(const char *op, const Tensor *a, const Tensor *b, Tensor *y);

#endif
