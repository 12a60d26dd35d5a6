/* Chapter 01: what everything later stands on, in four parts.
 *
 *   gemm    the product of matrices, from the definition to a library, each rung checked, then timed
 *   tape    tensors, operations, the tape that remembers them, and memory, small enough for a pencil
 *   check   the gradients of a two-layer network against finite differences
 *   train   that network fitted to noisy waves, and the error that no model can pass
 *
 *   make ch01                                              all four, under a minute on two cores
 *   build/01_autograd --part gemm --gemm-sizes 1000        one part
 *   build-double/01_autograd --part check                  in double precision (make REAL=double)
 *
 * Pictures, loss.csv and report.json go to runs/01_autograd. */
#include "chapters/01_autograd/gradcheck.h"
#include "chapters/01_autograd/ladder.h"
#include "chapters/01_autograd/options.h"
#include "chapters/01_autograd/tour.h"
#include "common/base/interrupt.h"
#include "common/config/args.h"
#include "common/draw/loss_plot.h"
#include "common/draw/pictures.h"
#include "common/run/machine.h"
#include "common/run/metrics.h"
#include "common/model/mlp.h"
#include "common/model/not_finite.h"
#include "common/model/step_numbers.h"
#include "common/run/progress.h"
#include "common/run/report.h"
#include "datasets/waves.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static Options options;

/* ---- the model and its loss ---- */

typedef struct {
    Mlp *mlp;
    Waves waves;
} Problem;

static Problem problem_new(Device *device, int64_t waves) {
    return (Problem){mlp_new(device, WAVE_POINTS, options.hidden, WAVE_POINTS, options.run.seed),
                     waves_new(device, waves)};
}

static void problem_free(Problem *p) {
    waves_free(&p->waves);
    mlp_delete(p->mlp);
}

static Tensor *squared_error(void *problem, Tape *tape) {
    Problem *p = problem;
    return op_squared_error(tape, mlp_forward(p->mlp, tape, &p->waves.x), &p->waves.y);
}

/* ---- check ---- */

static bool check_gradients(void) {
    enum { WAVES = 16 };
    Device *device = machine_device(&options.run);
    Problem p = problem_new(device, WAVES);
    waves_load(&p.waves, options.run.seed, SPLIT_TRAIN, 0);
    GradCheck *checks = xcalloc((size_t)(p.mlp->params.count * options.check_each), sizeof *checks);
    int count = gradcheck(&p.mlp->params, squared_error, &p, options.check_step, (int)options.check_each,
                          options.run.seed, checks);
    bool passed = gradcheck_print(checks, count, options.check_step, options.check_tolerance);
    free(checks);
    problem_free(&p);
    device_delete(device);
    return passed;
}

/* ---- train ---- */

static void draw_loss(bool behind) {
    LossCurve curve = {"mlp", options.run.output_dir, WAVE_NOISE_FLOOR, NAN};
    LossPlot plot = {.title = "Two-layer network on noisy waves: loss by step",
                     .y_label = "mean squared error",
                     .floor_label = "noise floor",
                     .runs = &curve,
                     .run_count = 1,
                     .log_y = true,
                     .behind = behind};
    char *path = xprintf("%s/loss.png", options.run.output_dir);
    plot_loss(&plot, path);
    free(path);
}

/* The same model on waves that it is never trained on. */
static double validate(Device *device, const Mlp *mlp, Waves *waves) {
    Tape *tape = tape_new(device, false);
    double error = waves_error(waves, mlp_forward(mlp, tape, &waves->x));
    tape_delete(tape);
    return error;
}

_Noreturn static void fail_not_finite(Device *device, Problem *p, const Tensor *seed, const MetricsRow *row) {
    NotFinite found = {0};
    Tape *tape = tape_new(device, true);
    tape->observer = not_finite_observer(&found);
    tape_backward(tape, squared_error(p, tape), seed);
    fail(1, "try a smaller --learning-rate",
         "step %" PRId64 ": the loss is %g, the norm of its gradient %g, first in the %s", row->step,
         fabs(row->loss), fabs(row->grad_norm), found.op ? found.op : "sum of squares");
}

/* One step: the squared error of a batch, its gradient, an update. */
static void train_step(Problem *p, Tape *tape, Optimizer *optimizer, StepNumbers *numbers, MetricsRow *row) {
    const Config *c = &options.run;
    waves_load(&p->waves, c->seed, SPLIT_TRAIN, (row->step - 1) * c->global_batch);
    step_begin(numbers, NULL, NULL);
    Tensor *loss = squared_error(p, tape);
    step_add_loss(numbers, loss);
    tape_backward(tape, loss, &numbers->seed);
    tape_reset(tape);

    row->lr = schedule_lr(c, row->step - 1);
    step_clip(numbers, optimizer, &(NormGroups){0}, 0); /* its norm is told, and not cut */
    optimizer_step(optimizer, row->lr, &numbers->clip);
    step_start_read(numbers, row->step, 0);
    StepResult was = step_read(numbers);
    row->loss = was.loss;
    row->grad_norm = was.grad_norm;
    if (!step_is_finite(&was)) fail_not_finite(tape->device, p, &numbers->seed, row);
}

static bool every(int64_t interval, int64_t step) { return interval > 0 && step % interval == 0; }

