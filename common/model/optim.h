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

/* Devices that hold parts of the gradients; NULL: there are no others. */
typedef struct {
    Comm *
        shards; /* with the other shards of these parameters, cut between two blocks of 1024 (Params.square_blocks) */
    Comm *stages; /* with other layers (model_keep) */
    Comm *slices; /* with other slices of the parameters */
} NormGroups;
/* squares (1), TYPE_F64 = the sum of squares over all gradients, in double over blocks of 1024 in the parameters' order: the
 * square of the gradient's norm. Of gradients that devices hold parts of: the same number on all of them; copies count once
 * (Param.replica). Shards and stages change no bit of it: each block's sum lies at its place in the whole. */
void optimizer_squares(Optimizer *optimizer, const NormGroups *groups, Tensor *squares);
/* How many sums of squares it holds on this device at once, each a double. */
int64_t optimizer_square_blocks(const Optimizer *optimizer);
/* Its root, for a host that wants to know it now: waits for the device. */
double optimizer_grad_norm(Optimizer *optimizer); /* no other devices hold parts */
double optimizer_grad_norm_among(Optimizer *optimizer, const NormGroups *groups);
/* One update with learning rate lr; each gradient is multiplied by clip (1), TYPE_F64, first (Kernels.clip); NULL: by 1. None
 * where clip is not finite. */
void optimizer_step(Optimizer *optimizer, double lr, const Tensor *clip);

/* The rate of update `step` (0, 1, ..): linear warm-up over warmup_ratio * max_steps, then a cosine from
 * learning_rate down to min_lr at max_steps (Loshchilov & Hutter 2017). */
double schedule_lr(const Config *config, int64_t step);

#endif
