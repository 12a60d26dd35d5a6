#include "chapters/07_fsdp/sharded.h"

#include "common/comm/clock.h"
#include "common/run/dry_run.h"
#include "common/run/resume.h"

#include <stdlib.h>

void sharded_check_flags(const Config *c) {
    CHECK_USAGE(c->overlap != OVERLAP_BUCKET, "here gradients are summed in units: none, or backward",
                "--overlap bucket is chapter 05's");
    if (c->shard_group == 0 || c->data_parallel % c->shard_group == 0) return;
    int64_t below = c->shard_group;
    while (c->data_parallel % below) below--;
    CHECK_USAGE(false, xprintf("--shard-group %lld does, or %d", (long long)below, c->data_parallel),
                "--shard-group %lld does not divide the %d devices along 'data'", (long long)c->shard_group,
                c->data_parallel);
}

/* Neighbours of `shard_group` devices share a model's state; those with the same place in their group hold the same. */
static void make_groups(Sharded *s, int shard_group) {
    int n = s->comm->size;
    bool all = shard_group == 0 || shard_group == n;
    s->shards = all ? s->comm : comm_split_strided(s->comm, shard_group, 1, "shards");
    s->copies = all ? comm_self() : comm_split_strided(s->comm, n / shard_group, shard_group, "copies");
}

static void begin_pass(void *context) { fsdp_begin(context); }

Sharded *sharded_new(const Config *config, Comm *comm, Device *device, const Dataset *data) {
    /* planned: no device ever holds what is not its own */
    Model *model = model_new_of(device, &config->model, config->seed, &layers_serial, NULL, true);
    return sharded_new_of(config, comm, model, NULL, data);
}

Sharded *sharded_new_of(const Config *config, Comm *comm, Model *model, const Params *whole,
                        const Dataset *data) {
    ASSERT(config->data_parallel == comm->size);
    Device *device = model->device;
    Sharded *s = xcalloc(1, sizeof *s);
    *s = (Sharded){.config = *config, .comm = comm, .device = device, .data = data, .model = model};
    make_groups(s, (int)config->shard_group);
    FsdpOptions options = fsdp_options_of(config, s->shards, s->copies);
    options.whole = whole;
    s->model->recompute = config->recompute;
    s->fsdp = fsdp_new(&s->model->params, &options);
    s->model->before_pass = begin_pass;
    s->model->pass_context = s->fsdp;
    s->optimizer = optimizer_new(fsdp_params(s->fsdp), config);
    s->tape = tape_new(device, true);
    s->batch = batch_new(device, config->num_microbatches * config->micro_batch, config->model.T);
    s->numbers = step_numbers_new(device);
    return s;
}

void sharded_delete(Sharded *s) {
    step_numbers_free(&s->numbers);
    batch_free(&s->batch);
    tape_delete(s->tape);
    optimizer_delete(s->optimizer);
    fsdp_delete(s->fsdp);
    model_delete(s->model);
    comm_close(s->copies);
    if (s->shards != s->comm) comm_close(s->shards);
    free(s);
}

