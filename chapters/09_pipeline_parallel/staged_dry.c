/* A run of a stage that only counts, ahead of the real one. */
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/09_pipeline_parallel/staged.h"
#include "common/comm/clock.h"
#include "common/run/dry_run.h"

static void evaluate_dry(Staged *s) {
    const Config *c = &s->own->config;
    fsdp_begin(s->own->fsdp);
    chunks_evaluate(&s->chunks, s->own->data, dry_windows(c, s->own->data), c->micro_batch);
}

/* Its first token takes as much as any other. */
static void sample_dry(Staged *s) {
    Sampling sampling = {.max_new_tokens = 1};
    Str text = {0};
    fsdp_begin(s->own->fsdp);
    chunks_generate(&s->chunks, s->own->data->tokenizer, "", &sampling, &text);
    str_free(&text);
}

double staged_run_dry(Staged *s) {
    const Config *c = &s->own->config;
    double seconds = 0;
    evaluate_dry(s);
    for (int64_t step = 0; step < dry_steps(c); step++) {
        MetricsRow row;
        double began = queue_now(&s->own->device->queue);
        staged_step(s, step, &row);
        seconds = queue_now(&s->own->device->queue) - began;
    }
    evaluate_dry(s);
    if (c->sample_interval) sample_dry(s);
    return seconds;
}

double staged_dry(const Config *c, Comm *world, Device *device, const Dataset *data) {
    Plan *plan = pp_plan(c);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, (int)c->pipeline_parallel, 1});
    Staged *s = staged_new(c, &mesh, plan, device, data);
    double seconds = staged_run_dry(s);
    staged_delete(s);
    mesh_close(&mesh);
    pp_plan_delete(plan);
    return seconds;
}
