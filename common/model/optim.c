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

static int64_t square_blocks(const Param *p) { return ceil_div(tensor_count(&p->data), SQUARES_BLOCK); }

double optimizer_grad_norm(Optimizer *o) {
    Device *device = o->params->device;
    int64_t blocks = 0, first = 0;
    for (int i = 0; i < o->params->count; i++) blocks += square_blocks(o->params->items[i]);
    Tensor partials = tensor_new(device, MEMORY_ACTIVATIONS, "sums of squares", TYPE_F64, SHAPE(blocks));
    for (int i = 0; i < o->params->count; i++) {
        const Param *p = o->params->items[i];
        Tensor mine = tensor_view(&partials, first, SHAPE(square_blocks(p)));
        device->kernels->squares(&device->queue, &p->grad[0], &mine);
        first += square_blocks(p);
    }
    double *sums = xmalloc((size_t)blocks * sizeof *sums), sum = 0;
    tensor_read(&partials, 0, blocks, sums);
    for (int64_t b = 0; b < blocks; b++) sum += sums[b];
    free(sums);
    tensor_free(&partials);
    return sqrt(sum);
}

void optimizer_step(Optimizer *o, double lr, double clip) {
    o->step++;
    for (int i = 0; i < o->params->count; i++) {
        Param *p = o->params->items[i];
        Device *device = p->data.device;
        if (o->kind == OPTIMIZER_SGD) {
            device->kernels->sgd(&device->queue, &p->data, &p->grad[0], &o->v[i], lr, o->beta1, clip);
            continue;
        }
        AdamwStep step = {lr, o->beta1, o->beta2, o->eps, p->decay ? o->weight_decay : 0, clip, o->step};
        device->kernels->adamw(&device->queue, &p->data, &p->grad[0], &o->m[i], &o->v[i], &step);
    }
}

double clip_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1; }

double schedule_lr(const Config *c, int64_t step) {
    double warmup = floor(c->warmup_ratio * (double)c->max_steps);
    if ((double)step < warmup) return c->learning_rate * (double)(step + 1) / warmup;
    double progress = ((double)step - warmup) / fmax(1, (double)c->max_steps - warmup);
    return c->min_lr +
           (c->learning_rate - c->min_lr) * 0.5 * (1 + cos(3.141592653589793 * fmin(progress, 1)));
}