void sharded_issue(Sharded *s, int64_t step, MetricsRow *row) {
    const Config *c = &s->config;
    profile_phase(s->profile, PHASE_DATA);
    int64_t share = c->num_microbatches * c->micro_batch;
    int64_t first = s->next_window + s->comm->rank * share; /* device d has the d-th slice */
    batch_load(&s->batch, s->data, SPLIT_TRAIN, first);
    profile_phase(s->profile, PHASE_REDUCE);
    step_begin(&s->numbers, &s->batch, s->comm); /* the mean over the global batch */
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        profile_phase(s->profile, PHASE_FORWARD);
        Batch part = batch_rows(&s->batch, i * c->micro_batch, c->micro_batch);
        Pass pass = {.training = true, .first_sample = first + i * c->micro_batch};
        tape_begin_microbatch(s->tape, i, c->num_microbatches);
        /* stage 3: each op finds its weights gathered */
        Tensor *x = model_embed(s->model, s->tape, &part.ids, &pass);
        x = model_blocks(s->model, s->tape, x, 0, c->model.L, &pass);
        Tensor *sum = model_loss(s->model, s->tape, x, &part.targets);
        step_add_loss(&s->numbers, sum);

        profile_phase(s->profile, PHASE_BACKWARD);
        /* stages 2 and 3: each unit's gradients leave as soon as they are formed */
        tape_backward(s->tape, sum, &s->numbers.seed);
        tape_reset(s->tape);
    }
    profile_phase(s->profile, PHASE_REDUCE);
    fsdp_finish(s->fsdp);
    step_sum_loss(&s->numbers, s->comm);

    profile_phase(s->profile, PHASE_CLIP);
    NormGroups groups = {.shards = s->config.zero_stage ? s->shards : NULL};
    step_clip(&s->numbers, s->optimizer, &groups, c->grad_clip);
    profile_phase(s->profile, PHASE_OPTIMIZER);
    row->lr = schedule_lr(c, step);
    optimizer_step(s->optimizer, row->lr, &s->numbers.clip); /* of this device's shard */
    profile_phase(s->profile, PHASE_REDUCE);
    fsdp_updated(s->fsdp);
    step_start_read(&s->numbers, step + 1, s->next_window);
    profile_phase(s->profile, PHASE_NONE);
    s->next_window += c->global_batch;
}

StepResult sharded_result(Sharded *s, MetricsRow *row) {
    StepResult was = step_read(&s->numbers); /* until here nobody has waited */
    row->loss = was.loss;
    row->grad_norm = was.grad_norm;
    return was;
}

void sharded_read(Sharded *s, MetricsRow *row) {
    const Config *c = &s->config;
    StepResult was = sharded_result(s, row);
    int64_t share = c->num_microbatches * c->micro_batch;
    Pass pass = {.training = true, .first_sample = was.first_window + s->comm->rank * share};
    check_finite(s->model, &s->batch, s->data, c->micro_batch, &pass, &was, s->comm);
}

void sharded_step(Sharded *s, int64_t step, MetricsRow *row) {
    sharded_issue(s, step, row);
    sharded_read(s, row);
}

Parts sharded_parts(const Sharded *s) {
    bool copy = s->config.zero_stage == 0 ? s->comm->rank > 0 : s->copies->rank > 0;
    return (Parts){s->comm, s->optimizer, copy};
}

/* Rank 0 looks for the newest; each device reads its parts. */
static void resume(Sharded *s, const Parts *parts) {
    Checkpoint *checkpoint = NULL;
    if (parts->comm->rank == 0) checkpoint = resume_open(&s->config, s->data->tokenizer, &s->next_window);
    snapshot_load_parts(checkpoint, parts);
    comm_broadcast(parts->comm, NULL, &s->next_window, 2, TYPE_I32, 0); /* halves */
    checkpoint_close(checkpoint);
}

void sharded_begin(Sharded *s, const Parts *parts) {
    const char *path = s->config.load_parameters_path;
    if (!s->config.resume && !path) return;
    if (s->config.resume)
        resume(s, parts);
    else
        snapshot_load_parameters(path, parts->comm, s->optimizer->params, s->data->tokenizer);
    fsdp_updated(s->fsdp);
}

/* ---- ahead of a run ---- */

static void evaluate_dry(Sharded *s) {
    evaluate(s->model, s->data, dry_windows(&s->config, s->data), s->config.micro_batch, s->comm);
}

double sharded_dry(const Config *c, Comm *world, Device *device, const Dataset *data) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, 1});
    Sharded *s = sharded_new(c, mesh.axis[MESH_DATA], device, data);
    double seconds = 0;
    evaluate_dry(s);
    for (int64_t step = 0; step < dry_steps(c); step++) {
        MetricsRow row;
        double began = queue_now(&device->queue);
        sharded_step(s, step, &row);
        seconds = queue_now(&device->queue) - began;
    }
    evaluate_dry(s);
    sharded_delete(s);
    mesh_close(&mesh);
    return seconds;
}
