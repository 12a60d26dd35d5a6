/* Chapter 10: one trainer, any mesh. The devices are a grid of data x pipe x tensor: the axes of chapters 05 and 07, 09 and 08,
 * all at once. The model trained is the same, and so is its loss.
 *
 *   make ch10                                                     MiniGPT on 8 devices, 2 x 2 x 2
 *   make ch10 ARGS="--tensor-parallel-size 4 --pipeline-parallel-size 1 --zero-stage 3 --sequence-parallel"    or another mesh
 *   make ch10 ARGS="--resume --pipeline-parallel-size 4 --max-steps 900"       what was saved on one goes on on another
 *   make ch10 ARGS="--sweep axes --device-model a100"             which mesh is for what
 *   build/10_3d_parallel --mesh auto --devices 4096 --preset xl --global-batch-size 4096 --device-model h100
 *                                                                 which mesh is best, of devices that you do not have
 *
 * The order of ideas: how three chapters meet in one step, and in which order a gradient is complete, in trainer.c; the
 * training loop, in which every device does the same and rank 0 speaks; what each axis costs, in axes.c. */
#include "chapters/05_data_parallel/run.h"
#include "chapters/09_pipeline_parallel/pp_forecast.h"
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/09_pipeline_parallel/step_pictures.h"
#include "chapters/10_3d_parallel/axes.h"
#include "chapters/10_3d_parallel/trainer.h"
#include "chapters/10_3d_parallel/trainer_options.h"
#include "chapters/10_3d_parallel/trainer_report.h"
#include "common/base/platform.h"
#include "common/config/flags.h"
#include "common/run/saver.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Text by the model as it is now, through all stages and slices of it. */
static void show_sample(Run *run, Trainer *t, int64_t step) {
    Str text = {0};
    bool ended = staged_sample(t->staged, step, &text);
    run_sample(run, step, &text, ended);
    str_free(&text);
}

static void read_row(void *trainer, MetricsRow *row) {
    const Trainer *t = trainer;
    staged_read(t->staged, row);
}

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of the trained model. */
static MetricsRow train(Run *run, Trainer *t, Saver *saver, StepPictures *pictures) {
    const Config *c = &run->config;
    Sharded *own = t->staged->own;
    int64_t first = own->optimizer->step, last = run_last_step(run);
    MetricsRow row = run_begin(run, first, own->next_window, read_row, t);
    if (first == 0 || first >= last) row.val_loss = trainer_evaluate(t);
    run_first_row(run, &row, own->tape);
    staged_watch(t->staged, run->account.profile);
    for (int64_t step = first; step < last; step++) {
        run_step_begin(run, step + 1);
        step_pictures_begin(pictures);
        trainer_issue(t, step, &row);
        step_pictures_end(pictures);
        bool done = run_step_end(run, &row, own->next_window);

        row.val_loss = done || run_every(c->eval_interval, row.step) ? trainer_evaluate(t) : NAN;
        run_row(run, &row, done);
        if (c->sample_interval && (done || run_every(c->sample_interval, row.step)))
            show_sample(run, t, row.step);
        run_save(run, saver, row.step, own->next_window, done); /* every device writes its parts */
        if (done) break;
    }
    return row;
}

/* ---- around it ---- */

/* What the last step took: bytes along each axis, the bubble, the memory of each device. */
static void print_costs(const Run *run, const Trainer *t, StepPictures *pictures) {
    const Config *c = &run->config;
    trainer_print_axes(t);
    if (c->pipeline_parallel > 1) {
        Measured m = measured_of(t->staged);
        pp_bubble_print(t->staged, &m, pp_kind(c), pp_virtual_stages(c));
        step_pictures_draw(pictures, &m, pp_kind(c));
        measured_free(&m, t->staged->plan);
    }
    trainer_print_memory(t);
}

static void train_gpt(Run *run, const Plan *plan) {
    const Config *c = &run->config;
    if (run_memory_ahead(run, &(MemoryAhead){trainer_dry, ARGS_ALL, trainer_is_possible})) return;
    run->mesh = trainer_mesh(c, run->job.world);
    Trainer *t = trainer_new(c, &run->mesh, plan, run->job.device, run->data);
    run_take_folder(run);
    Parts parts = staged_parts(t->staged);
    sharded_begin(t->staged->own, &parts);
    run_print_banner(run);
    trainer_print_ranks(t);
    pp_print_cut(t->staged);
    if (run_speaks(run)) pp_write_schedule(c, plan->schedule);
    Saver *saver = saver_new(c, &parts, run->data->tokenizer);
    StepPictures *pictures = step_pictures_new(t->staged);
    MetricsRow row = train(run, t, saver, pictures);
    run_end(run, &row);
    if (run->account.steps > 0) print_costs(run, t, pictures);
    run_print_result(run, &row, "pipeline.png");
    step_pictures_delete(pictures);
    saver_close(saver);
    trainer_delete(t);
    mesh_close(&run->mesh);
}

/* --prompt on a mesh: no device needs to hold the model. False: it is not asked for, or one device does. */
static bool continue_prompt_on_mesh(const Run *run, const Plan *plan) {
    if (!run->config.prompt || run->job.world->size == 1) return false;
    Mesh mesh = trainer_mesh(&run->config, run->job.world);
    trainer_continue(&run->config, &mesh, plan, run->job.device);
    mesh_close(&mesh);
    return true;
}

int main(int argc, char **argv) {
    int devices = platform_ranks();
    TrainerProgram options = trainer_options_parse(argc, argv, devices);
    Plan *plan = NULL;
    bool trains = options.mesh == MESH_GIVEN && options.sweep == TRAINER_SWEEP_NONE;
    if (trains || options.run.prompt)
        plan = pp_plan(&options.run); /* before anything is allocated: can this schedule be run? */
    Run run =
        run_open("10_3d_parallel", "MiniGPT on a mesh: loss by step", &options.run, devices, argc, argv);
    if (!continue_prompt_on_mesh(&run, plan) && !run_answer(&run)) {
        if (trains)
            train_gpt(&run, plan);
        else if (options.mesh == MESH_AUTO)
            mesh_auto_run(&options.find, &run);
        else
            axes_run(&run);
    }
    run_close(&run);
    if (plan) pp_plan_delete(plan);
    return 0;
}