/* Trains the network; returns the last row, whose val_loss is that of the trained network. */
static MetricsRow train(Device *device, Problem *p, Waves *validation) {
    const Config *c = &options.run;
    Optimizer *optimizer = optimizer_new(&p->mlp->params, c);
    Metrics *metrics = metrics_create(c->output_dir);
    int64_t last = c->stop_at_step ? c->stop_at_step : c->max_steps;
    Progress *progress = progress_start(stdout, 0, last, c->log_interval);
    Tape *tape = tape_new(device, true);
    StepNumbers numbers = step_numbers_new(device);
    step_set_tokens(&numbers, (double)tensor_count(&p->waves.y)); /* the loss is a mean */
    MetricsRow row = metrics_row(0, 0);
    row.val_loss = validate(device, p->mlp, validation);
    metrics_write(metrics, &row);
    progress_note(progress, "validation loss before training %.4f", row.val_loss);
    bool done = false;
    while (!done) {
        double began = now_seconds();
        row.step++;
        train_step(p, tape, optimizer, &numbers, &row);
        double seconds = now_seconds() - began;

        done = row.step == last || interrupt_requested();
        row.tokens = row.step * c->global_batch;
        row.step_ms = 1e3 * seconds;
        row.tokens_per_s = (double)c->global_batch / seconds;
        row.val_loss = done || every(c->eval_interval, row.step) ? validate(device, p->mlp, validation) : NAN;
        metrics_write(metrics, &row);
        progress_step(progress, &row);
        if (every(c->log_interval, row.step) && !done) draw_loss(true);
    }
    progress_end(progress);
    step_numbers_free(&numbers);
    tape_delete(tape);
    metrics_close(metrics);
    optimizer_delete(optimizer);
    return row;
}

static void write_report(Device *device, const Problem *p, int argc, char **argv, const MetricsRow *row,
                         double seconds) {
    json_t *report = report_new("01_autograd", argc, argv);
    double flops = 6.0 * (double)params_matmul_count(&p->mlp->params),
           peak = machine_peak_gflops(device, TYPE_REAL);
    report_set_integer(report, "devices", 1);
    report_set_integer(report, "threads_per_device", device->queue.threads);
    report_set_integer(report, "parameters", params_count(&p->mlp->params));
    report_set_integer(report, "matmul_parameters", params_matmul_count(&p->mlp->params));
    report_set_real(report, "flops_per_token", flops);
    report_set_integer(report, "steps", row->step);
    report_set_integer(report, "tokens", row->tokens);
    report_set_real(report, "wall_s", seconds);
    report_set_real(report, "tokens_per_s", (double)row->tokens / seconds);
    report_set_real(report, "peak_gflops", peak);
    report_set_real(report, "mfu", flops * (double)row->tokens / seconds * 1e-9 / peak);
    report_set_real(report, "loss", row->loss);
    report_set_real(report, "val_loss", row->val_loss);
    report_set(report, "memory", report_memory(&device->memory, 1));
    report_write(report, options.run.output_dir);
    json_decref(report);
}

static void fit_waves(int argc, char **argv) {
    enum { VALIDATION_WAVES = 1024 };
    const Config *c = &options.run;
    Device *device = machine_device(c);
    Problem p = problem_new(device, c->global_batch);
    Waves validation = waves_new(device, VALIDATION_WAVES);
    waves_load(&validation, c->seed, SPLIT_VALIDATION, 0);
    printf("network %d-%" PRId64 "-%d, %" PRId64 " parameters; %" PRId64 " steps of %" PRId64 " waves\n",
           WAVE_POINTS, options.hidden, WAVE_POINTS, params_count(&p.mlp->params), c->max_steps,
           c->global_batch);
    interrupt_install();
    double began = now_seconds();
    MetricsRow row = train(device, &p, &validation);
    write_report(device, &p, argc, argv, &row, now_seconds() - began);
    draw_loss(false);

    Tape *tape = tape_new(device, false);
    const Tensor *y = mlp_forward(p.mlp, tape, &validation.x);
    waves_draw(&validation, y, c->output_dir);
    printf("mean squared error on %d waves it has not seen: %.5f\n", VALIDATION_WAVES,
           waves_error(&validation, y));
    printf("of the best possible prediction:                   %.5f; expected, the noise floor: %.5f\n",
           waves_error(&validation, &validation.best), WAVE_NOISE_FLOOR);
    print_memory(&device->memory);
    tape_delete(tape);
    waves_free(&validation);
    problem_free(&p);
    device_delete(device);
}

/* ---- all parts ---- */

static bool begin(Part part, const char *title) {
    if (options.part != PART_ALL && options.part != part) return false;
    printf("%s---- %s ----\n", part > PART_GEMM && options.part == PART_ALL ? "\n" : "", title);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv) {
    options = options_parse(argc, argv);
    machine_refuse_many_processes();
    const char *folder = options.run.output_dir;
    file_make_folder(folder);
    args_save(&options.run);
    bool right = true;

    if (begin(PART_GEMM, "the product of matrices"))
        right &=
            ladder_climb(options.sizes, options.size_count, options.gemm_seconds, options.run.seed, folder);
    if (begin(PART_TAPE, "tensors and the tape")) tour(&options.run);
    if (begin(PART_CHECK, "gradients against finite differences")) right &= check_gradients();
    if (begin(PART_TRAIN, "a network on noisy waves")) fit_waves(argc, argv);
    pictures_print_place(folder, NULL, NULL);
    return right ? 0 : 1;
}
