/* slices: parameters of which each device along the axis `tensor` holds a part. */
#ifndef SLICES_H
#define SLICES_H

#include "common/tensor/param.h"

/* Of whole along `axis`: nothing yet. */
static inline Slice slice_of(Shape whole, int axis) { return (Slice){.whole = whole, .axis = axis}; }
/* And indices first .. first + count - 1, behind those that it has. */
static inline void slice_add(Slice *slice, int64_t first, int64_t count) {
    slice->first[slice->runs] = first;
    slice->count[slice->runs++] = count;
    slice->size += count;
}
/* The share of device `rank` of n: an n-th, which must be whole. */
static inline Slice slice_share(Shape whole, int axis, int rank, int n) {
    Slice slice = slice_of(whole, axis);
    int64_t share = whole.size[axis] / n;
    slice_add(&slice, rank * share, share);
    return slice;
}

/* A parameter that is this slice, Shard(slice.axis) along `tensor`; its elements are not set. */
Param *params_add_slice(Params *params, const char *name, Slice slice);
/* One that every device has as a whole: `rank` says which copy this is. */
Param *params_add_copy(Params *params, const char *name, Shape shape, int rank);

#endif
