#include "common/model/optim.h"

#include "common/tensor/kernels.h"

#include <math.h>
#include <stdlib.h>

static Tensor state_new(const Param *p) {
    Tensor t = tensor_new(p->data.device, MEMORY_OPTIMIZER, p->name, TYPE_REAL, p->data.shape);
    p->data.device->kernels->zero(&p->data.device->queue, &t);
    return t;
}

Optimizer *optimizer_new(Params *params, const Config *config) {
    Optimizer *o = xcalloc(1, sizeof *o);
    o->params = params;
    params_number(params);
    o->kind = config->optimizer;
    o->beta1 = config->beta1;
    o->beta2 = config->beta2;
    o->eps = config->eps;
    o->weight_decay = config->weight_decay;
    o->m = xcalloc((size_t)params->count, sizeof *o->m);
    o->v = xcalloc((size_t)params->count, sizeof *o->v);
    for (int i = 0; i < params->count; i++) {
        if (o->kind == OPTIMIZER_ADAMW) o->m[i] = state_new(params->items[i]);
        o->v[i] = state_new(params->items[i]);
    }
    return o;
}

void optimizer_delete(Optimizer *o) {
    for (int i = 0; i < o->params->count; i++) {
        if (o->m[i].data) tensor_free(&o->m[i]);
        tensor_free(&o->v[i]);
    }
    free(o->m);
    free(o->v);
    free(o);
}

int64_t optimizer_square_blocks(const Optimizer *o) { return o->params->square_blocks; }

void optimizer_squares(Optimizer *o, const NormGroups *groups, Tensor *squares) {
    Device *device = o->params->device;
    const Kernels *k = device->kernels;
    Queue *q = &device->queue;
    int64_t blocks = o->params->square_blocks;
    /* each block's sum at its place among those of all devices */
    Tensor sums = tensor_new(device, MEMORY_ACTIVATIONS, "sums of squares", TYPE_F64, SHAPE(blocks));
    k->zero(q, &sums);
    for (int i = 0; i < o->params->count; i++) {
        const Param *p = o->params->items[i];
        if (p->replica > 0) continue;
        Tensor own = tensor_view(&sums, p->first_block, SHAPE(param_square_blocks(p)));
        k->squares(q, &p->grad[0], &own);
    }
    /* where one device has a block, the others add zeros, which is exact */
    Comm *const whole[] = {groups->shards, groups->stages};
    for (int i = 0; i < COUNT_OF(whole); i++)
        if (whole[i]) comm_all_reduce(whole[i], q, sums.data, sums.data, blocks, TYPE_F64, REDUCE_SUM);
    k->sum(q, &sums, squares);
    tensor_free(&sums);
    if (groups->slices)
        comm_all_reduce(groups->slices, q, squares->data, squares->data, 1, TYPE_F64, REDUCE_SUM);
}

double optimizer_grad_norm_among(Optimizer *o, const NormGroups *groups) {
    Tensor squares = tensor_new(o->params->device, MEMORY_ACTIVATIONS, "norm", TYPE_F64, SHAPE(1));
    optimizer_squares(o, groups, &squares);
    double norm = sqrt(tensor_scalar(&squares));
    tensor_free(&squares);
    return norm;
}

double optimizer_grad_norm(Optimizer *o) { return optimizer_grad_norm_among(o, &(NormGroups){0}); }

void optimizer_step(Optimizer *o, double lr, const Tensor *clip) {
    o->step++;
    params_changed(o->params);
    for (int i = 0; i < o->params->count; i++) {
        Param *p = o->params->items[i];
        Device *device = p->data.device;
        if (o->kind == OPTIMIZER_SGD) {
            device->kernels->sgd(&device->queue, &p->data, &p->grad[0], &o->v[i], clip, lr, o->beta1);
            continue;
        }
        AdamwStep step = {lr, o->beta1, o->beta2, o->eps, p->decay ? o->weight_decay : 0, o->step};
        device->kernels->adamw(&device->queue, &p->data, &p->grad[0], &o->m[i], &o->v[i], clip, &step);
    }
}

double schedule_lr(const Config *c, int64_t step) {
    double warmup = floor(c->warmup_ratio * (double)c->max_steps);
    if ((double)step < warmup) return c->learning_rate * (double)(step + 1) / warmup;
    double progress = ((double)step - warmup) / fmax(1, (double)c->max_steps - warmup);
    return c->min_lr +
           (c->learning_rate - c->min_lr) * 0.5 * (1 + cos(3.141592653589793 * fmin(progress, 1)));
}
