#include "chapters/05_data_parallel/run.h"

#include "chapters/02_minigpt/prompt.h"
#include "chapters/02_minigpt/show_data.h"
#include "common/base/interrupt.h"
#include "common/config/args.h"
#include "common/draw/loss_plot.h"
#include "common/draw/pictures.h"
#include "common/model/batch.h"
#include "common/run/banner.h"
#include "common/run/checkpoint.h"
#include "datasets/corpus.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- the start ---- */

Run run_open(const char *chapter, const char *title, const Config *config, int devices, int argc,
             char **argv) {
    return (Run){.chapter = chapter,
                 .title = title,
                 .argc = argc,
                 .argv = argv,
                 .config = *config,
                 .job = job_open(config, devices)};
}

void run_close(Run *run) {
    if (run->data) data_close(run->data);
    job_close(&run->job);
}

bool run_speaks(const Run *run) { return run->job.world->rank == 0; }

static void open_data(Run *run) {
    Config *c = &run->config;
    run->data = corpus_open_unmeasured(c->data_dir, c->pad, c->model.T, c->seed);
    run->data->train_windows = c->train_windows;
    if (run_speaks(run) && !c->print_memory) data_measure(run->data); /* the others say nothing of it */
    model_fit_vocabulary(&c->model, run->data);
}

bool run_answer(Run *run) {
    Config *c = &run->config;
    if (c->prompt) {
        if (run_speaks(run)) continue_prompt(c);
        return true;
    }
    open_data(run);
    Model *whole = model_new(NULL, &c->model, c->seed, &layers_serial); /* its shapes alone */
    run->parameters = params_count(&whole->params);
    run->matmul_parameters = params_matmul_count(&whole->params);
    run->flops_per_token = model_flops_per_token(whole);
    if (c->print_data)
        show_data(run->data, c->model.T);
    else if (c->print_model)
        model_print(whole, stdout);
    model_delete(whole);
    return c->print_data || c->print_model;
}

bool run_memory_ahead(const Run *run, const MemoryAhead *ahead) {
    return memory_ahead(ahead, &run->config, run->job.world, run->job.device, run->data);
}

void run_take_folder(const Run *run) {
    const char *folder = run->config.output_dir;
    if (!run_speaks(run)) return;
    file_make_folder(folder);
    file_lock_folder(folder, "wait until it is done, or choose another --output-dir");
    args_save(&run->config);
}

void run_print_banner(Run *run) {
    run->peak_gflops = job_peak_gflops(run->job.world, run->job.device, model_type(&run->config.model));
    job_print_mesh(&run->mesh);
    print_banner(&run->config, run->parameters, run->job.device, run->data, run->peak_gflops);
}

/* ---- the steps ---- */

static void draw_loss(const Run *run, bool behind) {
    const Dataset *d = run->data;
    char *name = xprintf("%d devices", run->job.world->size);
    LossCurve curve = {name, run->config.output_dir, d->entropy_floor, d->trigram_loss};
    LossPlot plot = {.title = run->title, .runs = &curve, .run_count = 1, .log_y = true, .behind = behind};
    char *path = xprintf("%s/loss.png", run->config.output_dir);
    plot_loss(&plot, path);
    free(path);
    free(name);
}

int64_t run_last_step(const Run *run) {
    const Config *c = &run->config;
    return c->stop_at_step ? c->stop_at_step : c->max_steps;
}

static void write_row(void *context, const MetricsRow *row) {
    Run *run = context;
    if (!run_speaks(run)) return;
    metrics_write(run->metrics, row);
    progress_step(run->progress, row);
}

MetricsRow run_begin(Run *run, int64_t step, int64_t next_window,
                     void (*read)(void *trainer, MetricsRow *row), void *trainer) {
    interrupt_install();
    run->first = run->step = step;
    run->rows = (StepRows){
        .device = run->job.device, .read = read, .trainer = trainer, .write = write_row, .context = run};
    run->began = now_seconds();
    run->progress = progress_start(stdout, step, run_last_step(run), run->config.log_interval);
    return metrics_row(step, next_window * run->config.model.T);
}

void run_first_row(Run *run, const MetricsRow *row, Tape *tape) {
    const char *folder = run->config.output_dir;
    account_begin(&run->account, &run->mesh, run->job.device, tape, &run->config);
    if (!run_speaks(run)) return;
    if (run->first == 0) checkpoint_set_aside(folder);
    run->metrics = run->first ? metrics_resume(folder, run->first) : metrics_create(folder);
    if (run->first == 0) metrics_write(run->metrics, row);
}

bool run_every(int64_t interval, int64_t step) { return interval > 0 && step % interval == 0; }

/* Somebody needs the step's numbers before the next one is issued. */
static bool looked_at(const Run *run) {
    return run->step == run_last_step(run) || step_rows_due(&run->config, run->step);
}

void run_step_begin(Run *run, int64_t step) {
    run->step = step;
    account_step_begin(&run->account, step);
}

bool run_step_end(Run *run, MetricsRow *row, int64_t next_window) {
    const Config *c = &run->config;
    step_rows_issued(&run->rows, row, looked_at(run));
    double seconds = account_step_end(&run->account);
    row->step = run->step;
    row->tokens = next_window * c->model.T;
    row->step_ms = 1e3 * seconds;
    row->tokens_per_s = (double)(c->global_batch * c->model.T) / seconds;
    bool asked = job_interrupted(run->job.world);
    return asked || run->step == run_last_step(run);
}

void run_save(Run *run, Saver *saver, int64_t step, int64_t next_window, bool done) {
    if (!done && !run_every(run->config.save_interval, step)) return;
    double began = now_seconds();
    saver_save(saver, next_window);
    run->save_seconds += now_seconds() - began;
    run->saves++;
}

void run_row(Run *run, MetricsRow *row, bool done) {
    step_rows_take(&run->rows, row, done || looked_at(run));
    if (run_speaks(run) && run_every(run->config.log_interval, row->step) && !done) draw_loss(run, true);
}

void run_sample(const Run *run, int64_t step, const Str *text, bool ended) {
    char *title = xprintf("a sample at step %" PRId64 "%s", step, ended ? "" : " (cut)");
    progress_text(run->progress, title, text->data ? text->data : "", text->count);
    free(title);
}

/* ---- the end ---- */

void run_end(Run *run, const MetricsRow *row) {
    const Config *c = &run->config;
    double seconds = now_seconds() - run->began;
    if (run->metrics) metrics_close(run->metrics);
    run->bytes_per_token = data_bytes_per_token(run->data, c->eval_windows, c->model.T);
    Result result = {.chapter = run->chapter,
                     .argc = run->argc,
                     .argv = run->argv,
                     .parameters = run->parameters,
                     .matmul_parameters = run->matmul_parameters,
                     .flops_per_token = run->flops_per_token,
                     .row = *row,
                     .seconds = seconds,
                     .saves = run->saves,
                     .save_seconds = run->save_seconds,
                     .peak_gflops = run->peak_gflops,
                     .bytes_per_token = run->bytes_per_token,
                     .entropy_floor = run->data->entropy_floor,
                     .trigram_loss = run->data->trigram_loss};
    progress_end(run->progress);
    account_report(&run->account, &result);
    account_end(&run->account);
}

void run_print_result(const Run *run, const MetricsRow *row, const char *look) {
    if (run_speaks(run)) {
        draw_loss(run, false);
        print_result(run->data, row->val_loss, run->bytes_per_token);
    }
    pictures_print_place(run->config.output_dir, "checkpoints", look);
}
