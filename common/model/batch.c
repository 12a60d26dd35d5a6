#include "common/model/batch.h"

#include "common/tensor/kernels.h"

#include <stdlib.h>

Batch batch_new(Device *device, int64_t rows, int64_t T) {
    Batch b = {.ids = tensor_new(device, MEMORY_ACTIVATIONS, "batch.ids", TYPE_I32, SHAPE(rows, T)),
               .targets = tensor_new(device, MEMORY_ACTIVATIONS, "batch.targets", TYPE_I32, SHAPE(rows, T))};
    b.ids.constant = b.targets.constant = true;
    for (int i = 0; i < COUNT_OF(b.sides); i++) {
        BatchSide *side = &b.sides[i];
        side->real = device_pin(device, (int64_t)sizeof *side->real + 2 * tensor_bytes(&b.ids));
        side->ids = (int32_t *)(side->real + 1);
        side->targets = side->ids + rows * T;
    }
    return b;
}

/* Until the device has copied what was loaded there. */
static void wait_for(const Batch *b, BatchSide *side) {
    device_reach(b->ids.device, side->copied);
    side->copied = (QueuePoint){0};
}

void batch_free(Batch *b) {
    for (int i = 0; i < COUNT_OF(b->sides); i++) {
        wait_for(b, &b->sides[i]);
        device_unpin(b->ids.device, b->sides[i].real);
    }
    tensor_free(&b->ids);
    tensor_free(&b->targets);
}

/* The targets of the first `seen` rows are masked. */
static void load(Batch *b, const Dataset *data, Split split, int64_t first_window, int64_t seen) {
    int64_t rows = tensor_rows(&b->ids), T = tensor_columns(&b->ids);
    b->side = !b->side;
    BatchSide *side = &b->sides[b->side];
    wait_for(b, side);
#pragma omp parallel for schedule(dynamic)
    for (int64_t r = 0; r < rows; r++) {
        int64_t window = first_window + r;
        if (split == SPLIT_TRAIN && data->train_windows) window %= data->train_windows;
        data->window(data, split, window, T, side->ids + r * T, side->targets + r * T);
    }
    for (int64_t i = 0; i < seen * T; i++) side->targets[i] = TARGET_MASKED;
    b->real = 0;
    for (int64_t i = 0; i < rows * T; i++) b->real += side->targets[i] >= 0;
    *side->real = (double)b->real;
    tensor_start_write(&b->ids, 0, rows * T, side->ids);
    tensor_start_write(&b->targets, 0, rows * T, side->targets);
    side->copied = device_point(b->ids.device);
}

void batch_load(Batch *b, const Dataset *data, Split split, int64_t first_window) {
    load(b, data, split, first_window, 0);
}

void batch_write_tokens(Batch *b, Tensor *tokens) {
    BatchSide *side = &b->sides[b->side];
    tensor_start_write(tokens, 0, 1, side->real);
    device_drop(b->ids.device, side->copied.mark);
    side->copied = device_point(b->ids.device);
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

/* Issued: `rows` windows from `first` on, of `windows`. The sum of their losses goes to `sum`, on the device; NULL: nobody
 * wants it. Returns how many tokens count. */
static int64_t evaluate_part(BatchLoss loss, void *context, const Dataset *data, Tape *tape, Batch *batch,
                             int64_t first, int64_t windows, Tensor *sum) {
    int64_t rows = tensor_rows(&batch->ids);
    int64_t at = min64(first, windows - rows); /* the last batch starts early, to be a full one */
    load(batch, data, SPLIT_VALIDATION, at, first - at);
    const Tensor *mine = loss(context, tape, batch);
    if (mine && sum) sum->device->kernels->copy(&sum->device->queue, mine, sum);
    tape_reset(tape);
    return batch->real;
}

double evaluate_by(BatchLoss loss, void *context, const Model *model, const Dataset *data, int64_t windows,
                   int64_t rows, Comm *comm) {
    Device *device = model->device;
    int64_t T = model->config.T, all = data->validation_windows(data, T);
    if (windows == 0 || windows > all) windows = all;
    int64_t count = ceil_div(windows, rows), ranks = comm ? comm->size : 1;
    Tape *tape = tape_new(device, false);
    Batch batch = batch_new(device, min64(rows, windows), T);
    Tensor losses = tensor_new(device, MEMORY_ACTIVATIONS, "losses", TYPE_F64, SHAPE(count));
    device->kernels->zero(&device->queue, &losses);
    double *parts = xcalloc(2 * (size_t)count, sizeof *parts), *tokens = parts + count;
    /* all make as many passes: they may gather weights together */
    for (int64_t k = 0; k < count; k += ranks) {
        int64_t i = k + (comm ? comm->rank : 0);
        Tensor sum = tensor_view(&losses, min64(i, count - 1), SHAPE(1));
        int64_t real_tokens = evaluate_part(loss, context, data, tape, &batch, min64(i, count - 1) * rows,
                                            windows, i < count ? &sum : NULL);
        if (i < count) tokens[i] = (double)real_tokens;
    }
    /* until here the host has waited for copies at most, two batches behind */
    tensor_read(&losses, 0, count, parts);
    Queue host = queue_of_host(&device->queue);
    if (comm) /* a sum with zeros is exact: all get all parts, and add them up in one order */
        comm_all_reduce(comm, &host, parts, parts, 2 * count, TYPE_F64, REDUCE_SUM);
    double nats = 0, counted = 0;
    for (int64_t i = 0; i < count; i++) {
        nats += parts[i];
        counted += tokens[i];
    }
    free(parts);
    tensor_free(&losses);
    batch_free(&batch);
    tape_delete(tape);
    return nats / counted;
}

static const Tensor *model_batch_loss(void *context, Tape *tape, Batch *batch) {
    Model *model = context;
    Pass pass = {0};
    Tensor *x = model_embed(model, tape, &batch->ids, &pass);
    x = model_blocks(model, tape, x, 0, model->config.L, &pass);
    return model_loss(model, tape, x, &batch->targets);
}

double evaluate(Model *model, const Dataset *data, int64_t windows, int64_t rows, Comm *comm) {
    return evaluate_by(model_batch_loss, model, model, data, windows, rows, comm);
}

/* ---- a number that is not finite ---- */

void check_finite(Model *model, Batch *batch, const Dataset *data, int64_t rows, const Pass *pass,
                  const StepResult *was, Comm *comm) {
    if (step_is_finite(was)) return;
    NotFinite found = {0};
    batch_load(batch, data, SPLIT_TRAIN, pass->first_sample);
    Tape *tape = tape_new(model->device, true);
    tape->observer = not_finite_observer(&found);
    not_finite_prepare(model);
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
    not_finite_fail(&found, was, comm);
}
