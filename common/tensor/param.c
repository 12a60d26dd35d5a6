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

static void free_grad(Param *p, int use) {
    if (p->grad[use].data && !p->placed[use]) tensor_free(&p->grad[use]);
    p->grad[use] = (Tensor){0};
}

void params_free(Params *params) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        tensor_free(&p->data);
        for (int use = 0; use < PARAM_MAX_USES; use++) free_grad(p, use);
        ASSERT(!p->early);
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

static Tensor grad_new(Param *p) {
    return tensor_new(p->data.device, MEMORY_GRADIENTS, p->name, TYPE_REAL, p->data.shape);
}

static void add_uses(Param *p) {
    Device *device = p->data.device;
    for (int use = 1; use < p->uses; use++)
        device->kernels->accumulate(&device->queue, &p->grad[use], &p->grad[0]);
}

/* The first micro-batch's is formed in the step's own buffer. */
Tensor param_grad_begin(Param *p, int use, Microbatch microbatch) {
    ASSERT(use < p->uses && microbatch.index < microbatch.count);
    if (!p->grad[use].data) p->grad[use] = grad_new(p);
    return microbatch.index == 0 ? p->grad[use] : grad_new(p);
}

/* A gradient that waits for those of earlier micro-batches. */
typedef struct EarlyGrad EarlyGrad;
struct EarlyGrad {
    EarlyGrad *next;
    int use;
    int64_t index; /* of its micro-batch */
    Tensor grad;
};

static void keep_early(Param *p, int use, int64_t index, Tensor grad) {
    EarlyGrad *early = xmalloc(sizeof *early);
    *early = (EarlyGrad){p->early, use, index, grad};
    p->early = early;
}

/* The one whose turn it is, taken out of the list; false: it has not come yet. */
static bool take_early(Param *p, int use, Tensor *grad) {
    for (EarlyGrad **link = &p->early; *link; link = &(*link)->next) {
        EarlyGrad *early = *link;
        if (early->use != use || early->index != p->turn[use]) continue;
        *grad = early->grad;
        *link = early->next;
        free(early);
        return true;
    }
    return false;
}

static void add_in_turn(Param *p, int use, Tensor grad) {
    Device *device = p->data.device;
    if (p->turn[use]++ == 0) return; /* it is the step's own buffer */
    device->kernels->accumulate(&device->queue, &grad, &p->grad[use]);
    tensor_free(&grad);
}

static void step_is_complete(Param *p, int use) {
    p->turn[use] = 0;
    Params *owner = p->owner;
    if (owner->on_grad_ready) {
        owner->on_grad_ready(owner->on_grad_ready_context, p, use);
    } else if (++p->uses_done == p->uses) {
        p->uses_done = 0;
        add_uses(p);
    }
}

void param_grad_end(Param *p, int use, Microbatch microbatch, Tensor grad, const Tensor *scale) {
    Device *device = p->data.device;
    /* scaled first, added then: in one go the product would not be rounded, and the sum have other bits than
     * that of devices which hold a micro-batch each */
    if (scale) device->kernels->scale(&device->queue, scale, &grad, &grad, false);
    ASSERT(microbatch.index >= p->turn[use]);
    if (microbatch.index > p->turn[use]) {
        keep_early(p, use, microbatch.index, grad);
        return;
    }
    do add_in_turn(p, use, grad);
    while (take_early(p, use, &grad));
    if (p->turn[use] == microbatch.count) step_is_complete(p, use);
}

void params_add_uses(Params *params) {
    for (int i = 0; i < params->count; i++) add_uses(params->items[i]);
}

void param_place_grad(Param *p, int use, const Tensor *place, int64_t first) {
    free_grad(p, use);
    p->placed[use] = place != NULL;
    if (!place) return;
    p->grad[use] = tensor_view(place, first, p->data.shape);
    p->grad[use].name = p->name;
}
