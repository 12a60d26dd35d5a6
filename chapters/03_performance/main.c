/* Chapter 03: where the time goes. Trains the model of chapter 02 for some steps and shows what was computed,
 * which bytes had to move, what this machine could do at best, and how much of that the steps used.
 *
 *   make ch03                                                   the default: a minute or two
 *   build/03_performance --preset minigpt --global-batch-size 16 --sweep none
 *   build/03_performance --mistakes                             what well-known mistakes cost here
 *
 * The order of ideas: what the machine can do; the work of a step, counted; where its time goes; the roofline;
 * utilisation; then other batches and other numbers of threads. */
#include "chapters/02_minigpt/show_data.h"
#include "chapters/03_performance/mistakes.h"
#include "chapters/03_performance/settings.h"
#include "chapters/03_performance/roofline.h"
#include "chapters/03_performance/sweep.h"
#include "common/run/banner.h"
#include "common/base/interrupt.h"
#include "common/config/args.h"
#include "common/draw/pictures.h"
#include "common/run/machine.h"
#include "common/run/progress.h"
#include "common/run/report.h"
#include "datasets/corpus.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static Settings settings;

static char *in_folder(const char *name) { return xprintf("%s/%s", settings.run.output_dir, name); }

static void begin(const char *title) {
    printf("\n---- %s ----\n", title);
    fflush(stdout);
}

/* ---- the measured steps ---- */

/* Warms up, then measures; the profile's sums are those of the measured steps alone. */
static void measure_steps(Timed *timed) {
    const Config *c = &settings.run;
    Progress *progress = progress_start(stdout, 0, c->max_steps, max64(c->max_steps / 5, 1));
    for (int64_t step = 0; step < c->max_steps && !interrupt_requested(); step++) {
        if (step == settings.warmup) profile_clear(timed->profile);
        double seconds = timed_step(timed);
        MetricsRow row = {.step = step + 1,
                          .tokens = (step + 1) * timed_tokens(timed),
                          .loss = timed->loss,
                          .val_loss = NAN,
                          .lr = NAN,
                          .grad_norm = NAN,
                          .step_ms = 1e3 * seconds,
                          .tokens_per_s = (double)timed_tokens(timed) / seconds};
        progress_step(progress, &row);
    }
    progress_end(progress);
}

/* ---- what was computed ---- */

typedef struct {
    double tokens, seconds; /* of the measured steps */
    double formula;         /* FLOPs for each token: 6 N + 6 L C T */
    Cost cost;              /* counted in the kernels */
    double mfu, hfu;
} Result;

static Result result_of(const Timed *timed, const Machine *machine) {
    Profile *p = timed->profile;
    Result r = {.tokens = (double)(profile_steps(p) * timed_tokens(timed)),
                .seconds = profile_step_seconds(p),
                .formula = model_flops_per_token(timed->subject->model),
                .cost = profile_cost(p)};
    r.mfu = r.formula * r.tokens / r.seconds / machine->peak;
    r.hfu = (double)cost_flops(r.cost) / r.seconds / machine->peak;
    return r;
}

static void print_counts(const Model *model, const Result *r) {
    const ModelConfig *m = &model->config;
    printf("for each token                              FLOPs\n"
           "6 N + 6 L C T                       %13.0f   N %" PRId64 ", L %" PRId64 ", C %" PRId64
           ", T %" PRId64 "\n",
           r->formula, params_matmul_count(&model->params), m->L, m->C, m->T);
    printf("products, counted in the kernels    %13.0f   ratio %.6f\n", (double)r->cost.product / r->tokens,
           (double)r->cost.product / r->tokens / r->formula);
    printf("products formed a second time       %13.0f\n", (double)r->cost.again / r->tokens);
    printf("everything else                     %13.0f\n", (double)r->cost.other / r->tokens);
    printf("bytes that must move                %13.0f   %.1f FLOPs for each\n",
           (double)r->cost.bytes / r->tokens, (double)cost_flops(r->cost) / (double)r->cost.bytes);
}

static void print_utilisation(const Result *r, const Machine *machine) {
    printf("model FLOPs utilisation = FLOPs of the formula x tokens/s / peak\n"
           "  %.0f x %.0f / %.3g = %.1f%%\n",
           r->formula, r->tokens / r->seconds, machine->peak, 100 * r->mfu);
    printf("with all FLOPs that were done (hardware FLOPs utilisation): %.1f%%\n", 100 * r->hfu);
    printf("peak: a large product of matrices %s, measured in this run\n",
           machine->device->backend->apart ? "on this GPU" : "by OpenBLAS on these threads");
}

/* What chapter 03 adds to the report; FLOPs and bytes are for each token, seconds for each step. */
static json_t *performance_json(const Profile *profile, const Machine *machine, const Result *r) {
    double steps = (double)profile_steps(profile);
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "memory_gb_per_s",
                     1e-9 * machine_memory_bandwidth(machine), "product_flops",
                     (double)r->cost.product / r->tokens, "again_flops", (double)r->cost.again / r->tokens,
                     "other_flops", (double)r->cost.other / r->tokens, "bytes",
                     (double)r->cost.bytes / r->tokens, "hfu", r->hfu, "step_s", r->seconds / steps, "roof_s",
                     profile_roof_seconds(profile) / steps, "between_kernels_s",
                     profile_outside(profile) / steps, "ops", ops_json(profile));
}

