#include "common/batch.h"

#include "common/not_finite.h"

#include <math.h>

Batch batch_new(Device *device, int64_t rows, int64_t T) {
    Batch b = {.ids = tensor_new(device, MEMORY_ACTIVATIONS, "batch.ids", TYPE_I32, SHAPE(rows, T)),
               .targets = tensor_new(device, MEMORY_ACTIVATIONS, "batch.targets", TYPE_I32, SHAPE(rows, T))};
    b.ids.constant = b.targets.constant = true;
    return b;
}

void batch_free(Batch *b) {
    tensor_free(&b->ids);
    tensor_free(&b->targets);
}

void batch_load(Batch *b, const Dataset *data, Split split, int64_t first_window) {
    int64_t rows = tensor_rows(&b->ids), T = tensor_columns(&b->ids);
#pragma omp parallel for schedule(dynamic)
    for (int64_t r = 0; r < rows; r++)
        data->window(data, split, first_window + r, T, tensor_ints(&b->ids) + r * T,
                     tensor_ints(&b->targets) + r * T);
    b->real = 0;
    for (int64_t i = 0; i < rows * T; i++) b->real += tensor_ints(&b->targets)[i] >= 0;
}

Batch batch_rows(const Batch *b, int64_t first, int64_t rows) {
    Batch part = *b;
    int64_t T = tensor_columns(&b->ids);
    part.ids.shape = part.targets.shape = SHAPE(rows, T);
    part.ids.data = tensor_ints(&b->ids) + first * T;
    part.targets.data = tensor_ints(&b->targets) + first * T;
    return part;
}

void model_fit_vocabulary(ModelConfig *model, const Dataset *data) {
    if (model->V == 0) model->V = data->vocab_size;
    CHECK_USAGE(model->V >= data->vocab_size, "leave --vocab-size out to take the data's",
                "--vocab-size %lld is too small for '%s', whose tokens go up to %lld", (long long)model->V,
                data->name, (long long)data->vocab_size - 1);
}

double evaluate(Model *model, const Dataset *data, int64_t windows, int64_t rows) {
    int64_t T = model->config.T, all = data->validation_windows(data, T);
    if (windows == 0 || windows > all) windows = all;
    Tape *tape = tape_new(model->device, false);
    Batch batch = batch_new(model->device, min64(rows, windows), T);
    Pass pass = {0};
    double sum = 0;
    int64_t real_tokens = 0;
    for (int64_t first = 0; first < windows; first += rows) {
        int64_t at =
            min64(first, max64(windows - rows, 0)); /* the last batch starts early, to be a full one */
        batch_load(&batch, data, SPLIT_VALIDATION, at);
        for (int64_t i = 0; i < (first - at) * T; i++) { /* rows seen before */
            batch.real -= tensor_ints(&batch.targets)[i] >= 0;
            tensor_ints(&batch.targets)[i] = TARGET_MASKED;
        }
        Tensor *x = model_embed(model, tape, &batch.ids, &pass);
        x = model_blocks(model, tape, x, 0, model->config.L, &pass);
        sum += tensor_scalar(model_loss(model, tape, x, &batch.targets));
        real_tokens += batch.real;
        tape_reset(tape);
    }
    batch_free(&batch);
    tape_delete(tape);
    return sum / (double)real_tokens;
}

/* ---- a number that is not finite ---- */

void check_finite(Model *model, const Batch *batch, int64_t rows, const Pass *pass, int64_t step, double loss,
                  double grad_norm) {
    if (isfinite(loss) && isfinite(grad_norm)) return;
    char *found = NULL;
    Tape *tape = tape_new(model->device, true);
    tape->observer = not_finite_observer(&found);
    model->recompute = false;  /* every op in sight ... */
    model->device->budget = 0; /* ... which takes more memory than the step did */
    Tensor seed = tensor_new(model->device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&seed, 1.0 / (double)batch->real);
    for (int64_t first = 0; !found && first < tensor_rows(&batch->ids); first += rows) {
        Batch part = batch_rows(batch, first, rows);
        Pass again = *pass;
        again.first_sample += first;
        params_begin_microbatch(&model->params, 0, 1);
        Tensor *x = model_embed(model, tape, &part.ids, &again);
        x = model_blocks(model, tape, x, 0, model->config.L, &again);
        tape_backward(tape, model_loss(model, tape, x, &part.targets), &seed);
        tape_reset(tape);
    }
    fail(1, "try a smaller --learning-rate, or --grad-clip 1",
         "step %lld: the loss is %g and the norm of its gradient %g; first in the %s", (long long)step,
         fabs(loss), fabs(grad_norm), found ? found : "sum over micro-batches");
}
