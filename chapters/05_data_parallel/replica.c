#include "chapters/05_data_parallel/replica.h"

#include <stdlib.h>

Replica *replica_new(const Config *config, Comm *comm, Device *device, const Dataset *data) {
    ASSERT(config->data_parallel == comm->size);
    Replica *r = xcalloc(1, sizeof *r);
    *r = (Replica){.config = *config, .comm = comm, .device = device, .data = data};
    r->model = model_new(device, &config->model, config->seed, &layers_serial);
    r->model->recompute = config->recompute;
    r->optimizer = optimizer_new(&r->model->params, config);
    r->dp = data_parallel_new(&r->model->params, comm, config->overlap, config->bucket_size);
    r->tape = tape_new(device, true);
    r->batch = batch_new(device, config->num_microbatches * config->micro_batch, config->model.T);
    r->seed = tensor_new(device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    return r;
}

void replica_delete(Replica *r) {
    tensor_free(&r->seed);
    batch_free(&r->batch);
    tape_delete(r->tape);
    data_parallel_delete(r->dp);
    optimizer_delete(r->optimizer);
    model_delete(r->model);
    free(r);
}

static double sum_over_devices(Replica *r, double x) {
    comm_all_reduce(r->comm, &r->device->queue, &x, &x, 1, TYPE_F64, REDUCE_SUM);
    return x;
}

void replica_step(Replica *r, int64_t step, MetricsRow *row) {
    const Config *c = &r->config;
    profile_phase(r->profile, PHASE_DATA);
    int64_t share = c->num_microbatches * c->micro_batch;
    int64_t first = r->next_window + r->comm->rank * share; /* device d has the d-th slice */
    batch_load(&r->batch, r->data, SPLIT_TRAIN, first);
    profile_phase(r->profile, PHASE_REDUCE);
    double real_tokens = sum_over_devices(r, (double)r->batch.real);
    /* the loss is a mean over the global batch, so that no device divides again */
    tensor_set_scalar(&r->seed, 1.0 / real_tokens);

    double loss = 0;
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        profile_phase(r->profile, PHASE_FORWARD);
        Batch part = batch_rows(&r->batch, i * c->micro_batch, c->micro_batch);
        Pass pass = {.training = true, .first_sample = first + i * c->micro_batch};
        tape_begin_microbatch(r->tape, i, c->num_microbatches);
        Tensor *x = model_embed(r->model, r->tape, &part.ids, &pass);
        x = model_blocks(r->model, r->tape, x, 0, c->model.L, &pass);
        Tensor *sum = model_loss(r->model, r->tape, x, &part.targets);
        loss += tensor_scalar(sum) / real_tokens;

        profile_phase(r->profile, PHASE_BACKWARD);
        /* in the last micro-batch it calls the data parallel code at each gradient */
        tape_backward(r->tape, sum, &r->seed);
        tape_reset(r->tape);
    }
    profile_phase(r->profile, PHASE_REDUCE);
    data_parallel_finish(r->dp);
    row->loss = sum_over_devices(r, loss);

    profile_phase(r->profile, PHASE_CLIP); /* from here on every device does the same with the same numbers */
    row->grad_norm = optimizer_grad_norm(r->optimizer);
    Pass pass = {.training = true, .first_sample = first};
    check_finite(r->model, &r->batch, c->micro_batch, &pass, step + 1, row->loss, row->grad_norm, r->comm);
    profile_phase(r->profile, PHASE_OPTIMIZER);
    row->lr = schedule_lr(c, step);
    optimizer_step(r->optimizer, row->lr, clip_factor(row->grad_norm, c->grad_clip));
    profile_phase(r->profile, PHASE_NONE);
    r->next_window += c->global_batch;
}

static void broadcast(Replica *r, const Tensor *t) {
    if (t->data) comm_broadcast(r->comm, &r->device->queue, t->data, tensor_count(t), TYPE_REAL, 0);
}

void replica_broadcast(Replica *r) {
    int64_t position[] = {r->optimizer->step, r->next_window};
    comm_broadcast(r->comm, &r->device->queue, position, 2 * COUNT_OF(position), TYPE_I32, 0); /* halves */
    r->optimizer->step = position[0];
    r->next_window = position[1];
    for (int i = 0; i < r->model->params.count; i++) {
        broadcast(r, &r->model->params.items[i]->data);
        broadcast(r, &r->optimizer->m[i]);
        broadcast(r, &r->optimizer->v[i]);
    }
}
