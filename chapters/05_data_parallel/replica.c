#include "chapters/05_data_parallel/replica.h"

#include "common/comm/clock.h"
#include "common/run/dry_run.h"

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
    r->numbers = step_numbers_new(device);
    return r;
}

void replica_delete(Replica *r) {
    step_numbers_free(&r->numbers);
    batch_free(&r->batch);
    tape_delete(r->tape);
    data_parallel_delete(r->dp);
    optimizer_delete(r->optimizer);
    model_delete(r->model);
    free(r);
}

void replica_issue(Replica *r, int64_t step, MetricsRow *row) {
    const Config *c = &r->config;
    profile_phase(r->profile, PHASE_DATA);
    int64_t share = c->num_microbatches * c->micro_batch;
    int64_t first = r->next_window + r->comm->rank * share; /* device d has the d-th slice */
    batch_load(&r->batch, r->data, SPLIT_TRAIN, first);
    profile_phase(r->profile, PHASE_REDUCE);
    /* the loss is a mean over the global batch, so that no device divides again */
    step_begin(&r->numbers, &r->batch, r->comm);
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        profile_phase(r->profile, PHASE_FORWARD);
        Batch part = batch_rows(&r->batch, i * c->micro_batch, c->micro_batch);
        Pass pass = {.training = true, .first_sample = first + i * c->micro_batch};
        tape_begin_microbatch(r->tape, i, c->num_microbatches);
        Tensor *x = model_embed(r->model, r->tape, &part.ids, &pass);
        x = model_blocks(r->model, r->tape, x, 0, c->model.L, &pass);
        Tensor *sum = model_loss(r->model, r->tape, x, &part.targets);
        step_add_loss(&r->numbers, sum);

        profile_phase(r->profile, PHASE_BACKWARD);
        /* in the last micro-batch it calls the data parallel code at each gradient */
        tape_backward(r->tape, sum, &r->numbers.seed);
        tape_reset(r->tape);
    }
    profile_phase(r->profile, PHASE_REDUCE);
    data_parallel_finish(r->dp);
    step_sum_loss(&r->numbers, r->comm);

    profile_phase(r->profile, PHASE_CLIP); /* from here on every device does the same with the same numbers */
    step_clip(&r->numbers, r->optimizer, &(NormGroups){0}, c->grad_clip);
    profile_phase(r->profile, PHASE_OPTIMIZER);
    row->lr = schedule_lr(c, step);
    optimizer_step(r->optimizer, row->lr, &r->numbers.clip);
    step_start_read(&r->numbers, step + 1, r->next_window);
    profile_phase(r->profile, PHASE_NONE);
    r->next_window += c->global_batch;
}

void replica_read(Replica *r, MetricsRow *row) {
    const Config *c = &r->config;
    StepResult was = step_read(&r->numbers); /* until here nobody has waited */
    row->loss = was.loss;
    row->grad_norm = was.grad_norm;
    int64_t share = c->num_microbatches * c->micro_batch;
    Pass pass = {.training = true, .first_sample = was.first_window + r->comm->rank * share};
    check_finite(r->model, &r->batch, r->data, c->micro_batch, &pass, &was, r->comm);
}

void replica_step(Replica *r, int64_t step, MetricsRow *row) {
    replica_issue(r, step, row);
    replica_read(r, row);
}

static void broadcast(Replica *r, const Tensor *t) {
    if (t->data) comm_broadcast(r->comm, &r->device->queue, t->data, tensor_count(t), TYPE_REAL, 0);
}

void replica_broadcast(Replica *r) {
    int64_t position[] = {r->optimizer->step, r->next_window};
    Queue host = queue_of_host(&r->device->queue);
    comm_broadcast(r->comm, &host, position, 2 * COUNT_OF(position), TYPE_I32, 0); /* halves */
    r->optimizer->step = position[0];
    r->next_window = position[1];
    for (int i = 0; i < r->model->params.count; i++) {
        broadcast(r, &r->model->params.items[i]->data);
        broadcast(r, &r->optimizer->m[i]);
        broadcast(r, &r->optimizer->v[i]);
    }
    params_changed(&r->model->params);
}

/* ---- ahead of a run ---- */

static void evaluate_dry(Replica *r) {
    evaluate(r->model, r->data, dry_windows(&r->config, r->data), r->config.micro_batch, r->comm);
}

double replica_dry(const Config *c, Comm *world, Device *device, const Dataset *data) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, 1});
    Replica *r = replica_new(c, mesh.axis[MESH_DATA], device, data);
    double seconds = 0;
    evaluate_dry(r);
    for (int64_t step = 0; step < dry_steps(c); step++) {
        MetricsRow row;
        double began = queue_now(&device->queue);
        replica_step(r, step, &row);
        seconds = queue_now(&device->queue) - began;
    }
    evaluate_dry(r);
    replica_delete(r);
    mesh_close(&mesh);
    return seconds;
}
