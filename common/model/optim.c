#include "common/model/optim.h"

#include "common/tensor/kernels.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 1024 };

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
    int64_t blocks = 0;
    for (int i = 0; i < params->count; i++) {
        if (o->kind == OPTIMIZER_ADAMW) o->m[i] = state_new(params->items[i]);
        o->v[i] = state_new(params->items[i]);
        blocks = max64(blocks, ceil_div(tensor_count(&params->items[i]->data), BLOCK));
    }
    o->partials = xmalloc((size_t)blocks * sizeof *o->partials);
    return o;
}

void optimizer_delete(Optimizer *o) {
    for (int i = 0; i < o->params->count; i++) {
        if (o->m[i].data) tensor_free(&o->m[i]);
        tensor_free(&o->v[i]);
    }
    free(o->m);
    free(o->v);
    free(o->partials);
    free(o);
}

double optimizer_grad_norm(Optimizer *o) {
    double sum = 0;
    for (int i = 0; i < o->params->count; i++) {
        const Param *p = o->params->items[i];
        Device *device = p->data.device;
        device->kernels->squares(&device->queue, &p->grad[0], o->partials);
        for (int64_t b = 0; b < ceil_div(tensor_count(&p->data), BLOCK); b++) sum += o->partials[b];
    }
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
