#include "chapters/09_pipeline_parallel/staged.h"

#include "chapters/09_pipeline_parallel/stages.h"
#include "chapters/09_pipeline_parallel/ties.h"
#include "common/tensor/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what there is ---- */

/* With a unit's gradients in one buffer, a chunk must form them in the order of the micro-batches. */
char *staged_problem(const Config *c, const Schedule *schedule, char **hint) {
    if (c->zero_stage < 2 || c->reduce_once) return NULL;
    int64_t *next = xcalloc((size_t)schedule->chunks, sizeof *next);
    char *problem = NULL;
    for (int stage = 0; stage < schedule->stages; stage++)
        for (int64_t i = 0; i < schedule->counts[stage] && !problem; i++) {
            const Action *a = &schedule->actions[stage][i];
            bool forms = a->kind == ACTION_WEIGHTS || (a->kind == ACTION_BACKWARD && !a->inputs_only);
            if (forms && a->microbatch != next[a->chunk]++)
                problem = xprintf(
                    "--zero-stage %lld adds up a chunk's gradients in the order of its micro-batches, "
                    "and in schedule '%s' that of %lld in chunk %d comes before that of %lld",
                    (long long)c->zero_stage, schedule->name, (long long)a->microbatch, a->chunk,
                    (long long)next[a->chunk] - 1);
        }
    free(next);
    if (problem) *hint = xstrdup("with --reduce-once they may come in any order");
    return problem;
}

static StageLayers layers_of_one_device(const Config *c) {
    return (StageLayers){.stream = {.name = "x",
                                    .type = model_type(&c->model),
                                    .shape = SHAPE(c->micro_batch, c->model.T, c->model.C)}};
}

Staged *staged_new(const Config *c, const Mesh *mesh, const Plan *plan, Device *device, const Dataset *data) {
    StageLayers layers = layers_of_one_device(c);
    Model *model = model_new_of(device, &c->model, c->seed, &layers_serial, NULL, true);
    return staged_new_of(c, mesh, plan, model, &layers, data);
}

/* Of the model this device's parts alone, in shards along `data`. */
static void keep_parts(Staged *s, const Config *c, Model *model, const Dataset *data) {
    const Schedule *schedule = s->plan->schedule;
    ModelPart *own = xcalloc((size_t)schedule->chunks, sizeof *own);
    int count = stages_parts_of(schedule, s->parts, s->mesh->coordinate[MESH_PIPE], own);
    for (int i = 0; i < count; i++) {
        s->embeds |= own[i].embedding;
        s->heads |= own[i].head;
    }
    model_keep(model, own, count);
    free(own);
    s->own = sharded_new_of(c, s->mesh->axis[MESH_DATA], model, &s->whole->params, data);
    model->before_pass =
        NULL; /* a step is one pass, however many micro-batches go through the model at once */
}

Staged *staged_new_of(const Config *c, const Mesh *mesh, const Plan *plan, Model *model,
                      const StageLayers *layers, const Dataset *data) {
    Staged *s = xcalloc(1, sizeof *s);
    *s = (Staged){.mesh = mesh, .plan = plan, .layers = *layers};
    s->parts = xcalloc((size_t)plan->schedule->chunks, sizeof *s->parts);
    stages_cut(&c->model, plan->schedule, s->parts);
    s->whole = model_new(NULL, &c->model, c->seed, &layers_serial);
    keep_parts(s, c, model, data);
    s->ties = ties_open(mesh, plan->schedule, s->parts, &c->model);
    s->chunks = (Chunks){mesh, model, plan->schedule, s->parts};
    s->pipeline = pipeline_new(&s->chunks, plan, layers);
    bool units = c->clock == CLOCK_MODEL && strcmp(c->device_model, "ideal") == 0;
    if (units) pipeline_unit_cost(s->pipeline, 1e-3 * plan->schedule->stages / plan->schedule->chunks);
    return s;
}

void staged_delete(Staged *s) {
    pipeline_delete(s->pipeline);
    if (s->ties) comm_close(s->ties);
    sharded_delete(s->own);
    model_delete(s->whole);
    free(s->parts);
    free(s);
}

void staged_watch(Staged *s, Profile *profile) {
    s->own->profile = profile;
    pipeline_watch(s->pipeline, profile);
}

/* ---- a step ---- */

/* By the coordinate along `data`: the stages of a pipeline work on the same windows. */
static int64_t first_window(const Staged *s, int64_t of_all) {
    const Config *c = &s->own->config;
    return of_all + s->mesh->coordinate[MESH_DATA] * c->num_microbatches * c->micro_batch;
}

/* Forward and backward of all micro-batches, the first of which begins with window `first`. */
static void run_pipeline(Staged *s, int64_t first) {
    Sharded *own = s->own;
    profile_phase(own->profile, PHASE_DATA);
    /* the first stage reads the tokens, the last one the targets, and those in between nothing */
    if (s->embeds || s->heads) batch_load(&own->batch, own->data, SPLIT_TRAIN, first);
    if (s->heads) profile_phase(own->profile, PHASE_REDUCE);
    /* the loss is the mean over the global batch */
    step_begin(&own->numbers, s->heads ? &own->batch : NULL, s->mesh->axis[MESH_DATA]);
    fsdp_begin(own->fsdp);
    pipeline_step(s->pipeline, &own->batch, first, &own->numbers.seed);
}

