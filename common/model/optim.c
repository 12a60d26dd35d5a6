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

int64_t optimizer_square_blocks(const Optimizer *o) {
    int64_t blocks = o->params->square_blocks;
    for (int i = 0; i < o->params->count && !o->params->square_blocks; i++)
        blocks += square_blocks(o->params->items[i]);
    return blocks;
}

/* The sums of squares of this device's gradients, each at its place among those of all shards: first_block[i] for
 * parameter i. The others are 0. */
static double *block_sums(Optimizer *o, const int64_t *first_block, int64_t blocks) {
    Device *device = o->params->device;
    Tensor partials = tensor_new(device, MEMORY_ACTIVATIONS, "sums of squares", TYPE_F64, SHAPE(blocks));
    double *sums = xcalloc((size_t)max64(blocks, 1), sizeof *sums);
    for (int i = 0; i < o->params->count; i++) {
        const Param *p = o->params->items[i];
        if (p->replica > 0) continue;
        Tensor mine = tensor_view(&partials, first_block[i], SHAPE(square_blocks(p)));
        device->kernels->squares(&device->queue, &p->grad[0], &mine);
        tensor_read(&mine, 0, square_blocks(p), sums + first_block[i]);
    }
    tensor_free(&partials);
    return sums;
}

double optimizer_grad_norm_among(Optimizer *o, Comm *shards, Comm *slices) {
    const Params *params = o->params;
    int64_t *first_block = xmalloc((size_t)max64(params->count, 1) * sizeof *first_block), next = 0;
    int64_t blocks = optimizer_square_blocks(o);
    for (int i = 0; i < params->count; i++) {
        first_block[i] = params->square_blocks ? params->items[i]->first_block : next;
        next += square_blocks(params->items[i]);
    }
    double *sums = block_sums(o, first_block, blocks), sum = 0;
    Queue *q = &params->device->queue;
    /* where one device has a block, the others add zeros, which is exact */
    if (shards) comm_all_reduce(shards, q, sums, sums, blocks, TYPE_F64, REDUCE_SUM);
    for (int64_t b = 0; b < blocks; b++) sum += sums[b];
    if (slices) comm_all_reduce(slices, q, &sum, &sum, 1, TYPE_F64, REDUCE_SUM);
    free(sums);
    free(first_block);
    return sqrt(sum);
}

double optimizer_grad_norm(Optimizer *o) { return optimizer_grad_norm_among(o, NULL, NULL); }

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
