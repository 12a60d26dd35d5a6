/* Chapter 07: fully sharded data parallel. The training of chapter 05, in which each device computes with whole weights but
 * keeps only a shard of what the training needs: of the optimizer's state (stage 1), of the gradients as well (stage 2), of
 * the weights as well (stage 3).
 *
 *   make ch07                                                        MiniGPT on 8 devices, stage 3
 *   make ch07 ARGS="--model mlp"                                     first a small network, on 8 devices and on one
 *   build/mpiexec -n 8 build/07_fsdp --zero-stage 1 --max-steps 100
 *   build/mpiexec -n 4 build/07_fsdp --clock model --max-seq-length 32 --max-steps 2 --prefetch 0
 *                                                    its timeline.png and memory.png, beside those of --prefetch 1
 *   build/mpiexec -n 8 build/07_fsdp --sweep all                     memory by stage; when an all-gather is hidden
 *   build/mpiexec -n 4 build/07_fsdp --sweep prefetch --device-model h100
 *
 * A model that one device of 64 MB cannot train, by far: chapter 05 is refused with these flags, on 8 devices as well, and
 * on one without a limit it takes 604 MB, nine times as much. In shards, with each block recomputed, it trains within a minute:
 *
 *   make ch07 ARGS="--num-layers 20 --hidden-size 256 --intermediate-size 1024 --max-steps 10 --eval-windows 8
 *       --device-memory 64M --recompute"
 *
 * The order of ideas: what is cut, and where, in fsdp.c; when weights are gathered and freed, in weights.c; when gradients
 * are reduced, in gradients.c; a step, in sharded.c, which differs from chapter 05's in four lines; what it keeps and moves,
 * in forecast.c. Held against measurement: sweep_memory.c, sweep_prefetch.c. */
#include "chapters/05_data_parallel/run.h"
#include "chapters/07_fsdp/forecast.h"
#include "chapters/07_fsdp/fsdp_options.h"
#include "chapters/07_fsdp/sweeps.h"
#include "chapters/07_fsdp/waves_sharded.h"
#include "common/base/platform.h"
#include "common/base/size_text.h"
#include "common/config/flags.h"
#include "common/draw/memory_plot.h"
#include "common/draw/pictures.h"

#include <math.h>
#include <stdlib.h>

/* The mean loss over the validation windows, of which each device takes a share. */
static double validate(const Run *run, Sharded *s) {
    fsdp_check(s->fsdp);
    const Config *c = &run->config;
    return evaluate(s->model, run->data, c->eval_windows, c->micro_batch, s->comm);
}

static void read_row(void *trainer, MetricsRow *row) { sharded_read(trainer, row); }

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of the trained model. */
static MetricsRow train(Run *run, Sharded *s, MemoryPlot *memory, Saver *saver) {
    const Config *c = &run->config;
    int64_t first = s->optimizer->step, last = run_last_step(run);
    MetricsRow row = run_begin(run, first, s->next_window, read_row, s);
    if (first == 0 || first >= last) row.val_loss = validate(run, s);
    run_first_row(run, &row, s->tape);
    s->profile = run->account.profile;
    for (int64_t step = first; step < last; step++) {
        run_step_begin(run, step + 1);
        memory_plot_begin(memory);
        sharded_issue(s, step, &row);
        memory_plot_hold(memory);
        bool done = run_step_end(run, &row, s->next_window);

        row.val_loss = done || run_every(c->eval_interval, row.step) ? validate(run, s) : NAN;
        run_row(run, &row, done);
        run_save(run, saver, row.step, s->next_window, done); /* every device writes its parts */
        if (done) break;
    }
    return row;
}

/* ---- around it ---- */

/* Bytes by formula and as they were counted: on this device, and sent by all devices in a step. */
static void print_forecast(const Run *run, const Sharded *s) {
    Forecast f = forecast_of(s);
    StepCount reduce = account_step_count(&run->account, COMM_ALL_REDUCE),
              gather = account_step_count(&run->account, COMM_ALL_GATHER),
              scatter = account_step_count(&run->account, COMM_REDUCE_SCATTER);
    forecast_print_kept(&f, &s->device->memory);
    printf("  all it held at one time        %33.0f  with what is gathered, and slots\n",
           (double)s->device->memory.joint_peak);
    if (s->comm->size == 1) return;
    forecast_print_row("all-reduce, of a step", f.all_reduce, reduce.bytes);
    forecast_print_row("all-gather", f.all_gather, gather.bytes);
    forecast_print_row("reduce-scatter", f.reduce_scatter, scatter.bytes);
}

static void print_sharding(const Sharded *s) {
    const int64_t *now = s->device->memory.now;
    printf("  --zero-stage %lld: a device keeps %s of weights, %s of gradients, %s of moments\n",
           (long long)s->config.zero_stage, size_text((double)now[MEMORY_PARAMETERS]).text,
           size_text((double)now[MEMORY_GRADIENTS]).text, size_text((double)now[MEMORY_OPTIMIZER]).text);
}

/* What device 0 held in the last step, when. */
static void draw_memory(const Run *run, const MemoryPlot *memory) {
    const Config *c = &run->config;
    if (!run_speaks(run)) return;
    char *path = xprintf("%s/memory.png", c->output_dir);
    char *title = xprintf("What device 0 of %d holds in a step, --zero-stage %lld --prefetch %lld",
                          run->job.world->size, (long long)c->zero_stage, (long long)c->prefetch);
    memory_plot_draw(memory, title, c->device_memory ? (double)c->device_memory : NAN, "--device-memory",
                     path);
    free(title);
    free(path);
}

static void train_gpt(Run *run) {
    const Config *c = &run->config;
    if (run_memory_ahead(run, &(MemoryAhead){.program = sharded_dry, .groups = ARGS_SHARDING})) return;
    run->mesh = mesh_new(run->job.world, (int[MESH_AXES]){0, 1, 1});
    Sharded *s = sharded_new(c, run->mesh.axis[MESH_DATA], run->job.device, run->data);
    run_take_folder(run);
    Parts parts = sharded_parts(s);
    sharded_begin(s, &parts);
    run_print_banner(run);
    print_sharding(s);
    MemoryPlot *memory = memory_plot_new(run->job.device);
    Saver *saver = saver_new(c, &parts, run->data->tokenizer);
    MetricsRow row = train(run, s, memory, saver);
    run_end(run, &row);
    draw_memory(run, memory);
    memory_plot_delete(memory);
    if (run->account.steps > 0) print_forecast(run, s);
    run_print_result(run, &row, NULL);
    saver_close(saver);
    sharded_delete(s);
    mesh_close(&run->mesh);
}

int main(int argc, char **argv) {
    int devices = platform_ranks();
    FsdpProgram options = fsdp_options_parse(argc, argv, devices);
    Run run = run_open("07_fsdp", "MiniGPT, fully sharded: loss by step", &options.run, devices, argc, argv);
    bool right = true;
    if (options.model == SHARDED_MLP) {
        right = waves_sharded(&run.config, &options.waves, run.job.world, run.job.device);
        pictures_print_place(run.config.output_dir, NULL, NULL);
    } else if (!run_answer(&run)) {
        if (options.sweep == SWEEP_NONE) {
            train_gpt(&run);
        } else {
            sweeps_run(&run, options.sweep);
            pictures_print_place(run.config.output_dir, NULL, NULL);
        }
    }
    run_close(&run);
    return right ? 0 : 1;
}
