/* Chapter 02: MiniGPT on one device. Trains a small GPT, watches its loss come down towards the entropy of
 * its data, lets it write on the way, keeps checkpoints, and draws the curve.
 *
 *   make ch02                                                   the default: a minute on two cores
 *   build/02_minigpt --max-steps 7000                           ten minutes, better stories
 *   build/02_minigpt --resume                                   goes on where it was stopped
 *   build/02_minigpt --prompt "Once upon a time"                lets the trained model write
 *   build/02_minigpt --preset minigpt --print-model             another preset: 27 million parameters
 *
 * The order of ideas: data, model, optimizer; then the training loop: forward, loss,
 * backward, clip, update. */
#include "chapters/02_minigpt/prompt.h"
#include "chapters/02_minigpt/show_data.h"
#include "common/config/args.h"
#include "common/run/banner.h"
#include "common/model/batch.h"
#include "common/model/generate.h"
#include "common/model/step_numbers.h"
#include "common/base/interrupt.h"
#include "common/draw/loss_plot.h"
#include "common/draw/pictures.h"
#include "common/run/machine.h"
#include "common/run/metrics.h"
#include "common/run/profile.h"
#include "common/run/progress.h"
#include "common/run/report.h"
#include "common/run/resume.h"
#include "common/run/snapshot.h"
#include "common/run/step_rows.h"
#include "datasets/corpus.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const Program program = {
    .about = "trains a MiniGPT on one device, draws its loss curve, and lets it write",
    .example = "--max-steps 400",
    .groups = ARGS_ONE_DEVICE | ARGS_DTYPE,
};

/* All that a run has. */
typedef struct {
    Config config;
    Device *device;
    Dataset *data;
    Model *model;
    Optimizer *optimizer;
    Batch batch;
    StepNumbers numbers;
    Metrics *metrics;
    Progress *progress;
    double peak_gflops;
    int64_t next_window; /* windows trained on so far: the next step begins with this one */
    QueueCounts queue;   /* what the device was given in the last step */
} Run;

/* Text by the model as it is now; the draw moves with the step, so each sample is another story. */
static void show_sample(Run *run, int64_t step) {
    const Config *c = &run->config;
    Sampling sampling = {c->temperature, c->top_k,      c->top_p, min64(c->max_new_tokens, c->model.T),
                         c->seed,        (uint64_t)step};
    Str text = {0};
    Generated g = generate(run->model, run->data->tokenizer, "", &sampling, &text);
    char *title = xprintf("a sample at step %" PRId64 "%s", step, g.ended ? "" : " (cut)");
    progress_text(run->progress, title, text.data ? text.data : "", text.count);
    free(title);
    str_free(&text);
}

static void draw_loss(const Run *run, bool behind) {
    const Dataset *d = run->data;
    LossCurve curve = {run->config.preset, run->config.output_dir, d->entropy_floor, d->trigram_loss};
    LossPlot plot = {
        .title = "MiniGPT: loss by step", .runs = &curve, .run_count = 1, .log_y = true, .behind = behind};
    char *path = xprintf("%s/loss.png", run->config.output_dir);
    plot_loss(&plot, path);
    free(path);
}

/* One step: the mean loss over the global batch, its gradient, an update. Fills lr of the row. The device
 * is given all of it, and the host waits for nothing. */
static void train_step(Run *run, Tape *tape, int64_t step, MetricsRow *row) {
    const Config *c = &run->config;
    Model *model = run->model;
    Batch *batch = &run->batch;
    StepNumbers *numbers = &run->numbers;
    batch_load(batch, run->data, SPLIT_TRAIN, run->next_window);
    step_begin(numbers, batch, NULL); /* the loss is a mean over the real tokens */
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        Batch part = batch_rows(batch, i * c->micro_batch, c->micro_batch);
        Pass pass = {.training = true, .first_sample = run->next_window + i * c->micro_batch};
        tape_begin_microbatch(tape, i, c->num_microbatches);

        Tensor *x = model_embed(model, tape, &part.ids, &pass);
        x = model_blocks(model, tape, x, 0, c->model.L, &pass);
        Tensor *loss = model_loss(model, tape, x, &part.targets);
        step_add_loss(numbers, loss);
        tape_backward(tape, loss, &numbers->seed);
        tape_reset(tape);
    }
    row->lr = schedule_lr(c, step);
    step_clip(numbers, run->optimizer, &(NormGroups){0}, c->grad_clip);
    optimizer_step(run->optimizer, row->lr, &numbers->clip);
    step_start_read(numbers, step + 1, run->next_window);
    run->next_window += c->global_batch;
}

