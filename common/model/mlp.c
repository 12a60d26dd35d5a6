#include "common/model/mlp.h"

#include <math.h>
#include <stdlib.h>

static Param *add_weight(Mlp *m, const char *name, int64_t rows, int64_t columns, uint64_t seed) {
    Param *p = params_add(&m->params, name, SHAPE(rows, columns));
    p->in_matmul = true;
    param_start(p, (Start){START_NORMAL, 1 / sqrt((double)rows), seed});
    return p;
}

static Param *add_bias(Mlp *m, const char *name, int64_t count) {
    Param *p = params_add(&m->params, name, SHAPE(count));
    param_start(p, (Start){START_CONSTANT, 0, 0});
    return p;
}

Mlp *mlp_new(Device *device, int64_t inputs, int64_t hidden, int64_t outputs, uint64_t seed) {
    Mlp *m = xcalloc(1, sizeof *m);
    m->params.device = device;
    m->up_weight = add_weight(m, "up.weight", inputs, hidden, seed);
    m->up_bias = add_bias(m, "up.bias", hidden);
    m->down_weight = add_weight(m, "down.weight", hidden, outputs, seed);
    m->down_bias = add_bias(m, "down.bias", outputs);
    return m;
}

void mlp_delete(Mlp *m) {
    params_free(&m->params);
    free(m);
}

Tensor *mlp_forward(const Mlp *m, Tape *tape, Tensor *x) {
    Tensor *h = op_linear(tape, x, m->up_weight, m->up_bias);
    Tensor *a = op_relu(tape, h);
    tape_drop(tape, h);
    Tensor *y = op_linear(tape, a, m->down_weight, m->down_bias);
    tape_drop(tape, a);
    return y;
}
