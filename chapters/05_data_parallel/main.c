/* Chapter 05: data parallel. Chapter 02's training on several devices: each holds the whole model and reads its own slice
 * of every batch, and once a step their gradients are added up.
 *
 *   make ch05                                                      MiniGPT on 8 devices
 *   make ch05 ARGS="--model mlp"                                   first a small network, on 8 devices and on one
 *   build/mpiexec -n 4 build/05_data_parallel --overlap none       the gradients one by one, after backward
 *   build/mpiexec -n 8 build/05_data_parallel --sweep all --device-model h100
 *
 * The order of ideas: a mesh with one axis, data; a replica on each device; a step, in replica.c; when the gradients
 * are added up, in data_parallel.c; the training loop, in which every device does the same and rank 0 speaks. */
#include "chapters/02_minigpt/prompt.h"
#include "chapters/02_minigpt/show_data.h"
#include "chapters/05_data_parallel/account.h"
#include "chapters/05_data_parallel/replica.h"
#include "chapters/05_data_parallel/dp_options.h"
#include "chapters/05_data_parallel/scaling.h"
#include "chapters/05_data_parallel/waves_run.h"
#include "common/base/size_text.h"
#include "common/run/banner.h"
#include "common/comm/clock.h"
#include "common/base/interrupt.h"
#include "common/draw/loss_plot.h"
#include "common/draw/pictures.h"
#include "common/run/machine.h"
#include "common/base/platform.h"
#include "common/run/progress.h"
#include "common/run/report.h"
#include "common/run/resume.h"
#include "common/run/snapshot.h"
#include "datasets/corpus.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* All that a run has. */
typedef struct {
    Config config;
    Mesh mesh;
    Dataset *data;
    Replica *replica;
    Progress *progress;
    Account account;
} Run;

static bool speaks(const Run *run) { return run->mesh.world->rank == 0; }

static void draw_loss(const Run *run, bool behind) {
    const Dataset *d = run->data;
    char *name = xprintf("%d devices", run->mesh.world->size);
    LossCurve curve = {name, run->config.output_dir, d->entropy_floor, d->trigram_loss};
    LossPlot plot = {.title = "MiniGPT, data parallel: loss by step",
                     .runs = &curve,
                     .run_count = 1,
                     .log_y = true,
                     .behind = behind};
    char *path = xprintf("%s/loss.png", run->config.output_dir);
    plot_loss(&plot, path);
    free(path);
    free(name);
}

/* The devices leave together: after the step in which one of them was asked to. */
static bool interrupted(const Run *run) {
    int32_t asked = interrupt_requested();
    comm_all_reduce(run->mesh.world, NULL, &asked, &asked, 1, TYPE_I32, REDUCE_MAX);
    return asked;
}

static bool every(int64_t interval, int64_t step) { return interval > 0 && step % interval == 0; }

static double validate(Run *run) {
    data_parallel_check(run->replica->dp);
    const Config *c = &run->config;
    return evaluate(run->replica->model, run->data, c->eval_windows, c->micro_batch, run->replica->comm);
}

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of the trained model. */
static MetricsRow train(Run *run) {
    const Config *c = &run->config;
    Replica *r = run->replica;
    int64_t first = r->optimizer->step, last = c->stop_at_step ? c->stop_at_step : c->max_steps;
    int64_t tokens = c->global_batch * c->model.T;
    MetricsRow row = {.step = first,
                      .tokens = r->next_window * c->model.T,
                      .loss = NAN,
                      .val_loss = NAN,
                      .lr = NAN,
                      .grad_norm = NAN,
                      .step_ms = NAN,
                      .tokens_per_s = NAN};
    if (first == 0 || first >= last) row.val_loss = validate(run); /* the second: a finished run is resumed */
    Metrics *metrics = NULL;
    if (speaks(run)) {
        if (first == 0) checkpoint_set_aside(c->output_dir); /* of an older run, now that this one works */
        metrics = first ? metrics_resume(c->output_dir, first) : metrics_create(c->output_dir);
        if (first == 0) metrics_write(metrics, &row);
    }
    account_begin(&run->account, run->mesh.world, r, c->trace);
    for (int64_t step = first; step < last; step++) {
        double began = queue_now(&r->device->queue);
        account_step_begin(&run->account, r, step + 1);
        replica_step(r, step, &row);
        account_step_end(&run->account, r);
        double seconds = queue_now(&r->device->queue) - began;

        bool done = step + 1 == last;
        done |= interrupted(run);
        row.step = step + 1;
        row.tokens = r->next_window * c->model.T;
        row.step_ms = 1e3 * seconds;
        row.tokens_per_s = (double)tokens / seconds;
        row.val_loss = done || every(c->eval_interval, row.step) ? validate(run) : NAN;
        if (speaks(run)) {
            metrics_write(metrics, &row);
            progress_step(run->progress, &row);
            if (every(c->save_interval, row.step) || done)
                snapshot_save(c, r->model, r->optimizer, run->data->tokenizer, r->next_window);
            if (every(c->log_interval, row.step) && !done) draw_loss(run, true);
        }
        if (done) break;
    }
    if (metrics) metrics_close(metrics);
    return row;
}