static void write_report(const Timed *timed, const Machine *machine, const Result *r, int argc, char **argv) {
    const Subject *s = timed->subject;
    json_t *report = report_new("03_performance", argc, argv);
    report_set_integer(report, "devices", 1);
    report_set_integer(report, "threads_per_device", s->device->queue.threads);
    report_set_integer(report, "parameters", params_count(&s->model->params));
    report_set_integer(report, "matmul_parameters", params_matmul_count(&s->model->params));
    report_set_real(report, "flops_per_token", r->formula);
    report_set_integer(report, "steps", profile_steps(timed->profile));
    report_set_integer(report, "tokens", (int64_t)r->tokens);
    report_set_real(report, "wall_s", r->seconds);
    report_set_real(report, "tokens_per_s", r->tokens / r->seconds);
    report_set_real(report, "peak_gflops", 1e-9 * machine->peak);
    report_set_real(report, "mfu", r->mfu);
    report_set_real(report, "loss", timed->loss);
    report_set_real(report, "entropy_floor", s->data->entropy_floor);
    report_set_real(report, "trigram_loss", s->data->trigram_loss);
    report_set(report, "memory", report_memory(&s->device->memory, 1));
    json_object_set_new(report, "performance", performance_json(timed->profile, machine, r));
    report_write(report, settings.run.output_dir);
    json_decref(report);
}

/* The measured steps and everything that is told of them; the machine's peak, for the sweeps. */
static double account(Dataset *data, int argc, char **argv) {
    Config *c = &settings.run;
    Subject subject = subject_new(c, data);

    Machine machine = machine_measure(subject.device, model_type(&c->model));
    double window_flops = model_flops_per_token(subject.model) * (double)c->model.T;
    char *fitted = settings_fit(&settings, window_flops, machine.peak);
    print_banner(c, params_count(&subject.model->params), subject.device, data, 1e-9 * machine.peak);
    if (fitted) printf("            %s\n", fitted);
    free(fitted);
    Timed timed = timed_new(&subject, c->micro_batch, c->num_microbatches);
    begin("what the machine can do");
    machine_print(&machine);
    char *picture = in_folder("bandwidth.png"), *roofline = in_folder("roofline.png");
    machine_draw(&machine, picture);

    begin("a training step, again and again");
    Trace *trace = settings.trace ? trace_new(c->output_dir) : NULL;
    timed.profile = profile_new(subject.device, timed.tape, machine_roof, &machine, trace);
    measure_steps(&timed);
    trace_close(trace);

    Result result = result_of(&timed, &machine);
    begin("what a step computes");
    print_counts(subject.model, &result);
    begin("where its time goes");
    print_phases(timed.profile);
    printf("\n");
    print_ops(timed.profile);
    draw_roofline(timed.profile, &machine, roofline);
    begin("how much of the machine it uses");
    print_utilisation(&result, &machine);
    write_report(&timed, &machine, &result, argc, argv);

    profile_delete(timed.profile);
    timed_free(&timed);
    subject_free(&subject);
    free(picture);
    free(roofline);
    return machine.peak;
}

/* Steps on too many threads are one of the mistakes: two micro-batches, as `tiny` has, are enough for them. */
static void take_few_windows(Config *c) {
    if (settings.batch_given || c->num_microbatches <= 2) return;
    int64_t all = c->global_batch;
    c->num_microbatches = 2;
    c->global_batch = 2 * c->micro_batch;
    printf("a step has %" PRId64 " windows instead of %" PRId64 " (--global-batch-size %" PRId64
           " takes all)\n",
           c->global_batch, all, all);
}

int main(int argc, char **argv) {
    settings = settings_parse(argc, argv);
    Config *c = &settings.run;
    machine_refuse_many_processes();
    Dataset *data = corpus_open(c->data_dir, c->pad, c->model.T, c->seed);
    data->train_windows = c->train_windows;
    if (c->print_data) return show_data(data, c->model.T), 0;
    model_fit_vocabulary(&c->model, data);
    if (c->print_model) {
        Model *model = model_new(NULL, &c->model, c->seed, &layers_serial);
        model_print(model, stdout);
        model_delete(model);
        return data_close(data), 0;
    }
    file_make_folder(c->output_dir);
    file_lock_folder(c->output_dir, "wait until it is done, or choose another --output-dir");
    args_save(c);
    interrupt_install();
    if (settings.mistakes) {
        take_few_windows(c);
        mistakes_measure(c, data, settings.point_seconds);
        return data_close(data), 0;
    }
    double peak = account(data, argc, argv);
    if (settings.sweep == SWEEP_ALL || settings.sweep == SWEEP_BATCH) {
        begin("other batches");
        sweep_batch(c, data, peak, settings.point_seconds);
    }
    if (settings.sweep == SWEEP_ALL || settings.sweep == SWEEP_THREADS) {
        begin("other numbers of threads");
        sweep_threads(c, data, settings.point_seconds);
    }
    printf("\n");
    pictures_print_place(c->output_dir, settings.trace ? "trace.json" : NULL, "roofline.png");
    return data_close(data), 0;
}
