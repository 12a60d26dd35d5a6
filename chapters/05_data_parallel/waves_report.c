#include "chapters/05_data_parallel/waves_report.h"

#include "common/draw/loss_plot.h"
#include "common/model/optim.h"
#include "datasets/waves.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

Config waves_config(const Config *config, const WavesTask *task) {
    Config c = *config;
    c.optimizer = OPTIMIZER_ADAMW;
    c.learning_rate = 1e-2;
    c.min_lr = 0;
    c.warmup_ratio = 0.05;
    c.beta2 = 0.999;
    c.weight_decay = 1e-4;
    c.max_steps = task->steps;
    return c;
}

void waves_check_shared(const WavesTask *task, Comm *world, int devices) {
    if (task->batch % devices)
        comm_refuse(world, xprintf("--mlp-batch %" PRId64 " would", (task->batch / devices + 1) * devices),
                    xprintf("--mlp-batch %" PRId64 " cannot be shared by %d devices", task->batch, devices));
}

void waves_print_task(const WavesTask *task, int64_t parameters) {
    printf("network %d-%" PRId64 "-%d, %" PRId64 " parameters; %" PRId64 " steps of %" PRId64 " waves",
           WAVE_POINTS, task->hidden, WAVE_POINTS, parameters, task->steps, task->batch);
}

/* ---- a training ---- */

WavesRecord waves_record_new(const Config *config, const WavesTask *task, const char *folder, char *name,
                             bool writes) {
    WavesRecord record = {.config = config,
                          .task = task,
                          .name = name,
                          .folder = xprintf("%s/%s", config->output_dir, folder),
                          .losses = xmalloc((size_t)task->steps * sizeof(double))};
    if (!writes) return record;
    file_make_folder(record.folder);
    record.metrics = metrics_create(record.folder);
    return record;
}

void waves_record_step(WavesRecord *record, double loss, double seconds) {
    int64_t batch = record->task->batch, step = record->count++;
    record->losses[step] = loss;
    MetricsRow row = {.step = step + 1,
                      .tokens = (step + 1) * batch,
                      .loss = loss,
                      .val_loss = NAN,
                      .lr = schedule_lr(record->config, step),
                      .grad_norm = NAN,
                      .step_ms = 1e3 * seconds,
                      .tokens_per_s = (double)batch / seconds};
    if (record->metrics) metrics_write(record->metrics, &row);
}

void waves_record_free(WavesRecord *record) {
    if (record->metrics) metrics_close(record->metrics);
    free(record->name);
    free(record->folder);
    free(record->losses);
}

/* ---- two of them ---- */

double waves_print_losses(const WavesRecord *a, const WavesRecord *b) {
    double largest = 0;
    printf("%6s  %20s  %14s\n", "step", a->name, b->name);
    for (int64_t step = 0; step < a->count; step++) {
        double difference = fabs(a->losses[step] - b->losses[step]);
        if (!(difference <= largest)) largest = difference; /* NAN stays */
        if (step % 100 == 0 || step == a->count - 1)
            printf("%6" PRId64 "  %20.6f  %14.6f\n", step, a->losses[step], b->losses[step]);
    }
    printf("largest difference of the losses: %g\n", largest);
    return largest;
}

void waves_draw_losses(const WavesRecord *a, const WavesRecord *b) {
    LossCurve curves[] = {{a->name, a->folder, WAVE_NOISE_FLOOR, NAN},
                          {b->name, b->folder, WAVE_NOISE_FLOOR, NAN}};
    LossPlot plot = {.title = "A network on noisy waves: loss by step",
                     .y_label = "mean squared error",
                     .floor_label = "noise floor",
                     .runs = curves,
                     .run_count = COUNT_OF(curves),
                     .log_y = true,
                     .difference = true};
    char *path = xprintf("%s/waves.png", a->config->output_dir);
    plot_loss(&plot, path);
    free(path);
}