/* Fills loss and grad_norm of a step that was issued: here the host waits. */
static void read_step(void *context, MetricsRow *row) {
    Run *run = context;
    StepResult was = step_read(&run->numbers);
    row->loss = was.loss;
    row->grad_norm = was.grad_norm;
    Pass pass = {.training = true, .first_sample = was.first_window};
    check_finite(run->model, &run->batch, run->data, run->config.micro_batch, &pass, &was, NULL);
}

static void write_row(void *context, const MetricsRow *row) {
    const Run *run = context;
    metrics_write(run->metrics, row);
    progress_step(run->progress, row);
}

static bool every(int64_t interval, int64_t step) { return interval > 0 && step % interval == 0; }

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of
 * the trained model. */
static MetricsRow train(Run *run) {
    const Config *c = &run->config;
    int64_t first = run->optimizer->step, last = c->stop_at_step ? c->stop_at_step : c->max_steps;
    Tape *tape = tape_new(run->device, true);
    Trace *trace = c->trace ? trace_new(c->output_dir) : NULL;
    Profile *profile = trace ? profile_new(run->device, tape, NULL, NULL, trace) : NULL;
    run->batch = batch_new(run->device, c->global_batch, c->model.T);
    run->numbers = step_numbers_new(run->device);
    StepRows rows = {run->device, .read = read_step, run, .write = write_row, run};
    MetricsRow row = metrics_row(first, run->next_window * c->model.T);
    if (first == 0 || first >= last) /* the second: a finished run is resumed */
        row.val_loss = evaluate(run->model, run->data, c->eval_windows, c->micro_batch, NULL);
    if (first == 0) checkpoint_set_aside(c->output_dir); /* of an older run, now that this one works */
    run->metrics = first ? metrics_resume(c->output_dir, first) : metrics_create(c->output_dir);
    if (first == 0) {
        metrics_write(run->metrics, &row);
        if (c->sample_interval) show_sample(run, 0);
    }
    for (int64_t step = first; step < last; step++) {
        double began = now_seconds();
        QueueCounts before = run->device->queue.counts;
        profile_step_begin(profile, step + 1);
        train_step(run, tape, step, &row);
        bool look = step + 1 == last || step_rows_due(c, step + 1);
        step_rows_issued(&rows, &row, look); /* waits for this step, or on a GPU for the one before */
        double seconds = now_seconds() - began;
        run->queue = queue_counts_since(&run->device->queue, before);
        profile_step_end(profile);

        bool done = step + 1 == last || interrupt_requested();
        row.step = step + 1;
        row.tokens = run->next_window * c->model.T;
        row.step_ms = 1e3 * seconds;
        row.tokens_per_s = (double)(c->global_batch * c->model.T) / seconds;
        row.val_loss = NAN;
        if (done || every(c->eval_interval, row.step))
            row.val_loss = evaluate(run->model, run->data, c->eval_windows, c->micro_batch, NULL);
        step_rows_take(&rows, &row, done || look);
        if (every(c->sample_interval, row.step) && !done) show_sample(run, row.step);
        if (every(c->save_interval, row.step) || done)
            snapshot_save(c, run->model, run->optimizer, run->data->tokenizer, run->next_window);
        if (every(c->log_interval, row.step) && !done) draw_loss(run, true);
        if (done) break;
    }
    profile_delete(profile);
    trace_close(trace);
    step_numbers_free(&run->numbers);
    batch_free(&run->batch);
    tape_delete(tape);
    metrics_close(run->metrics);
    return row;
}

