#include "chapters/08_tensor_parallel/sliced.h"

#include "common/comm/clock.h"
#include "common/run/dry_run.h"

#include <stdlib.h>
#include <string.h>

TensorParallelOptions sliced_options(const Config *c) {
    return (TensorParallelOptions){.sequence_parallel = c->sequence_parallel,
                                   .gather_again = c->gather_again,
                                   .overlap_chunks = c->overlap_tensor > 1 ? c->overlap_tensor : 0};
}

char *sliced_problem(const Config *c, char **hint) {
    TensorParallelOptions options = sliced_options(c);
    return tensor_parallel_problem(&c->model, (int)c->tensor_parallel, &options, hint);
}

bool sliced_is_possible(const Config *c) {
    char *hint, *problem = sliced_problem(c, &hint);
    if (problem) free(hint);
    free(problem);
    return !problem;
}

void sliced_check_sizes(const Config *c, Comm *world) {
    char *hint, *problem = sliced_problem(c, &hint);
    if (problem && world) comm_refuse(world, hint, problem);
    CHECK_USAGE(!problem, hint, "%s", problem);
}

Sliced *sliced_new(const Config *c, const Mesh *mesh, Device *device, const Dataset *data) {
    TensorParallelOptions options = sliced_options(c);
    TensorParallel *tp = tensor_parallel_new(mesh, &c->model, &options);
    return sliced_new_of(c, tp, tensor_parallel_model(tp, device, &c->model, c->seed, true), data);
}

Sliced *sliced_new_of(const Config *c, TensorParallel *tp, Model *slice, const Dataset *data) {
    Sliced *s = xcalloc(1, sizeof *s);
    *s = (Sliced){.mesh = tp->mesh, .tp = tp};
    s->own = sharded_new_of(c, tp->mesh->axis[MESH_DATA], slice, NULL, data);
    return s;
}

void sliced_delete(Sliced *s) {
    sharded_delete(s->own);
    tensor_parallel_delete(s->tp);
    free(s);
}

/* The first half of a step: gradients are complete, and not clipped, and the loss is known to the device. */
static void gradient(Sliced *s) {
    Sharded *own = s->own;
    Comm *data = s->mesh->axis[MESH_DATA];
    const Config *c = &own->config;
    profile_phase(own->profile, PHASE_DATA);
    int64_t share = c->num_microbatches * c->micro_batch;
    /* by the coordinate along `data`: devices along `tensor` load the same windows */
    int64_t first = own->next_window + s->mesh->coordinate[MESH_DATA] * share;
    batch_load(&own->batch, own->data, SPLIT_TRAIN, first);
    profile_phase(own->profile, PHASE_REDUCE);
    step_begin(&own->numbers, &own->batch, data);
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        profile_phase(own->profile, PHASE_FORWARD);
        Batch part = batch_rows(&own->batch, i * c->micro_batch, c->micro_batch);
        Pass pass = {.training = true, .first_sample = first + i * c->micro_batch};
        pass = tensor_parallel_pass(s->tp, &c->model, pass);
        tape_begin_microbatch(own->tape, i, c->num_microbatches);
        /* each layer's products are of this device's columns or rows; in between, op_copy and op_reduce */
        Tensor *x = model_embed(own->model, own->tape, &part.ids, &pass);
        x = model_blocks(own->model, own->tape, x, 0, c->model.L, &pass);
        Tensor *sum = model_loss(own->model, own->tape, x, &part.targets);
        step_add_loss(&own->numbers, sum); /* Replicate along `tensor`: counted once */

        profile_phase(own->profile, PHASE_BACKWARD);
        tape_backward(own->tape, sum, &own->numbers.seed);
        tape_reset(own->tape);
    }
    profile_phase(own->profile, PHASE_REDUCE);
    fsdp_finish(own->fsdp);                                /* the sum along `data` */
    tensor_parallel_finish(s->tp, fsdp_params(own->fsdp)); /* what is Partial along `tensor` still */
    step_sum_loss(&own->numbers, data);
}

/* Gradients that devices hold slices of, and shards of slices: copies of either count once. */
static NormGroups norm_groups(const Sliced *s) {
    const Mesh *mesh = s->mesh;
    return (NormGroups){.shards = s->own->config.zero_stage ? s->own->shards : NULL,
                        .slices = mesh->size[MESH_TENSOR] > 1 ? mesh->axis[MESH_TENSOR] : NULL};
}

void sliced_issue(Sliced *s, int64_t step, MetricsRow *row) {
    Sharded *own = s->own;
    const Config *c = &own->config;
    CommCount before[COMM_KINDS];
    memcpy(before, s->mesh->axis[MESH_TENSOR]->counts, sizeof before);
    gradient(s);

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
    comm_counts_since(s->mesh->axis[MESH_TENSOR], before, s->along_tensor);
}

void sliced_read(Sliced *s, MetricsRow *row) {
    Sharded *own = s->own;
    const Config *c = &own->config;
    StepResult was = sharded_result(own, row);
    int64_t share = c->num_microbatches * c->micro_batch;
    Pass pass = {.training = true, .first_sample = was.first_window + s->mesh->coordinate[MESH_DATA] * share};
    pass = tensor_parallel_pass(s->tp, &c->model, pass);
    check_finite(own->model, &own->batch, own->data, c->micro_batch, &pass, &was, s->mesh->world);
}

void sliced_step(Sliced *s, int64_t step, MetricsRow *row) {
    sliced_issue(s, step, row);
    sliced_read(s, row);
}

double sliced_evaluate(Sliced *s) {
    const Config *c = &s->own->config;
    const char *drifted = sliced_drift(s);
    CHECK(!drifted, "every device must do the same with the same gradients",
          "devices hold different copies of '%s'", drifted);
    return evaluate(s->own->model, s->own->data, c->eval_windows, c->micro_batch, s->mesh->axis[MESH_DATA]);
}

/* ---- copies ---- */

const char *sliced_drift(const Sliced *s) {
    fsdp_check(s->own->fsdp); /* along `data` */
    return tensor_parallel_drift(s->tp, fsdp_params(s->own->fsdp));
}

Parts sliced_parts(const Sliced *s) {
    const Sharded *own = s->own;
    /* along `tensor` a parameter knows itself which copy it is */
    bool copy = own->config.zero_stage == 0 ? own->comm->rank > 0 : own->copies->rank > 0;
    return (Parts){s->mesh->world, own->optimizer, copy};
}

/* ---- ahead of a run ---- */

static void evaluate_dry(Sliced *s) {
    const Config *c = &s->own->config;
    evaluate(s->own->model, s->own->data, dry_windows(c, s->own->data), c->micro_batch,
             s->mesh->axis[MESH_DATA]);
}

/* Its first token takes as much as any other. */
static void sample_dry(Sliced *s) {
    Sampling sampling = {.max_new_tokens = 1};
    Str text = {0};
    generate(s->own->model, s->own->data->tokenizer, "", &sampling, &text);
    str_free(&text);
}

double sliced_dry(const Config *c, Comm *world, Device *device, const Dataset *data) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, (int)c->tensor_parallel});
    Sliced *s = sliced_new(c, &mesh, device, data);
    double seconds = 0;
    evaluate_dry(s);
    for (int64_t step = 0; step < dry_steps(c); step++) {
        MetricsRow row;
        double began = queue_now(&device->queue);
        sliced_step(s, step, &row);
        seconds = queue_now(&device->queue) - began;
    }
    evaluate_dry(s);
    if (c->sample_interval) sample_dry(s);
    sliced_delete(s);
    mesh_close(&mesh);
    return seconds;
}
