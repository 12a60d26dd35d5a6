/* batch: windows of a dataset as tensors, the loss on a split, and what it costs when a number
 * is not finite. */
#ifndef BATCH_H
#define BATCH_H

#include "common/comm/comm.h"
#include "common/data/data.h"
#include "common/model/not_finite.h"

/* Where the host makes a batch: pinned, in one piece. */
typedef struct {
    double *real;
    int32_t *ids, *targets;
    QueuePoint copied; /* the device has taken it from there */
} BatchSide;

typedef struct {
    Tensor ids, targets; /* (rows,T) int32 */
    int64_t real;        /* targets that count: not masked */
    BatchSide sides[2];  /* taken in turn: what was loaded may be on its way while the next is made */
    int side;            /* that of the last load */
} Batch;

Batch batch_new(Device *device, int64_t rows, int64_t T);
void batch_free(Batch *batch);
/* Rows first_window .. of the split. Issued: the device copies them by itself. Waits where the load before the last one may be
 * on its way still. */
void batch_load(Batch *batch, const Dataset *data, Split split, int64_t first_window);
/* tokens (1), TYPE_F64 = real, of a batch that was loaded: likewise issued. */
void batch_write_tokens(Batch *batch, Tensor *tokens);
/* Rows first .. first + rows - 1 of a batch: a micro-batch. A view: nothing is copied, `real` is not set. */
Batch batch_rows(const Batch *batch, int64_t first, int64_t rows);

/* A model whose V is 0 takes the data's vocabulary; one whose V is too small for the data is
 * refused, exit 2. */
void model_fit_vocabulary(ModelConfig *model, const Dataset *data);

/* Nats per real token over the first `windows` validation windows (0: all of them), `rows` at a time. comm: ranks with
 * the same model that share the work and get the bits that one of them would; NULL: this device alone. */
double evaluate(Model *model, const Dataset *data, int64_t windows, int64_t rows, Comm *comm);
/* ... of a model that is not on this device as a whole. loss: the sum over the real targets of a batch, (1) TYPE_F64, in a
 * forward on this tape; NULL: another device has it. */
typedef const Tensor *(*BatchLoss)(void *context, Tape *tape, Batch *batch);
double evaluate_by(BatchLoss loss, void *context, const Model *model, const Dataset *data, int64_t windows,
                   int64_t rows, Comm *comm);

/* Ends the program when a step's loss or the norm of its gradient is not finite: loads its windows from
 * pass->first_sample on again, runs them in micro-batches of `rows`, and names the first op in which such a number appears:
 * "forward of linear 'blocks.0.qkv.weight'". A later step may have been issued since: it has changed no weight
 * (step_numbers.h). comm: ranks with slices of the batch, which all know the same loss and norm; the first of them that finds
 * the op speaks. */
void check_finite(Model *model, Batch *batch, const Dataset *data, int64_t rows, const Pass *pass,
                  const StepResult *was, Comm *comm);

#endif