static void write_report(const Run *run, int argc, char **argv, const MetricsRow *row, double seconds,
                         int64_t steps) {
    const Config *c = &run->config;
    json_t *report = report_new("02_minigpt", argc, argv);
    double tokens = (double)(steps * c->global_batch * c->model.T), flops = model_flops_per_token(run->model);
    double bytes = data_bytes_per_token(run->data, c->eval_windows, c->model.T);
    report_set_integer(report, "devices", 1);
    report_set_integer(report, "threads_per_device", run->device->queue.threads);
    report_set_integer(report, "parameters", params_count(&run->model->params));
    report_set_integer(report, "matmul_parameters", params_matmul_count(&run->model->params));
    report_set_real(report, "flops_per_token", flops);
    report_set_integer(report, "steps", row->step);
    report_set_integer(report, "tokens", row->tokens);
    report_set_real(report, "wall_s", seconds);
    report_set_real(report, "tokens_per_s", tokens / seconds);
    report_set_real(report, "peak_gflops", run->peak_gflops);
    report_set_real(report, "mfu", flops * tokens / seconds * 1e-9 / run->peak_gflops);
    report_set_real(report, "loss", row->loss);
    report_set_real(report, "val_loss", row->val_loss);
    report_set_real(report, "bits_per_byte", row->val_loss / log(2) / bytes);
    report_set_real(report, "entropy_floor", run->data->entropy_floor);
    report_set_real(report, "trigram_loss", run->data->trigram_loss);
    report_set(report, "memory", report_memory(&run->device->memory, 1));
    report_set(report, "queue", report_queue(&run->queue, 1));
    report_write(report, c->output_dir);
    json_decref(report);
}

int main(int argc, char **argv) {
    Run run = {.config = args_parse(argc, argv, &program)};
    Config *c = &run.config;
    machine_refuse_many_processes();
    if (c->prompt) return continue_prompt(c), 0;

    run.data = corpus_open(c->data_dir, c->pad, c->model.T, c->seed);
    run.data->train_windows = c->train_windows;
    if (c->print_data) return show_data(run.data, c->model.T), 0;
    model_fit_vocabulary(&c->model, run.data);
    run.device = c->print_model ? NULL : machine_device(c); /* a print takes no memory */
    run.model = model_new(run.device, &c->model, c->seed, &layers_serial);
    if (c->print_model) {
        model_print(run.model, stdout);
        model_delete(run.model);
        return data_close(run.data), 0;
    }
    run.model->recompute = c->recompute;
    run.optimizer = optimizer_new(&run.model->params, c);
    file_make_folder(c->output_dir);
    file_lock_folder(c->output_dir, "wait until it is done, or choose another --output-dir");
    args_save(c);
    if (c->resume)
        run.next_window = resume_newest(c, run.model, run.optimizer, run.data->tokenizer);
    else if (c->load_parameters_path)
        snapshot_load_parameters(c->load_parameters_path, NULL, &run.model->params, run.data->tokenizer);
    run.peak_gflops = machine_peak_gflops(run.device, model_type(&c->model));
    print_banner(c, params_count(&run.model->params), run.device, run.data, run.peak_gflops);

    interrupt_install();
    int64_t first = run.optimizer->step;
    run.progress =
        progress_start(stdout, first, c->stop_at_step ? c->stop_at_step : c->max_steps, c->log_interval);
    double began = now_seconds();
    MetricsRow row = train(&run);
    write_report(&run, argc, argv, &row, now_seconds() - began, row.step - first);
    show_sample(&run, row.step);
    progress_end(run.progress);
    draw_loss(&run, false);
    print_result(run.data, row.val_loss, data_bytes_per_token(run.data, c->eval_windows, c->model.T));
    pictures_print_place(c->output_dir, "checkpoints", "loss.png");

    optimizer_delete(run.optimizer);
    model_delete(run.model);
    device_delete(run.device);
    data_close(run.data);
    return 0;
}
