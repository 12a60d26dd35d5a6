/* step_numbers: the few numbers of a training step. Loss, norm and clip factor are formed on the device, where the optimizer
 * finds them: the host issues the whole step, and waits for it once, when it reads what the step was.
 *
 *   step_begin(&numbers, &batch, comm);                        how many tokens count, and so what each is worth
 *   step_add_loss(&numbers, loss);                             for each micro-batch
 *   tape_backward(tape, loss, &numbers.seed);
 *   step_clip(&numbers, optimizer, &groups, limit);
 *   optimizer_step(optimizer, lr, &numbers.clip);              does nothing where a number is not finite
 *   step_start_read(&numbers, step, first_window);             issued as well
 *   StepResult was = step_read(&numbers);                      waits: at once, or when the next step has been issued */
#ifndef STEP_NUMBERS_H
#define STEP_NUMBERS_H

#include "common/model/batch.h"
#include "common/model/optim.h"

enum { STEP_NUMBERS = 6 };
typedef struct {
    Tensor memory;          /* (STEP_NUMBERS) TYPE_F64, of which all others are views: */
    Tensor loss, norm;      /* (1) the mean over the real tokens of the global batch; of its gradient */
    Tensor clip;            /* (1) for optimizer_step */
    Tensor tokens, squares; /* (1) real tokens of the global batch; the norm's square */
    Tensor seed;            /* (1) TYPE_REAL: 1 / tokens, where backward begins */
    struct {
        double *loss_and_norm; /* of the host: pinned */
        QueuePoint arrived;
        StepResult result;
    } reads[2];
    int64_t started, done; /* so many reads, which take their places in turn */
} StepNumbers;

/* All 0: STEP_NUMBERS doubles, activations. */
StepNumbers step_numbers_new(Device *device);
void step_numbers_free(StepNumbers *numbers);

/* The loss is 0; tokens are those of the batch, which was loaded before, summed over comm (devices with slices of the global
 * batch; NULL: this one has it all), and the seed goes with them. batch NULL: tokens and seed stay as they are, since
 * this device does not form the loss (then no other of comm comes either), or since they are always the same. */
void step_begin(StepNumbers *numbers, Batch *batch, Comm *comm);
/* For batches that are no Batch: so many count in each of them from now on. */
void step_set_tokens(StepNumbers *numbers, double tokens);
/* loss += sums[0] / tokens + sums[1] / tokens + .., in this order; sums (n) TYPE_F64. */
void step_add_loss(StepNumbers *numbers, const Tensor *sums);
/* loss = its sum over comm. */
void step_sum_loss(StepNumbers *numbers, Comm *comm);
/* norm (as optimizer_squares has it), and the clip factor that brings it down to `limit`; 0: never clip. Once a loss or a norm
 * was not finite, no step updates anything any more: the host, which may hear of it a step later, finds the weights that made
 * it. */
void step_clip(StepNumbers *numbers, Optimizer *optimizer, const NormGroups *groups, double limit);
/* Loss and norm are on their way to the host. Two may be: the last two steps'. */
void step_start_read(StepNumbers *numbers, int64_t step, int64_t first_window);
/* The first of them, when the device has come so far: the step's one synchronisation. */
StepResult step_read(StepNumbers *numbers);

#endif
