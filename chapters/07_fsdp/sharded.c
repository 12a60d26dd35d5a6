#include "chapters/07_fsdp/sharded.h"

#include <stdlib.h>

/* Neighbours of `shard_group` devices share a model's state; those with the same place in their group hold the same. */
static void make_groups(Sharded *s, int shard_group) {
    int n = s->comm->size, rank = s->comm->rank;
    bool all = shard_group == 0 || shard_group == n;
    s->shards = all ? s->comm : comm_split(s->comm, rank / shard_group, rank, "shards");
    s->copies = all ? comm_self() : comm_split(s->comm, rank % shard_group, rank, "copies");
}

static void begin_pass(void *context) { fsdp_begin(context); }

Sharded *sharded_new(const Config *config, Comm *comm, Device *device, const Dataset *data) {
    /* planned: no device ever holds what is not its own */
    Model *model = model_new_of(device, &config->model, config->seed, &layers_serial, NULL, true);
    return sharded_new_of(config, comm, model, data);
}

Sharded *sharded_new_of(const Config *config, Comm *comm, Model *model, const Dataset *data) {
    ASSERT(config->data_parallel == comm->size);
    Device *device = model->device;
    Sharded *s = xcalloc(1, sizeof *s);
    *s = (Sharded){.config = *config, .comm = comm, .device = device, .data = data, .model = model};
    make_groups(s, (int)config->shard_group);
    FsdpOptions options = fsdp_options_of(config, s->shards, s->copies);
    s->model->recompute = config->recompute;
    s->fsdp = fsdp_new(&s->model->params, &options);
    s->model->before_pass = begin_pass;
    s->model->pass_context = s->fsdp;
    s->optimizer = optimizer_new(fsdp_params(s->fsdp), config);
    s->tape = tape_new(device, true);
    s->batch = batch_new(device, config->num_microbatches * config->micro_batch, config->model.T);
    s->seed = tensor_new(device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    return s;
}

void sharded_delete(Sharded *s) {
    tensor_free(&s->seed);
    batch_free(&s->batch);
    tape_delete(s->tape);
    optimizer_delete(s->optimizer);
    fsdp_delete(s->fsdp);
    model_delete(s->model);
    comm_close(s->copies);
    if (s->shards != s->comm) comm_close(s->shards);
    free(s);
}

static double sum_over_devices(Sharded *s, double x) {
    comm_all_reduce(s->comm, &s->device->queue, &x, &x, 1, TYPE_F64, REDUCE_SUM);
    return x;
}

void sharded_step(Sharded *s, int64_t step, MetricsRow *row) {
    const Config *c = &s->config;
    profile_phase(s->profile, PHASE_DATA);
    int64_t share = c->num_microbatches * c->micro_batch;
    int64_t first = s->next_window + s->comm->rank * share; /* device d has the d-th slice */
    batch_load(&s->batch, s->data, SPLIT_TRAIN, first);
    profile_phase(s->profile, PHASE_REDUCE);
    double real_tokens = sum_over_devices(s, (double)s->batch.real);
    tensor_set_scalar(&s->seed, 1.0 / real_tokens); /* the mean over the global batch */

    double loss = 0;
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        profile_phase(s->profile, PHASE_FORWARD);
        Batch part = batch_rows(&s->batch, i * c->micro_batch, c->micro_batch);
        Pass pass = {.training = true, .first_sample = first + i * c->micro_batch};
        tape_begin_microbatch(s->tape, i, c->num_microbatches);
        /* stage 3: each op finds its weights gathered */
        Tensor *x = model_embed(s->model, s->tape, &part.ids, &pass);
        x = model_blocks(s->model, s->tape, x, 0, c->model.L, &pass);
        Tensor *sum = model_loss(s->model, s->tape, x, &part.targets);
        loss += tensor_scalar(sum) / real_tokens;

        profile_phase(s->profile, PHASE_BACKWARD);
        /* stages 2 and 3: each unit's gradients leave as soon as they are formed */
        tape_backward(s->tape, sum, &s->seed);
        tape_reset(s->tape);
    }
    profile_phase(s->profile, PHASE_REDUCE);
    fsdp_finish(s->fsdp);
    row->loss = sum_over_devices(s, loss);

    profile_phase(s->profile, PHASE_CLIP);
    row->grad_norm = optimizer_grad_norm_among(s->optimizer, s->config.zero_stage ? s->shards : NULL, NULL);
    Pass pass = {.training = true, .first_sample = first};
    check_finite(s->model, &s->batch, c->micro_batch, &pass, step + 1, row->loss, row->grad_norm, s->comm);
    profile_phase(s->profile, PHASE_OPTIMIZER);
    row->lr = schedule_lr(c, step);
    optimizer_step(s->optimizer, row->lr,
                   clip_factor(row->grad_norm, c->grad_clip)); /* of this device's shard */
    profile_phase(s->profile, PHASE_REDUCE);
    fsdp_updated(s->fsdp);
    profile_phase(s->profile, PHASE_NONE);
    s->next_window += c->global_batch;
}

Parts sharded_parts(const Sharded *s) {
    bool copy = s->config.zero_stage == 0 ? s->comm->rank > 0 : s->copies->rank > 0;
    return (Parts){s->comm, &s->model->params, s->optimizer, copy};
}
