/* Chapter 05: data parallel. Chapter 02's training on several devices: each holds the whole model and reads its own slice
 * of every batch, and once a step their gradients are added up.
 *
 *   make ch05                                                      MiniGPT on 8 devices
 *   make ch05 ARGS="--model mlp"                                   first a small network, on 8 devices and on one
 *   build/mpiexec -n 4 build/05_data_parallel --overlap none       the gradients one by one, after backward
 *   build/mpiexec -n 8 build/05_data_parallel --sweep all --device-model h100
 *
 * The order of ideas: a mesh with one axis, data; a replica on each device; a step, in replica.c; when the gradients
 * are added up, in data_parallel.c; the training loop, in which every device does the same and rank 0 speaks. What
 * surrounds such a loop, in this chapter and in those after it, is in run.h. */
#include "chapters/05_data_parallel/dp_options.h"
#include "chapters/05_data_parallel/replica.h"
#include "chapters/05_data_parallel/run.h"
#include "chapters/05_data_parallel/scaling.h"
#include "chapters/05_data_parallel/waves_run.h"
#include "common/base/platform.h"
#include "common/base/size_text.h"
#include "common/draw/pictures.h"
#include "common/run/report.h"
#include "common/run/resume.h"
#include "common/run/snapshot.h"

#include <inttypes.h>
#include <math.h>

/* The mean loss over the validation windows, of which each device takes a share. */
static double validate(const Run *run, Replica *r) {
    data_parallel_check(r->dp);
    const Config *c = &run->config;
    return evaluate(r->model, run->data, c->eval_windows, c->micro_batch, r->comm);
}

static void read_row(void *trainer, MetricsRow *row) { replica_read(trainer, row); }

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of the trained model. */
static MetricsRow train(Run *run, Replica *r) {
    const Config *c = &run->config;
    int64_t first = r->optimizer->step, last = run_last_step(run);
    MetricsRow row = run_begin(run, first, r->next_window, read_row, r);
    if (first == 0 || first >= last)
        row.val_loss = validate(run, r); /* the second: a finished run is resumed */
    run_first_row(run, &row, r->tape);
    r->profile = run->account.profile;
    for (int64_t step = first; step < last; step++) {
        run_step_begin(run, step + 1);
        replica_issue(r, step, &row);
        bool done = run_step_end(run, &row, r->next_window);

        row.val_loss = done || run_every(c->eval_interval, row.step) ? validate(run, r) : NAN;
        run_row(run, &row, done);
        if (run_speaks(run) && (done || run_every(c->save_interval, row.step)))
            snapshot_save(c, r->model, r->optimizer, run->data->tokenizer, r->next_window);
        if (done) break;
    }
    return row;
}

/* ---- around it ---- */

/* Rank 0 reads its newest checkpoint, of a run on any number of devices, and tells the others. */
static void resume(const Run *run, Replica *r) {
    if (run_speaks(run))
        r->next_window = resume_newest(&run->config, r->model, r->optimizer, run->data->tokenizer);
    replica_broadcast(r);
}

/* A new run with the weights of an older one. */
static void load_parameters(const Run *run, Replica *r) {
    if (run_speaks(run))
        snapshot_load_parameters(run->config.load_parameters_path, NULL, &r->model->params,
                                 run->data->tokenizer);
    replica_broadcast(r);
}

static void print_gradients(const Config *c, const DataParallel *dp) {
    int buckets = data_parallel_buckets(dp);
    printf("  gradients %s a device, %d all-reduce%s a step, --overlap %s\n",
           size_text((double)data_parallel_bytes(dp)).text, buckets, buckets > 1 ? "s" : "",
           (const char *[]){"none", "bucket", "backward"}[c->overlap]);
}

/* Two numbers more than the gradients are summed in a step: tokens that count, and the loss. */
static void print_bytes(const Account *account, const Replica *r) {
    double n = r->comm->size, S = (double)data_parallel_bytes(r->dp) + 2 * sizeof(double);
    StepCount step = account_step_count(account, COMM_ALL_REDUCE);
    double predicted = 2 * (n - 1) * S;
    printf("\nall-reduces of a step: %" PRId64 ", of %.0f bytes in all, S\n", step.calls, S);
    if (n > 1)
        printf("sent by all devices: 2 (n-1) S = %.0f bytes, counted %.0f, ratio %.9g\n", predicted,
               step.bytes, step.bytes / predicted);
}

static void train_gpt(Run *run) {
    const Config *c = &run->config;
    if (run_memory_ahead(run, &(MemoryAhead){.program = replica_dry})) return;
    run->mesh = mesh_new(run->job.world, (int[MESH_AXES]){0, 1, 1});
    Replica *r = replica_new(c, run->mesh.axis[MESH_DATA], run->job.device, run->data);
    run_take_folder(run);
    if (c->resume)
        resume(run, r);
    else if (c->load_parameters_path)
        load_parameters(run, r);
    run_print_banner(run);
    print_gradients(c, r->dp);
    MetricsRow row = train(run, r);
    run_end(run, &row);
    if (run->account.steps > 0) print_bytes(&run->account, r);
    run_print_result(run, &row, NULL);
    replica_delete(r);
    mesh_close(&run->mesh);
}

static void sweep(const DpOptions *options, Run *run) {
    json_t *report = report_new(run->chapter, run->argc, run->argv);
    scaling_run(options, run->job.world, run->data, report);
    json_decref(report);
    pictures_print_place(run->config.output_dir, NULL, NULL);
}

int main(int argc, char **argv) {
    int devices = platform_ranks();
    DpOptions options = dp_options_parse(argc, argv, devices);
    Run run = run_open("05_data_parallel", "MiniGPT, data parallel: loss by step", &options.run, devices,
                       argc, argv);
    bool right = true;
    if (options.model == MODEL_MLP) {
        right = waves_run(&run.config, &options.waves, run.job.world, run.job.device);
        pictures_print_place(run.config.output_dir, NULL, NULL);
    } else if (!run_answer(&run)) {
        options.run = run.config;
        if (options.sweep != SCALING_NONE)
            sweep(&options, &run);
        else
            train_gpt(&run);
    }
    run_close(&run);
    return right ? 0 : 1;
}
