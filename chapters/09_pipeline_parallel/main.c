/* Chapter 09: pipeline parallel. The blocks of the model are cut into stages, and each device has one. A micro-batch goes from
 * device to device, forward and back, and several are under way at once: who does what when is a schedule, and how long
 * devices stand idle under it is called its bubble.
 *
 *   make ch09                                                     MiniGPT on 8 devices, 2 pipelines of 4 stages
 *   make ch09 ARGS="--pipeline-schedule zb-h1"                    or naive, gpipe, interleaved, zb-v
 *   make ch09 ARGS="--clock model --device-model ideal --max-steps 3"       the bubble is the formula's
 *   build/mpiexec -n 4 build/09_pipeline_parallel --schedule-file runs/09_pipeline_parallel/schedule.csv --max-steps 100
 *                                                                 a schedule that you have changed
 *   build/09_pipeline_parallel --sweep plan --pipeline-parallel-size 4 --num-microbatches 8    all of them drawn, none run
 *   build/mpiexec -n 4 build/09_pipeline_parallel --sweep schedules --num-layers 8 --device-model h100     which wins, and when
 *
 * The order of ideas: who does what when, in schedule.c; the messages that this takes, and the proof that nobody waits for
 * ever, in plan.c; which blocks each stage has, in stages.c; how a stage does its part, in pipeline.c; a step, in staged.c;
 * an embedding that two stages share, in ties.c; what it moves, and how long stages are idle, in pp_forecast.c; pictures,
 * in gantt.c and step_pictures.c; which schedule wins where, in schedules_sweep.c. */
#include "chapters/05_data_parallel/run.h"
#include "chapters/09_pipeline_parallel/pp_forecast.h"
#include "chapters/09_pipeline_parallel/pp_texts.h"
#include "chapters/09_pipeline_parallel/schedules_sweep.h"
#include "chapters/09_pipeline_parallel/step_pictures.h"
#include "common/base/platform.h"
#include "common/config/flags.h"
#include "common/draw/pictures.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Text by the model as it is now, of which each device has some blocks. */
static void show_sample(Run *run, Staged *s, int64_t step) {
    Str text = {0};
    bool ended = staged_sample(s, step, &text);
    run_sample(run, step, &text, ended);
    str_free(&text);
}

static void read_row(void *trainer, MetricsRow *row) { staged_read(trainer, row); }

/* Trains up to the last step, or until Ctrl-C; returns the last row, whose val_loss is that of the trained model. */
static MetricsRow train(Run *run, Staged *s, Saver *saver, StepPictures *pictures) {
    const Config *c = &run->config;
    int64_t first = s->own->optimizer->step, last = run_last_step(run);
    MetricsRow row = run_begin(run, first, s->own->next_window, read_row, s);
    if (first == 0 || first >= last) row.val_loss = staged_evaluate(s);
    run_first_row(run, &row, s->own->tape);
    staged_watch(s, run->account.profile);
    for (int64_t step = first; step < last; step++) {
        run_step_begin(run, step + 1);
        step_pictures_begin(pictures);
        staged_issue(s, step, &row);
        step_pictures_end(pictures);
        bool done = run_step_end(run, &row, s->own->next_window);

        row.val_loss = done || run_every(c->eval_interval, row.step) ? staged_evaluate(s) : NAN;
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
    return mesh_new(run->job.world, (int[MESH_AXES]){0, (int)run->config.pipeline_parallel, 1});
}

static void train_gpt(Run *run, const Plan *plan) {
    const Config *c = &run->config;
    if (run_memory_ahead(run, &(MemoryAhead){staged_dry, ARGS_SHARDING | ARGS_PIPELINE, pp_is_possible}))
        return;
    run->mesh = mesh_of(run);
    Staged *s = staged_new(c, &run->mesh, plan, run->job.device, run->data);
    run_take_folder(run);
    Parts parts = staged_parts(s);
    sharded_begin(s->own, &parts);
    run_print_banner(run);
    pp_print_cut(s);
    if (run_speaks(run)) pp_write_schedule(c, plan->schedule);
    Saver *saver = saver_new(c, &parts, run->data->tokenizer);
    StepPictures *pictures = step_pictures_new(s);
    MetricsRow row = train(run, s, saver, pictures);
    run_end(run, &row);
    if (run->account.steps > 0) {
        Measured m = measured_of(s);
        pp_forecast_print(s, &m, pp_kind(c), pp_virtual_stages(c), &run->account);
        step_pictures_draw(pictures, &m, pp_kind(c));
        if (run_speaks(run)) report_add(c->output_dir, "pipeline", measured_json(&m, plan->schedule));
        measured_free(&m, plan);
    }
    run_print_result(run, &row, "pipeline.png");
    step_pictures_delete(pictures);
    saver_close(saver);
    staged_delete(s);
    mesh_close(&run->mesh);
}

/* --prompt on a mesh: no device needs to hold the model. False: it is not asked for. */
static bool continue_prompt_on_mesh(const Run *run, const Plan *plan) {
    if (!run->config.prompt || run->config.pipeline_parallel == 1) return false;
    Mesh mesh = mesh_of(run);
    pp_texts_continue(&run->config, &mesh, plan->schedule, run->job.device);
    mesh_close(&mesh);
    return true;
}

int main(int argc, char **argv) {
    int devices = platform_ranks();
    PpProgram options = pp_options_parse(argc, argv, devices);
    Plan *plan = NULL; /* a sweep makes its own */
    if (options.sweep == PP_SWEEP_NONE || options.run.prompt)
        plan = pp_plan(&options.run); /* before anything is allocated: can this schedule be run? */
    Run run = run_open("09_pipeline_parallel", "MiniGPT in stages: loss by step", &options.run, devices, argc,
                       argv);
    if (plan && !continue_prompt_on_mesh(&run, plan) && !run_answer(&run)) train_gpt(&run, plan);
    if (!plan && !run_answer(&run)) schedules_run(&options, &run);
    run_close(&run);
    if (plan) pp_plan_delete(plan);
    return 0;
}
