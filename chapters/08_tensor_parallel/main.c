/* Chapter 08: tensor parallel. Each matrix is cut over the devices of the mesh's axis `tensor`, which all work on the same
 * windows. No device ever has a whole layer, and four times in each of them devices add up what they have.
 *
 *   make ch08                                                     MiniGPT on 8 devices, 2 x 4
 *   make ch08 ARGS="--model mlp"                                  first two matrices, on 8 devices and on one
 *   build/mpiexec -n 8 build/08_tensor_parallel --tensor-parallel-size 2 --sequence-parallel --max-steps 100
 *   build/mpiexec -n 8 build/08_tensor_parallel --mistake copy-unchecked
 *   build/mpiexec -n 8 build/08_tensor_parallel --sweep all --device-model h100
 *
 * The order of ideas: linears by columns and by rows, in tensor_parallel.c; the ends of the model, in vocabulary.c; a step,
 * in sliced.c, whose model alone differs from chapter 07's; what it moves, in tp_forecast.c; all-reduces that run beside
 * the products, in row_overlap.c; what goes wrong, in mistakes.c; which mesh is best, in meshes.c. */
#include "chapters/05_data_parallel/run.h"
#include "chapters/08_tensor_parallel/meshes.h"
#include "chapters/08_tensor_parallel/mistakes_run.h"
#include "chapters/08_tensor_parallel/slices_picture.h"
#include "chapters/08_tensor_parallel/texts.h"
#include "chapters/08_tensor_parallel/tp_forecast.h"
#include "chapters/08_tensor_parallel/tp_options.h"
#include "chapters/08_tensor_parallel/waves_cut.h"
#include "common/base/platform.h"
#include "common/base/size_text.h"
#include "common/config/flags.h"
#include "common/draw/pictures.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Text by the model as it is now, of which each device holds a slice. */
static void show_sample(Run *run, const Sliced *s, int64_t step) {
    Str text = {0};
    bool ended = texts_sample(s, step, &text);
    run_sample(run, step, &text, ended);
    str_free(&text);
}

static void read_row(void *trainer, MetricsRow *row) { sliced_read(trainer, row); }

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of the trained model. */
static MetricsRow train(Run *run, Sliced *s, Saver *saver) {
    const Config *c = &run->config;
    int64_t first = s->own->optimizer->step, last = run_last_step(run);
    MetricsRow row = run_begin(run, first, s->own->next_window, read_row, s);
    if (first == 0 || first >= last) row.val_loss = sliced_evaluate(s);
    run_first_row(run, &row, s->own->tape);
    s->own->profile = run->account.profile;
    for (int64_t step = first; step < last; step++) {
        run_step_begin(run, step + 1);
        sliced_issue(s, step, &row);
        bool done = run_step_end(run, &row, s->own->next_window);

        row.val_loss = done || run_every(c->eval_interval, row.step) ? sliced_evaluate(s) : NAN;
        run_row(run, &row, done);
        if (c->sample_interval && (done || run_every(c->sample_interval, row.step)))
            show_sample(run, s, row.step);
        run_save(run, saver, row.step, s->own->next_window, done); /* every device writes its parts */
        if (done) break;
    }
    return row;
}

/* ---- around it ---- */

static Mesh mesh_of(const Run *run) {
    return mesh_new(run->job.world, (int[MESH_AXES]){0, 1, (int)run->config.tensor_parallel});
}

static void train_gpt(Run *run) {
    const Config *c = &run->config;
    if (run_memory_ahead(run, &(MemoryAhead){sliced_dry, ARGS_SHARDING | ARGS_TENSOR, sliced_is_possible}))
        return;
    run->mesh = mesh_of(run);
    Sliced *s = sliced_new(c, &run->mesh, run->job.device, run->data);
    run_take_folder(run);
    Parts parts = sliced_parts(s);
    sharded_begin(s->own, &parts);
    run_print_banner(run);
    slices_print(s);
    if (run_speaks(run)) slices_draw(&c->model, (int)c->tensor_parallel, c->output_dir);
    Saver *saver = saver_new(c, &parts, run->data->tokenizer);
    MetricsRow row = train(run, s, saver);
    run_end(run, &row);
    if (run->account.steps > 0) tp_forecast_print(s, &run->account);
    run_print_result(run, &row, NULL);
    saver_close(saver);
    sliced_delete(s);
    mesh_close(&run->mesh);
}

/* --prompt on a mesh: no device needs to hold the model. False: it is not asked for. */
static bool continue_prompt_on_mesh(const Run *run) {
    if (!run->config.prompt || run->config.tensor_parallel == 1) return false;
    Mesh mesh = mesh_of(run);
    texts_continue(&run->config, &mesh, run->job.device);
    mesh_close(&mesh);
    return true;
}

/* What else can be asked for. False: a mistake that nothing has noticed. */
static bool compare(const TpProgram *options, Run *run) {
    if (options->mistake != MISTAKE_NONE)
        return mistakes_run(&run->config, options->mistake, run->job.world, run->job.device, run->data);
    json_t *report = report_new(run->chapter, run->argc, run->argv);
    meshes_run(options, run, report);
    json_decref(report);
    pictures_print_place(run->config.output_dir, NULL, NULL);
    return true;
}

int main(int argc, char **argv) {
    int devices = platform_ranks();
    TpProgram options = tp_options_parse(argc, argv, devices);
    Run run = run_open("08_tensor_parallel", "MiniGPT, tensor parallel: loss by step", &options.run, devices,
                       argc, argv);
    bool right = true;
    if (options.model == CUT_MLP) {
        right = waves_cut_run(&run.config, &options.waves, run.job.world, run.job.device);
        pictures_print_place(run.config.output_dir, NULL, NULL);
    } else if (!continue_prompt_on_mesh(&run) && !run_answer(&run)) {
        if (options.mistake != MISTAKE_NONE || options.sweep != CUT_SWEEP_NONE)
            right = compare(&options, &run);
        else
            train_gpt(&run);
    }
    run_close(&run);
    return right ? 0 : 1;
}
