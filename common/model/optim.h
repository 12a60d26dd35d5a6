/* optim: AdamW and SGD with momentum, the norm of the whole gradient, the learning-rate schedule. */
#ifndef OPTIM_H
#define OPTIM_H

#include "common/comm/comm.h"
#include "common/config/config.h"
#include "common/tensor/param.h"

typedef struct {
    Params *params;
    OptimizerKind kind;
    double beta1, beta2, eps, weight_decay;
    int64_t step; /* updates made */
    Tensor *m,
        *v; /* one for each parameter, in their order: first and second moments; sgd: v is the velocity */
} Optimizer;

/* State (zeroed) in the optimizer's memory class: 2 numbers for each parameter, sgd 1. */
Optimizer *optimizer_new(Params *params, const Config *config);
void optimizer_delete(Optimizer *optimizer);

/* sqrt of the sum of squares over all gradients, summed in double over blocks of 1024 in
 * the parameters' order. */
double optimizer_grad_norm(Optimizer *optimizer);
/* ... of gradients that devices hold parts of: the same number on all of them. shards: those with the other shards of
 * these parameters, cut between two blocks of 1024 (Params.square_blocks): the bits of a device that holds all. slices:
 * those with other slices of the parameters, of which copies count once (Param.replica). NULL: none. */
double optimizer_grad_norm_among(Optimizer *optimizer, Comm *shards, Comm *slices);
/* How many sums of squares either holds on this device at once, each a double. */
int64_t optimizer_square_blocks(const Optimizer *optimizer);
/* One update with learning rate lr; each gradient is multiplied by clip first (clip_factor). */
void optimizer_step(Optimizer *optimizer, double lr, double clip);

/* The factor that brings a gradient of this norm down to `limit` (Pascanu et al. 2013); limit
 * 0: never clip. */
double clip_factor(double norm, double limit);
/* The rate of update `step` (0, 1, ..): linear warm-up over warmup_ratio * max_steps, then a cosine from
 * learning_rate down to min_lr at max_steps (Loshchilov & Hutter 2017). */
double schedule_lr(const Config *config, int64_t step);

#endif