void staged_gradient(Staged *s) {
    Sharded *own = s->own;
    run_pipeline(s, first_window(s, own->next_window));
    profile_phase(own->profile, PHASE_REDUCE);
    fsdp_finish(own->fsdp); /* the sum along `data` */
    Params *updated = fsdp_params(own->fsdp);
    if (s->layers.finish) s->layers.finish(s->layers.context, updated);
    ties_add(s->ties, own->model, updated);
    /* one stage knows the loss, the others add 0 */
    if (s->heads) step_add_loss(&own->numbers, pipeline_losses(s->pipeline));
    step_sum_loss(&own->numbers, s->mesh->axis[MESH_PIPE]);
    step_sum_loss(&own->numbers, s->mesh->axis[MESH_DATA]);
}

/* Of gradients that devices hold parts of: with other layers, other slices of them, other shards. */
static NormGroups norm_groups(const Staged *s) {
    const Mesh *mesh = s->mesh;
    return (NormGroups){.shards = s->own->config.zero_stage ? s->own->shards : NULL,
                        .stages = mesh->size[MESH_PIPE] > 1 ? mesh->axis[MESH_PIPE] : NULL,
                        .slices = mesh->size[MESH_TENSOR] > 1 ? mesh->axis[MESH_TENSOR] : NULL};
}

/* Ends the program when they are not finite: all run the step once more, and the first op that went wrong is named. */
static void check_finite_in_stages(Staged *s, const StepResult *was) {
    if (step_is_finite(was)) return;
    NotFinite found = {0};
    not_finite_prepare(s->own->model);
    pipeline_seek(s->pipeline, &found);
    run_pipeline(s, first_window(s, was->first_window));
    not_finite_fail(&found, was, s->mesh->world);
}

void staged_issue(Staged *s, int64_t step, MetricsRow *row) {
    Sharded *own = s->own;
    const Config *c = &own->config;
    CommCount before[COMM_KINDS];
    memcpy(before, s->mesh->axis[MESH_PIPE]->counts, sizeof before);
    staged_gradient(s);

    profile_phase(own->profile, PHASE_CLIP);
    NormGroups groups = norm_groups(s);
    step_clip(&own->numbers, own->optimizer, &groups, c->grad_clip);
    profile_phase(own->profile, PHASE_OPTIMIZER);
    row->lr = schedule_lr(c, step);
    optimizer_step(own->optimizer, row->lr, &own->numbers.clip);
    profile_phase(own->profile, PHASE_REDUCE);
    fsdp_updated(own->fsdp);
    step_start_read(&own->numbers, step + 1, own->next_window);
    profile_phase(own->profile, PHASE_NONE);
    own->next_window += c->global_batch;
    comm_counts_since(s->mesh->axis[MESH_PIPE], before, s->along_pipe);
}

void staged_read(Staged *s, MetricsRow *row) {
    StepResult was = sharded_result(s->own, row);
    check_finite_in_stages(s, &was);
}

void staged_step(Staged *s, int64_t step, MetricsRow *row) {
    staged_issue(s, step, row);
    staged_read(s, row);
}

/* ---- forward alone ---- */

double staged_evaluate(Staged *s) {
    const Sharded *own = s->own;
    const Config *c = &own->config;
    const char *drifted = staged_drift(s);
    CHECK(!drifted, "every device must do the same with the same gradients",
          "devices hold different copies of '%s'", drifted);
    fsdp_begin_forward(own->fsdp);
    return chunks_evaluate(&s->chunks, own->data, c->eval_windows, c->micro_batch);
}

bool staged_sample(Staged *s, int64_t step, Str *text) {
    const Config *c = &s->own->config;
    Sampling sampling = {c->temperature, c->top_k,      c->top_p, min64(c->max_new_tokens, c->model.T),
                         c->seed,        (uint64_t)step};
    fsdp_begin_forward(s->own->fsdp);
    return chunks_generate(&s->chunks, s->own->data->tokenizer, "", &sampling, text).ended;
}

/* ---- copies ---- */

const char *staged_drift(const Staged *s) {
    fsdp_check(s->own->fsdp); /* along `data` */
    const char *name = ties_drift(s->ties, s->own->model, fsdp_params(s->own->fsdp));
    int32_t found = name != NULL;
    comm_all_reduce(s->mesh->world, NULL, &found, &found, 1, TYPE_I32, REDUCE_MAX);
    return name ? name : found ? "a parameter of another device" : NULL;
}

Parts staged_parts(const Staged *s) {
    const Sharded *own = s->own;
    /* along `pipe` a tied table knows itself which copy it is */
    bool copy = own->config.zero_stage == 0 ? own->comm->rank > 0 : own->copies->rank > 0;
    return (Parts){s->mesh->world, own->optimizer, copy};
}
