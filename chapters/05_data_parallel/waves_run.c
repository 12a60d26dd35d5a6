#include "chapters/05_data_parallel/waves_run.h"

#include "chapters/05_data_parallel/data_parallel.h"
#include "common/draw/loss_plot.h"
#include "common/run/metrics.h"
#include "common/model/mlp.h"
#include "common/model/optim.h"
#include "datasets/waves.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The network and what trains it: `parts` slices of the batch, spread over the ranks of comm. */
typedef struct {
    Config config;
    Comm *comm;
    Device *device;
    int64_t parts, part; /* part: waves in each */
    Mlp *mlp;
    DataParallel *dp;
    Optimizer *optimizer;
    Tape *tape;
    Waves waves;
    Tensor seed;
} Fit;

static Fit fit_new(const DpOptions *options, const Config *config, Comm *comm, Device *device,
                   int64_t parts) {
    Fit f = {
        .config = *config, .comm = comm, .device = device, .parts = parts, .part = options->waves / parts};
    f.mlp = mlp_new(device, WAVE_POINTS, options->hidden, WAVE_POINTS, config->seed);
    f.dp = data_parallel_new(&f.mlp->params, comm, config->overlap, config->bucket_size);
    f.optimizer = optimizer_new(&f.mlp->params, config);
    f.tape = tape_new(device, true);
    f.waves = waves_new(device, f.part);
    f.seed = tensor_new(device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&f.seed, 1.0 / (double)(options->waves * WAVE_POINTS)); /* the loss is a mean */
    return f;
}

static void fit_free(Fit *f) {
    tensor_free(&f->seed);
    waves_free(&f->waves);
    tape_delete(f->tape);
    optimizer_delete(f->optimizer);
    data_parallel_delete(f->dp);
    mlp_delete(f->mlp);
}

/* One step: the mean squared error of the whole batch. */
static double fit_step(Fit *f, int64_t step) {
    int64_t own = f->parts / f->comm->size, first = f->comm->rank * own;
    double loss = 0, all = (double)(f->parts * f->part * WAVE_POINTS);
    for (int64_t i = 0; i < own; i++) {
        waves_load(&f->waves, f->config.seed, SPLIT_TRAIN, (step * f->parts + first + i) * f->part);
        tape_begin_microbatch(f->tape, i, own);
        Tensor *error = op_squared_error(f->tape, mlp_forward(f->mlp, f->tape, &f->waves.x), &f->waves.y);
        loss += tensor_scalar(error) / all;
        tape_backward(f->tape, error, &f->seed);
        tape_reset(f->tape);
    }
    data_parallel_finish(f->dp);
    comm_all_reduce(f->comm, &f->device->queue, &loss, &loss, 1, TYPE_F64, REDUCE_SUM);
    optimizer_step(f->optimizer, schedule_lr(&f->config, step), 1);
    return loss;
}

/* Fills losses (max_steps); the rows go to folder/loss.csv unless it is NULL. */
static void fit_train(Fit *f, double *losses, const char *folder) {
    if (folder) file_make_folder(folder);
    Metrics *metrics = folder ? metrics_create(folder) : NULL;
    for (int64_t step = 0; step < f->config.max_steps; step++) {
        double began = now_seconds();
        losses[step] = fit_step(f, step);
        double seconds = now_seconds() - began, waves = (double)(f->parts * f->part);
        MetricsRow row = {.step = step + 1,
                          .tokens = (step + 1) * f->parts * f->part,
                          .loss = losses[step],
                          .val_loss = NAN,
                          .lr = schedule_lr(&f->config, step),
                          .grad_norm = NAN,
                          .step_ms = 1e3 * seconds,
                          .tokens_per_s = waves / seconds};
        if (metrics) metrics_write(metrics, &row);
    }
    if (metrics) metrics_close(metrics);
}

static void draw(Fit *f, const char *const folders[2], const char *const names[2]) {
    LossCurve curves[2];
    for (int i = 0; i < 2; i++) curves[i] = (LossCurve){names[i], folders[i], WAVE_NOISE_FLOOR, NAN};
    LossPlot plot = {.title = "A network on noisy waves: loss by step",
                     .y_label = "mean squared error",
                     .floor_label = "noise floor",
                     .runs = curves,
                     .run_count = 2,
                     .log_y = true,
                     .difference = true};
    char *path = xprintf("%s/waves.png", f->config.output_dir);
    plot_loss(&plot, path);
    free(path);
    waves_load(&f->waves, f->config.seed, SPLIT_VALIDATION, 0);
    waves_draw(&f->waves, mlp_forward(f->mlp, f->tape, &f->waves.x), f->config.output_dir);
    tape_reset(f->tape);
}

/* A line for every hundredth step and the last; true: the same bits in all of them. */
static bool print_losses(const double *all, const double *one, int64_t steps, int devices) {
    double largest = 0;
    printf("%6s  %12d devices  %14s\n", "step", devices, "one device");
    for (int64_t step = 0; step < steps; step++) {
        largest = fmax(largest, fabs(all[step] - one[step]));
        if (step % 100 == 0 || step == steps - 1)
            printf("%6" PRId64 "  %20.6f  %14.6f\n", step, all[step], one[step]);
    }
    printf("largest difference of the losses: %g\n", largest);
    return memcmp(all, one, (size_t)steps * sizeof *all) == 0;
}

bool waves_run(const DpOptions *options, Comm *comm, Device *device) {
    int n = comm->size;
    Config config = options->run;
    config.optimizer = OPTIMIZER_ADAMW;
    config.learning_rate = 1e-2;
    config.min_lr = 0;
    config.warmup_ratio = 0.05;
    config.beta2 = 0.999;
    config.weight_decay = 1e-4;
    config.max_steps = options->wave_steps;
    if (options->waves % n)
        comm_refuse(comm, xprintf("--mlp-batch %" PRId64 " would", (options->waves / n + 1) * n),
                    xprintf("--mlp-batch %" PRId64 " cannot be shared by %d devices", options->waves, n));

    size_t bytes = (size_t)config.max_steps * sizeof(double);
    double *all = xmalloc(bytes), *one = xmalloc(bytes);
    char *folders[2] = {xprintf("%s/devices", config.output_dir), xprintf("%s/one", config.output_dir)};
    char *names[2] = {xprintf("%d devices", n), xstrdup("one device")};
    Fit f = fit_new(options, &config, comm, device, n);
    printf("network %d-%" PRId64 "-%d, %" PRId64 " parameters; %" PRId64 " steps of %" PRId64
           " waves, %" PRId64 " on each of %d devices\n",
           WAVE_POINTS, options->hidden, WAVE_POINTS, params_count(&f.mlp->params), config.max_steps,
           options->waves, f.part, n);
    fit_train(&f, all, comm->rank == 0 ? folders[0] : NULL);
    data_parallel_check(f.dp);
    fit_free(&f);

    bool same = true;
    if (comm->rank == 0) {
        Comm *alone = comm_self();
        f = fit_new(options, &config, alone, device, n);
        fit_train(&f, one, folders[1]);
        same = print_losses(all, one, config.max_steps, n);
        draw(&f, (const char *const *)folders, (const char *const *)names);
        fit_free(&f);
        comm_close(alone);
    }
    comm_barrier(comm, NULL);
    for (int i = 0; i < 2; i++) {
        free(folders[i]);
        free(names[i]);
    }
    free(all);
    free(one);
    return same;
}
