/* unit: what the parts of fsdp share. fsdp.c cuts units and pieces, weights.c gathers and frees, gradients.c reduces. */
#ifndef UNIT_H
#define UNIT_H

#include "chapters/07_fsdp/fsdp.h"
#include "common/tensor/kernels.h"

/* The gradients of one use of a unit's parameters: a tied head has two uses, which are reduced apart. */
typedef struct {
    Tensor kept; /* stages 0, 1: all of it (n shard); 2, 3: this device's (shard) */
    Tensor
        buffer; /* stages 2, 3: of one micro-batch (n shard), until it is reduced; data NULL: there is none */
    Tensor part; /* stages 2, 3, from the second micro-batch on: what is to be added to `kept` (shard) */
    int params, missing; /* how many parameters have this use; how many gradients are not formed yet */
    int64_t
        turn; /* stages 2, 3: the micro-batch whose gradients are formed now, in the one buffer, or next */
    CommRequest *request;
} UnitGrad;

typedef struct {
    char *name;
    int first_param, params; /* among those of the model */
    int64_t *first;          /* of each parameter: its first element in the flat array */
    int64_t shard;           /* elements of each device's shard; the flat array has n of them */
    Tensor own;              /* this device's shard of the weights: in stages 0 to 2 a view of `whole` */
    Tensor whole;            /* the weights (n shard); data NULL: they are not here */
    CommRequest *gathering;
    int held; /* acquired, and not released yet */
    bool kept;
    UnitGrad grad[PARAM_MAX_USES];
} Unit;

struct Fsdp {
    Params *params;
    FsdpOptions options;
    Unit *units;
    int unit_count;
    int *unit_of; /* of each parameter */
    Params pieces;
    Tensor
        vectors; /* stage 3 in bf16: of every parameter that is no matrix, one behind the other; else without data */

    /* stage 3: the order in which a pass of this kind asks for units, as far as it is known, and where this pass is in it */
    int *order;
    int order_count, at;
    bool forward_alone; /* its kind */
    int *other_order;   /* of the other kind */
    int other_count;
    FsdpGather *gathers;
    int gather_count, gather_capacity;

    UnitGrad *reducing; /* if not all gradients are kept: the reduction under way */
};

static inline Queue *fsdp_queue(const Fsdp *f) { return &f->params->device->queue; }
static inline const Kernels *fsdp_kernels(const Fsdp *f) { return f->params->device->kernels; }
static inline int64_t unit_count(const Fsdp *f, const Unit *u) { return u->shard * f->options.shards->size; }
/* Whole gradients are kept, and reduced once a step. */
static inline bool keeps_gradients(const Fsdp *f) { return f->options.stage < 2 || f->options.reduce_once; }
/* Weights are gathered as bf16. */
static inline bool gathers_narrow(const Fsdp *f) {
    return f->options.stage == 3 && f->params->type == TYPE_BF16;
}
/* Which parameter of the model this is. */
static inline int fsdp_index(const Fsdp *f, const Param *p) {
    int i = 0;
    while (f->params->items[i] != p) i++;
    return i;
}

/* weights.c */
void weights_place(Fsdp *f); /* memory, and what they start as */
void weights_unplace(Fsdp *f);
void weights_gather_all(Fsdp *f);    /* stages 1, 2 */
void weights_renew_vectors(Fsdp *f); /* stage 3 in bf16 */
/* stage 3: frees what is gathered, is not held, and is not needed soon; all: what is kept or needed soon as well */
void weights_free(Fsdp *f, bool all);
/* Stage 3: a ParamKeeper's */
void weights_acquire(void *context, Param *p);
void weights_release(void *context, Param *p);

/* gradients.c */
void gradients_place(Fsdp *f);
void gradients_unplace(Fsdp *f);
void gradients_finish(Fsdp *f);
/* Whole gradients are kept: an on_grad_ready */
void gradients_ready(void *context, Param *p, int use);
/* ... are not: a ParamKeeper's */
Tensor gradients_begin(void *context, Param *p, int use, Microbatch microbatch);
void gradients_end(void *context, Param *p, int use, Microbatch microbatch, Tensor grad);

#endif
