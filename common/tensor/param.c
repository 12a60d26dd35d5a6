#include "common/tensor/param.h"

#include "common/tensor/kernels.h"

#include <stdlib.h>
#include <string.h>

Param *params_add(Params *params, const char *name, Shape shape) {
    Param *p = xcalloc(1, sizeof *p);
    p->name = xstrdup(name);
    p->data = tensor_new(params->device, MEMORY_PARAMETERS, p->name, TYPE_REAL, shape);
    p->decay = shape.rank > 1;
    p->uses = 1;
    p->owner = params;
    params->items = xrealloc(params->items, (size_t)(params->count + 1) * sizeof(Param *));
    params->items[params->count++] = p;
    return p;
}

void params_free(Params *params) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        tensor_free(&p->data);
        for (int use = 0; use < PARAM_MAX_USES; use++)
            if (p->grad[use].device) tensor_free(&p->grad[use]);
        free((char *)(uintptr_t)p->name);
        free(p);
    }
    free(params->items);
    params->items = NULL;
    params->count = 0;
}

int64_t params_count(const Params *params) {
    int64_t sum = 0;
    for (int i = 0; i < params->count; i++) sum += tensor_count(&params->items[i]->data);
    return sum;
}

int64_t params_matmul_count(const Params *params) {
    int64_t sum = 0;
    for (int i = 0; i < params->count; i++)
        if (params->items[i]->in_matmul) sum += tensor_count(&params->items[i]->data);
    return sum;
}

const Tensor *param_acquire(Param *p) { return &p->data; }

void param_release(Param *p) { (void)p; }

void params_begin_microbatch(Params *params, int64_t microbatch, int64_t microbatches) {
    params->microbatch = microbatch;
    params->microbatches = microbatches;
    for (int i = 0; i < params->count; i++) params->items[i]->uses_done = 0;
}

static Tensor grad_new(Param *p) {
    return tensor_new(p->data.device, MEMORY_GRADIENTS, p->name, TYPE_REAL, p->data.shape);
}

static void add_uses(Param *p) {
    Device *device = p->data.device;
    for (int use = 1; use < p->uses; use++)
        device->kernels->accumulate(&device->queue, &p->grad[use], &p->grad[0]);
}

Tensor param_grad_begin(Param *p, int use) {
    ASSERT(use < p->uses);
    if (!p->grad[use].data) p->grad[use] = grad_new(p);
    return p->owner->microbatch == 0 ? p->grad[use] : grad_new(p);
}

void param_grad_end(Param *p, int use, Tensor grad, const Tensor *scale) {
    Device *device = p->data.device;
    const Kernels *kernels = device->kernels;
    bool first = grad.data == p->grad[use].data;
    /* scaled first, added then: in one go the product would not be rounded, and the sum have other bits than
     * that of devices which hold a micro-batch each */
    if (scale) kernels->scale(&device->queue, scale, &grad, &grad, false);
    if (!first) kernels->accumulate(&device->queue, &grad, &p->grad[use]);
    if (!first) tensor_free(&grad);

    Params *owner = p->owner;
    if (owner->microbatch != owner->microbatches - 1) return;
    if (owner->on_grad_ready)
        owner->on_grad_ready(owner->on_grad_ready_context, p, use);
    else if (++p->uses_done == p->uses)
        add_uses(p);
}

void params_add_uses(Params *params) {
    for (int i = 0; i < params->count; i++) add_uses(params->items[i]);
}

void param_place_grad(Param *p, int use, real *memory) {
    if (p->grad[use].device) tensor_free(&p->grad[use]);
    p->grad[use] = (Tensor){.data = memory,
                            .type = TYPE_REAL,
                            .shape = p->data.shape,
                            .name = p->name,
                            .memory = MEMORY_GRADIENTS};
}
