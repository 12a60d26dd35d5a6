/* pipeline: does one stage's part of a plan, on its part of the model. Each micro-batch that is under way in a chunk has a tape
 * of its own; the plan says when its input is asked for, when it goes forward, and when its gradient comes back.
 *
 *   F   waits for the chunk's input, runs its blocks, sends what comes out to the stage of the next chunk
 *   B   waits for the gradient of what was sent, runs backward, sends the gradient of the input to where that came from
 *   W   the half towards the parameters of a B that did the other half alone
 *
 * Nobody waits for a send, and what is asked for is asked for ahead (message_ops.h): a stage stands still only where it needs
 * what is not there yet.
 *
 * The head with its loss belongs to the *backward* of the last chunk, and not to its forward, although both stand in the
 * forward of one device: a head forms its gradient together with the loss (op_head_loss), V C numbers for each micro-batch.
 * At the end of a forward they would have to be kept until the backward comes, m of them with gpipe. For the same reason
 * the head's parameters have their gradient in B, also where W follows. So what is kept is one.
 *
 * Between two chunks that lie on the same stage (the turn of zb-v, or one device alone) nothing is sent: the input is a copy on
 * a tape of its own, and its gradient is copied back. */
#ifndef PIPELINE_H
#define PIPELINE_H

#include "chapters/09_pipeline_parallel/chunks.h"
#include "chapters/09_pipeline_parallel/plan.h"
#include "common/model/not_finite.h"
#include "common/run/profile.h"

typedef struct Pipeline Pipeline;

/* What a stage knows of its layers. */
typedef struct {
    Tensor
        stream; /* what goes from chunk to chunk in training, of one micro-batch: its shape and its places */
    /* A pass as this device makes it (chapter 08's tensor_parallel_pass); NULL: as it is. */
    Pass (*pass)(const void *context, Pass pass);
    /* Behind the sum along `data`: gradients of what this device updates that are not complete yet (its
     * tensor_parallel_finish); NULL: there are none. */
    void (*finish)(const void *context, Params *updated);
    const void *context;
} StageLayers;

/* Every device of the mesh calls it with the same plan, which is one of the chunks' schedule. The model's before_pass must be
 * NULL: a step is one pass. The plan, and what the chunks name, must live as long. */
Pipeline *pipeline_new(const Chunks *chunks, const Plan *plan, const StageLayers *layers);
void pipeline_delete(Pipeline *p);

/* The micro-batches of a step, which are the rows of `batch`, one behind the other: its ids must be there on the stage with the
 * embedding, its targets and the seed on that with the head. first_sample: of the batch's first row. When it returns, this
 * device's gradients are formed, and on_grad_ready has been called for each. */
void pipeline_step(Pipeline *p, const Batch *batch, int64_t first_sample, const Tensor *seed);
/* Of the last step: the loss of each micro-batch, summed over its real targets: (microbatches) TYPE_F64, on the device. For the
 * stage with the head alone. */
const Tensor *pipeline_losses(const Pipeline *p);

/* ---- about the last step ---- */

/* What was done when, by the queue's clock: from when the action's input was there to its end. */
typedef struct {
    Action action;
    double begin, end;
} ActionEvent;
/* Of this device, in order. They stay until the next step. */
const ActionEvent *pipeline_events(const Pipeline *p, int64_t *count);
/* Micro-batches, counted once in each chunk, whose tape held activations: the most at once. */
int64_t pipeline_in_flight(const Pipeline *p);

/* The profile sees what happens on all tapes; NULL: it does not any more. */
void pipeline_watch(Pipeline *p, Profile *profile);
/* For a step that is run again to find the op in which a number was not finite first. */
void pipeline_seek(Pipeline *p, NotFinite *found);
/* For exact bubbles: by the model clock every F takes so many seconds, each half of a B as well, and kernels nothing.
 * 0: kernels take what they take. */
void pipeline_unit_cost(Pipeline *p, double seconds);

#endif
