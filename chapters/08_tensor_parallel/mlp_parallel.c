#include "chapters/08_tensor_parallel/mlp_parallel.h"

#include "chapters/08_tensor_parallel/slices.h"
#include "common/comm/dist_ops.h"

#include <math.h>

char *mlp_parallel_problem(int64_t hidden, int t, char **hint) {
    if (hidden % t == 0) return NULL;
    int64_t low = hidden / t * t;
    *hint = low ? xprintf("--mlp-hidden %lld or %lld can", (long long)low, (long long)(low + t))
                : xprintf("--mlp-hidden %d can", t);
    return xprintf("--tensor-parallel-size %d does not divide --mlp-hidden %lld", t, (long long)hidden);
}

static Param *weight(Param *p, uint64_t seed) {
    p->in_matmul = true;
    param_start(p, (Start){START_NORMAL, 1 / sqrt((double)p->slice.whole.size[0]), seed});
    return p;
}

static Param *bias(Param *p) {
    param_start(p, (Start){START_CONSTANT, 0, 0});
    return p;
}

Mlp *mlp_parallel_new(const Mesh *mesh, Device *device, int64_t inputs, int64_t hidden, int64_t outputs,
                      uint64_t seed, bool planned) {
    int t = mesh->size[MESH_TENSOR], rank = mesh->coordinate[MESH_TENSOR];
    Mlp *m = xcalloc(1, sizeof *m);
    Params *p = &m->params;
    *p = (Params){.device = device, .planned = planned};
    Slice columns = slice_share(SHAPE(inputs, hidden), 1, rank, t),
          of_columns = slice_share(SHAPE(hidden), 0, rank, t),
          rows = slice_share(SHAPE(hidden, outputs), 0, rank, t);
    m->up_weight = weight(params_add_slice(p, "up.weight", columns), seed);
    m->up_bias = bias(params_add_slice(p, "up.bias", of_columns));
    m->down_weight = weight(params_add_slice(p, "down.weight", rows), seed);
    m->down_bias = bias(params_add_copy(p, "down.bias", SHAPE(outputs), rank));
    return m;
}

Tensor *mlp_parallel_forward(const Mlp *m, const Mesh *mesh, Tape *tape, Tensor *x) {
    Tensor *own = op_copy(tape, mesh, MESH_TENSOR, x); /* backward: each device has a term of dx */
    Tensor *h = op_linear(tape, own, m->up_weight, m->up_bias);
    tape_drop(tape, own);
    Tensor *a = op_relu(tape, h); /* of each number alone: no device needs another's */
    tape_drop(tape, h);
    Tensor *terms = op_linear(tape, a, m->down_weight, NULL);
    tape_drop(tape, a);
    Tensor *sum = op_reduce(tape, mesh, MESH_TENSOR, terms);
    tape_drop(tape, terms);
    Tensor *y = op_add_bias(tape, sum, m->down_bias); /* added to each term it would be there t times */
    tape_drop(tape, sum);
    return y;
}
