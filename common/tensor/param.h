/* param: weights as handles. An op reaches a weight's data between acquire and release and keeps no pointer
 * to it across, so that FSDP can gather before a block and free after it.
 *
 * Gradients. Each micro-batch's gradient is formed from zero, then added to the step's, in the order of the
 * micro-batches: the sum has the same bits however the micro-batches are spread over devices, and in whatever order
 * their backward passes come. One that comes before its turn is kept until then. A weight with two uses (a tied head)
 * has a buffer for each; they are added once, use 0 + use 1, when both are complete.
 *
 * on_grad_ready fires once a step for each use of each parameter, when the last micro-batch has been added: this device's
 * part of the gradient is complete then. Whoever listens reduces it over the devices, each use apart, and then calls
 * params_add_uses: so the sum over devices comes before the sum over uses, as the sum over micro-batches does. */
#ifndef PARAM_H
#define PARAM_H

#include "common/tensor/tensor.h"

enum { PARAM_MAX_USES = 2 };
typedef struct Params Params;

/* Which micro-batch a pass works on, of how many in the step. Several passes can be under way at once. */
typedef struct {
    int64_t index, count;
} Microbatch;

typedef struct {
    const char *name; /* as in checkpoints: "blocks.0.qkv.weight" */
    Tensor data;
    bool decay;          /* AdamW decays matrices only */
    bool in_matmul;      /* counts into N, the weights that a matrix product applies */
    int uses, uses_done; /* how many ops apply it; how many of them have the gradient of the whole step */
    Tensor grad[PARAM_MAX_USES];  /* once ready, grad[0] is the gradient of the step */
    bool placed[PARAM_MAX_USES];  /* grad is somebody else's memory (param_place_grad) */
    int64_t turn[PARAM_MAX_USES]; /* the micro-batch that is added next */
    struct EarlyGrad *early;      /* those that came before their turn */
    Params *owner;
} Param;

struct Params {
    Device *device;
    Param **items;
    int count;

    void (*on_grad_ready)(void *context, Param *p,
                          int use); /* NULL: uses are added as soon as all are there */
    void *on_grad_ready_context;
};

/* A new parameter with memory for its data (Replicate); the elements are not set. `name` is copied. */
Param *params_add(Params *params, const char *name, Shape shape);
void params_free(Params *params);
int64_t params_count(const Params *params);        /* all elements */
int64_t params_matmul_count(const Params *params); /* N of FLOPs per token = 6 N + ... */

/* The data of a weight for one op. */
const Tensor *param_acquire(Param *p);
void param_release(Param *p);

/* The buffer into which `use` writes a micro-batch's gradient; overwrite all of it, then call end, which adds it to the
 * step's, now or when those before it have been. scale: a scalar (1) that multiplies it on the way, NULL for one. Each
 * micro-batch of a step once for each use. */
Tensor param_grad_begin(Param *p, int use, Microbatch microbatch);
void param_grad_end(Param *p, int use, Microbatch microbatch, Tensor grad, const Tensor *scale);
/* For who listens to on_grad_ready: grad[0] += grad[1] where a parameter has two uses. */
void params_add_uses(Params *params);
/* From now on the gradient of a use is formed in the memory of `place`, from element `first` on; it must live until this
 * is called again, with NULL. */
void param_place_grad(Param *p, int use, const Tensor *place, int64_t first);

#endif
