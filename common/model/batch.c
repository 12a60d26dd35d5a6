#include "common/model/batch.h"

#include "common/model/not_finite.h"

#include <math.h>
#include <stdlib.h>

Batch batch_new(Device *device, int64_t rows, int64_t T) {
    Batch b = {.ids = tensor_new(device, MEMORY_ACTIVATIONS, "batch.ids", TYPE_I32, SHAPE(rows, T)),
               .targets = tensor_new(device, MEMORY_ACTIVATIONS, "batch.targets", TYPE_I32, SHAPE(rows, T))};
    b.ids.constant = b.targets.constant = true;
    b.host_ids = xmalloc((size_t)tensor_bytes(&b.ids));
    b.host_targets = xmalloc((size_t)tensor_bytes(&b.targets));
    return b;
}

void batch_free(Batch *b) {
    tensor_free(&b->ids);
    tensor_free(&b->targets);
    free(b->host_ids);
    free(b->host_targets);
}

/* The targets of the first `seen` rows are masked. */
static void load(Batch *b, const Dataset *data, Split split, int64_t first_window, int64_t seen) {
    int64_t rows = tensor_rows(&b->ids), T = tensor_columns(&b->ids);
#pragma omp parallel for schedule(dynamic)
    for (int64_t r = 0; r < rows; r++)
        data->window(data, split, first_window + r, T, b->host_ids + r * T, b->host_targets + r * T);
    for (int64_t i = 0; i < seen * T; i++) b->host_targets[i] = TARGET_MASKED;
    b->real = 0;
    for (int64_t i = 0; i < rows * T; i++) b->real += b->host_targets[i] >= 0;
    tensor_write(&b->ids, 0, rows * T, b->host_ids);
    tensor_write(&b->targets, 0, rows * T, b->host_targets);
}

void batch_load(Batch *b, const Dataset *data, Split split, int64_t first_window) {
    load(b, data, split, first_window, 0);
}

Batch batch_rows(const Batch *b, int64_t first, int64_t rows) {
    int64_t T = tensor_columns(&b->ids);
    return (Batch){.ids = tensor_view(&b->ids, first * T, SHAPE(rows, T)),
                   .targets = tensor_view(&b->targets, first * T, SHAPE(rows, T))};
}

void model_fit_vocabulary(ModelConfig *model, const Dataset *data) {
    if (model->V == 0) model->V = data->vocab_size;
    CHECK_USAGE(model->V >= data->vocab_size, "leave --vocab-size out to take the data's",
                "--vocab-size %lld is too small for '%s', whose tokens go up to %lld", (long long)model->V,
                data->name, (long long)data->vocab_size - 1);
}

/* Of `rows` windows from `first` on, of `windows`: the sum of their losses, and how many tokens count. */
typedef struct {
    double loss, tokens;
} Part;

static Part evaluate_part(Model *model, const Dataset *data, Tape *tape, Batch *batch, int64_t first,
                          int64_t windows) {
    int64_t rows = tensor_rows(&batch->ids);
    int64_t at = min64(first, windows - rows); /* the last batch starts early, to be a full one */
    load(batch, data, SPLIT_VALIDATION, at, first - at);
    Pass pass = {0};
    Tensor *x = model_embed(model, tape, &batch->ids, &pass);
    x = model_blocks(model, tape, x, 0, model->config.L, &pass);
    Part part = {tensor_scalar(model_loss(model, tape, x, &batch->targets)), (double)batch->real};
    tape_reset(tape);
    return part;
}

double evaluate(Model *model, const Dataset *data, int64_t windows, int64_t rows, Comm *comm) {
    int64_t T = model->config.T, all = data->validation_windows(data, T);
    if (windows == 0 || windows > all) windows = all;
    int64_t count = ceil_div(windows, rows);
    Tape *tape = tape_new(model->device, false);
    Batch batch = batch_new(model->device, min64(rows, windows), T);
    Part *parts = xcalloc((size_t)count, sizeof *parts), sum = {0, 0};
    int64_t ranks = comm ? comm->size : 1;
    /* all make as many passes: they may gather weights together */
    for (int64_t k = 0; k < count; k += ranks) {
        int64_t i = k + (comm ? comm->rank : 0);
        Part part = evaluate_part(model, data, tape, &batch, min64(i, count - 1) * rows, windows);
        if (i < count) parts[i] = part;
    }
    if (comm) /* a sum with zeros is exact: all get all parts, and add them up in one order */
        comm_all_reduce(comm, &model->device->queue, parts, parts, 2 * count, TYPE_F64, REDUCE_SUM);
    for (int64_t i = 0; i < count; i++) {
        sum.loss += parts[i].loss;
        sum.tokens += parts[i].tokens;
    }
    free(parts);
    batch_free(&batch);
    tape_delete(tape);
    return sum.loss / sum.tokens;
}

/* ---- a number that is not finite ---- */

/* Runs the batch again; the op in which such a number appears first, or NULL. */
static char *first_not_finite(Model *model, const Batch *batch, int64_t rows, const Pass *pass) {
    char *found = NULL;
    Tape *tape = tape_new(model->device, true);
    tape->observer = not_finite_observer(&found);
    model->recompute = false;  /* every op in sight ... */
    model->device->budget = 0; /* ... which takes more memory than the step did */
    model->params.on_grad_ready = NULL;
    Tensor seed = tensor_new(model->device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&seed, 1.0 / (double)batch->real);
    /* all of it, whatever is found: another device, with which this one gathers weights, may find something later */
    for (int64_t first = 0; first < tensor_rows(&batch->ids); first += rows) {
        Batch part = batch_rows(batch, first, rows);
        Pass again = *pass;
        again.first_sample += first;
        Tensor *x = model_embed(model, tape, &part.ids, &again);
        x = model_blocks(model, tape, x, 0, model->config.L, &again);
        tape_backward(tape, model_loss(model, tape, x, &part.targets), &seed);
        tape_reset(tape);
    }
    return found;
}

/* Of the ranks that have found something the first; rank 0 when none has. All but that one end here, with status 0:
 * mpiexec kills those who are left when one ends with another, and returns the status of the one that speaks. */
static void leave_to_first(Comm *comm, bool found) {
    int32_t first = found ? -comm->rank : -comm->size;
    comm_all_reduce(comm, NULL, &first, &first, 1, TYPE_I32, REDUCE_MAX);
    bool speaks = comm->rank == -first || (-first == comm->size && comm->rank == 0);
    while (comm->parent) comm = comm->parent;
    comm_close(comm);
    if (!speaks) exit(0);
}

void check_finite(Model *model, const Batch *batch, int64_t rows, const Pass *pass, int64_t step, double loss,
                  double grad_norm, Comm *comm) {
    if (isfinite(loss) && isfinite(grad_norm)) return;
    char *found = first_not_finite(model, batch, rows, pass);
    if (comm) leave_to_first(comm, found);
    fail(1, "try a smaller --learning-rate, or --grad-clip 1",
         "step %lld: the loss is %g and the norm of its gradient %g; first in the %s", (long long)step,
         fabs(loss), fabs(grad_norm), found ? found : "sum over micro-batches");
}
