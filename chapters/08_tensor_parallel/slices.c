#include "chapters/08_tensor_parallel/slices.h"

Param *params_add_slice(Params *params, const char *name, Slice slice) {
    Shape shape = slice.whole;
    shape.size[slice.axis] = slice.size;
    Param *p = params_add(params, name, shape);
    p->slice = slice;
    p->data.place[MESH_TENSOR] = (Place){PLACE_SHARD, slice.axis};
    return p;
}

Param *params_add_copy(Params *params, const char *name, Shape shape, int rank) {
    Param *p = params_add(params, name, shape);
    p->replica = rank; /* of a norm over all devices only copy 0 counts */
    return p;
}
