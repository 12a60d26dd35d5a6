/* TEST variants: double
 * Dropout: its share and scale, the same mask however the batch is cut, and in whole models the slope along
 * one random direction through all weights, by finite differences as in test_gradients.c. */
#include "tests/tap.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/tensors.h"
#include "tests/training.h"

static void share_and_scale(void) {
    enum { COUNT = 40000 };
    Device *device = device_new_cpu(0);
    Tape *tape = tape_new(device, false);
    Tensor *x = tape_tensor(tape, "x", TYPE_REAL, SHAPE(COUNT), NULL);
    fill_constant(x, 1);
    DropoutSite site = {0.3, 7, rng_stream("dropout"), 0, 0};
    real *y = tensor_to_host(op_dropout(tape, x, site));
    int dropped = 0, kept = 0;
    for (int i = 0; i < COUNT; i++) dropped += y[i] == 0, kept += y[i] == (real)(1 / 0.7);
    ok(dropped + kept == COUNT, "each element is 0 or 1 / (1 - rate)");
    double deviation = sqrt(0.3 * 0.7 / COUNT);
    ok(fabs(dropped / (double)COUNT - 0.3) < 4 * deviation, "%.4f are dropped at rate 0.3",
       dropped / (double)COUNT);
    ok(op_dropout(tape, x, (DropoutSite){0}) == x, "rate 0 gives x itself");
    free(y);
    tape_delete(tape);
    device_delete(device);
}

/* Of windows (T,C), this device has the tokens from..: each element draws the number that it draws in the whole. */
static void slices_of_windows(void) {
    enum { B = 3, T = 10, C = 7, FIRST = 5, WINDOW = T * C };
    Device *device = device_new_cpu(0);
    Tape *tape = tape_new(device, false);
    Tensor *x = tape_tensor(tape, "x", TYPE_REAL, SHAPE(B, T, C), NULL);
    fill_normal(x, 5, 1, 1);
    DropoutSite site = {0.3, 7, rng_stream("dropout"), FIRST, 0};
    const Tensor *whole = op_dropout(tape, x, site);
    site.window = WINDOW;
    ok(same_elements(op_dropout(tape, x, site), whole),
       "dropout of whole windows: where they lie is no matter");
    static const int64_t from[] = {0, 3, 3, 9, 10}; /* also none */
    for (int i = 0; i + 1 < COUNT_OF(from); i++) {
        int64_t count = from[i + 1] - from[i];
        Tensor *slice = tape_tensor(tape, "slice", TYPE_REAL, SHAPE(B, count, C), NULL),
               *want = tape_tensor(tape, "want", TYPE_REAL, SHAPE(B, count, C), NULL);
        KERNELS(tape)->copy_slice(QUEUE(tape), x, from[i], slice, 0, 1, count, false);
        KERNELS(tape)->copy_slice(QUEUE(tape), whole, from[i], want, 0, 1, count, false);
        site.first = FIRST + from[i] * C;
        ok(same_elements(op_dropout(tape, slice, site), want), "... of tokens %d to %d of each", (int)from[i],
           (int)from[i + 1]);
    }
    tape_delete(tape);
    device_delete(device);
}

/* Moves all weights by h along a direction of uniform numbers in [-1, 1). */
static void move(Training *t, double h) {
    const Params *params = &t->model->params;
    for (int i = 0; i < params->count; i++) {
        Tensor *w = &params->items[i]->data;
        uint64_t stream = rng_stream(params->items[i]->name);
        for (int64_t j = 0; j < tensor_count(w); j++)
            set_real_at(w, j, real_at(w, j) + (real)(h * (2 * rng_uniform(9, stream, (uint64_t)j) - 1)));
    }
}

static double loss_at(Training *t, double h) {
    move(t, h);
    double loss = training_gradient(t, 3);
    move(t, -h);
    return loss;
}

static double slope_from_gradient(Training *t) {
    const Params *params = &t->model->params;
    double sum = 0;
    for (int i = 0; i < params->count; i++) {
        const Tensor *g = &params->items[i]->grad[0];
        uint64_t stream = rng_stream(params->items[i]->name);
        for (int64_t j = 0; j < tensor_count(g); j++)
            sum += real_at(g, j) * (2 * rng_uniform(9, stream, (uint64_t)j) - 1);
    }
    return sum;
}

static void model_with_dropout(Config config, const char *name) {
    Training t = training_new(&config, config.model.T, 1, 0.2);
    const double h = 1e-4;
    double by_differences =
        (8 * (loss_at(&t, h) - loss_at(&t, -h)) - (loss_at(&t, 2 * h) - loss_at(&t, -2 * h))) / (12 * h);
    double loss = loss_at(&t, 0), slope = slope_from_gradient(&t), norm = optimizer_grad_norm(t.optimizer);
    ok(fabs(slope - by_differences) <= 1e-8 * norm,
       "%s: slope %.10g, by differences %.10g, gradient norm %.3g", name, slope, by_differences, norm);

    t.config.micro_batch = 1, t.config.num_microbatches = config.global_batch;
    double one_by_one = training_gradient(&t, 3);
    ok(fabs(loss - one_by_one) <= 1e-13 * loss,
       "%s: the same masks one window at a time: loss %.15g and %.15g", name, loss, one_by_one);
    t.model->config.dropout = 0;
    double without = training_gradient(&t, 3);
    ok(fabs(without - loss) > 1e-3, "%s: loss %.6f, without dropout %.6f", name, loss, without);
    training_delete(&t);
}

int main(void) {
    share_and_scale();
    slices_of_windows();
    Config config = *config_preset("tiny");
    config.model = (ModelConfig){.V = 67,
                                 .C = 24,
                                 .F = 40,
                                 .L = 2,
                                 .H = 6,
                                 .K = 2,
                                 .T = 13,
                                 .bias = true,
                                 .dropout = 0.3,
                                 .norm_eps = 1e-5,
                                 .init = INIT_XAVIER,
                                 .tied = true,
                                 .norm_place = NORM_POST,
                                 .activation = ACTIVATION_GELU};
    config.micro_batch = 2, config.num_microbatches = 2, config.global_batch = 4;
    model_with_dropout(config, "post-norm");
    config.model.norm_place = NORM_PRE;
    config.model.positions = POSITIONS_ROPE;
    config.model.norm = NORM_RMSNORM;
    config.model.activation = ACTIVATION_SWIGLU;
    config.recompute = true;
    model_with_dropout(config, "pre-norm, recomputed");
    return tap_done();
}