/* ---- around it ---- */

/* Of all devices together, at work at the same time. Where they are more than the cores, those without a core of their own
 * add nothing to what the others can do. */
static double peak_gflops(const Run *run) {
    const Clock *clock = run->replica->device->queue.clock;
    if (clock) return 1e-9 * clock->model->flops * run->mesh.world->size;
    double peak = platform_has_core() ? machine_peak_gflops(run->replica->device) : 0;
    comm_all_reduce(run->mesh.world, NULL, &peak, &peak, 1, TYPE_F64, REDUCE_SUM);
    return peak;
}

/* Rank 0 reads its newest checkpoint, of a run on any number of devices, and tells the others. */
static void resume(Run *run) {
    Replica *r = run->replica;
    if (speaks(run))
        r->next_window = resume_newest(&run->config, r->model, r->optimizer, run->data->tokenizer);
    replica_broadcast(r);
}

static void print_mesh(const Mesh *mesh) {
    const Comm *world = mesh->world;
    char *picture = mesh_picture(mesh);
    printf("%d device%s, %s\n%s", world->size, world->size > 1 ? "s" : "",
           world->size == 1                   ? "alone"
           : world->local_size == world->size ? "which share memory"
                                              : "on several machines",
           picture);
    free(picture);
}

static void print_model(const Config *c) {
    Model *model = model_new(NULL, &c->model, c->seed, &layers_serial);
    model_print(model, stdout);
    model_delete(model);
}

static void train_gpt(Run *run, Comm *world, Device *device, int argc, char **argv) {
    const Config *c = &run->config;
    run->mesh = mesh_new(world, (int[MESH_AXES]){0, 1, 1});
    run->replica = replica_new(c, run->mesh.axis[MESH_DATA], device, run->data);
    if (speaks(run)) {
        file_make_folder(c->output_dir);
        file_lock_folder(c->output_dir, "wait until it is done, or choose another --output-dir");
    }
    if (c->resume) resume(run);
    double peak = peak_gflops(run);
    print_mesh(&run->mesh);
    print_banner(c, run->replica->model, run->data, peak);
    printf("  gradients %s a device, %d all-reduce%s a step, --overlap %s\n",
           size_text((double)data_parallel_bytes(run->replica->dp)).text,
           data_parallel_buckets(run->replica->dp), data_parallel_buckets(run->replica->dp) > 1 ? "s" : "",
           (const char *[]){"none", "bucket", "backward"}[c->overlap]);

    interrupt_install();
    int64_t first = run->replica->optimizer->step;
    run->progress =
        progress_start(stdout, first, c->stop_at_step ? c->stop_at_step : c->max_steps, c->log_interval);
    double began = now_seconds();
    MetricsRow row = train(run);
    double seconds = now_seconds() - began;
    progress_end(run->progress);
    Result result = {row, row.step - first, seconds, peak,
                     data_bytes_per_token(run->data, c->eval_windows, c->model.T)};
    account_report(&run->account, run->replica, &run->mesh, &result, argc, argv);
    account_end(&run->account, run->replica);
    if (speaks(run)) {
        draw_loss(run, false);
        print_result(run->data, row.val_loss, result.bytes_per_token);
    }
    replica_delete(run->replica);
    mesh_close(&run->mesh);
}

static void sweep(const DpOptions *options, Comm *world, Dataset *data, int argc, char **argv) {
    json_t *report = report_new("05_data_parallel", argc, argv);
    scaling_run(options, world, data, report);
    json_decref(report);
}

int main(int argc, char **argv) {
    int devices = platform_ranks();
    DpOptions options = dp_options_parse(argc, argv, devices);
    Comm *world = comm_world();
    if (world->size != devices)
        comm_refuse(world, "start it by mpiexec or srun",
                    xprintf("%d devices were announced, %d have come", devices, world->size));
    if (world->rank > 0 && !freopen("/dev/null", "w", stdout)) return 1; /* rank 0 speaks */
    Run run = {.config = options.run};
    Config *c = &run.config;
    Device *device = machine_device(c);
    comm_account(world, device);
    bool right = true;

    if (options.model == MODEL_MLP) {
        right = waves_run(&options, world, device);
    } else if (c->prompt) {
        if (world->rank == 0) continue_prompt(c);
    } else {
        run.data = corpus_open_unmeasured(c->data_dir, c->pad, c->model.T, c->seed);
        if (world->rank == 0) data_measure(run.data); /* the others say nothing of it */
        model_fit_vocabulary(&c->model, run.data);
        options.run = *c;
        if (c->print_data)
            show_data(run.data, c->model.T);
        else if (c->print_model)
            print_model(c);
        else if (options.sweep != SCALING_NONE)
            sweep(&options, world, run.data, argc, argv);
        else
            train_gpt(&run, world, device, argc, argv);
        data_close(run.data);
    }
    if (!c->prompt && !c->print_data && !c->print_model)
        pictures_print_place(c->output_dir, run.replica ? "checkpoints" : NULL, NULL);
    comm_close(world);
    device_delete(device);
    return right ? 0 : 1;
}
