#include "chapters/08_tensor_parallel/sliced.h"

#include <stdlib.h>
#include <string.h>

TensorParallelOptions sliced_options(const Config *c) {
    return (TensorParallelOptions){.sequence_parallel = c->sequence_parallel,
                                   .gather_again = c->gather_again,
                                   .overlap_chunks = c->overlap_tensor > 1 ? c->overlap_tensor : 0};
}

void sliced_check_sizes(const Config *c, Comm *world) {
    TensorParallelOptions options = sliced_options(c);
    char *hint, *problem = tensor_parallel_problem(&c->model, (int)c->tensor_parallel, &options, &hint);
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
    s->own = sharded_new_of(c, tp->mesh->axis[MESH_DATA], slice, data);
    return s;
}

void sliced_delete(Sliced *s) {
    sharded_delete(s->own);
    tensor_parallel_delete(s->tp);
    free(s);
}

static double sum_along_data(const Sliced *s, double x) {
    comm_all_reduce(s->mesh->axis[MESH_DATA], &s->own->device->queue, &x, &x, 1, TYPE_F64, REDUCE_SUM);
    return x;
}

double sliced_gradient(Sliced *s) {
    Sharded *own = s->own;
    const Config *c = &own->config;
    profile_phase(own->profile, PHASE_DATA);
    int64_t share = c->num_microbatches * c->micro_batch;
    /* by the coordinate along `data`: devices along `tensor` load the same windows */
    int64_t first = own->next_window + s->mesh->coordinate[MESH_DATA] * share;
    batch_load(&own->batch, own->data, SPLIT_TRAIN, first);
    profile_phase(own->profile, PHASE_REDUCE);
    double real_tokens = sum_along_data(s, (double)own->batch.real);
    tensor_set_scalar(&own->seed, 1.0 / real_tokens);

    double loss = 0;
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
        loss += tensor_scalar(sum) / real_tokens; /* Replicate along `tensor`: counted once */

        profile_phase(own->profile, PHASE_BACKWARD);
        tape_backward(own->tape, sum, &own->seed);
        tape_reset(own->tape);
    }
    profile_phase(own->profile, PHASE_REDUCE);
    fsdp_finish(own->fsdp);                                /* the sum along `data` */
    tensor_parallel_finish(s->tp, fsdp_params(own->fsdp)); /* what is Partial along `tensor` still */
    return sum_along_data(s, loss);
}

/* Gradients that devices hold slices of, and shards of slices: copies of either count once. */
static double grad_norm(const Sliced *s) {
    const Mesh *mesh = s->mesh;
    return optimizer_grad_norm_among(s->own->optimizer, s->own->config.zero_stage ? s->own->shards : NULL,
                                     mesh->size[MESH_TENSOR] > 1 ? mesh->axis[MESH_TENSOR] : NULL);
}

void sliced_step(Sliced *s, int64_t step, MetricsRow *row) {
    Sharded *own = s->own;
    const Config *c = &own->config;
    CommCount before[COMM_KINDS];
    memcpy(before, s->mesh->axis[MESH_TENSOR]->counts, sizeof before);
    row->loss = sliced_gradient(s);

    profile_phase(own->profile, PHASE_CLIP);
    row->grad_norm = grad_norm(s);
    Pass pass = {.training = true,
                 .first_sample = own->next_window +
                                 s->mesh->coordinate[MESH_DATA] * c->num_microbatches * c->micro_batch};
    pass = tensor_parallel_pass(s->tp, &c->model, pass);
    check_finite(own->model, &own->batch, c->micro_batch, &pass, step + 1, row->loss, row->grad_norm,
                 s->mesh->world);
    profile_phase(own->profile, PHASE_OPTIMIZER);
    row->lr = schedule_lr(c, step);
    optimizer_step(own->optimizer, row->lr, clip_factor(row->grad_norm, c->grad_clip));
    profile_phase(own->profile, PHASE_REDUCE);
    fsdp_updated(own->fsdp);
    profile_phase(own->profile, PHASE_NONE);
    own->next_window += c->global_batch;
    for (int kind = 0; kind < COMM_KINDS; kind++) {
        CommCount now = s->mesh->axis[MESH_TENSOR]->counts[kind];
        s->along_tensor[kind] = (CommCount){now.calls - before[kind].calls, now.bytes - before[kind].bytes};
    }
}

double sliced_evaluate(Sliced *s) {
    const Config *c = &s->own->config;
    const char *drifted = sliced_drift(s);
    CHECK(!drifted, "every device must do the same with the same gradients",
          "devices hold different copies of '%s'", drifted);
    return evaluate(s->own->model, s->own->data, c->eval_windows, c->micro_batch, s->mesh->axis[MESH_DATA]);
}

/* ---- copies ---- */

static bool same_on(Comm *comm, uint64_t hash) {
    uint64_t *all = xmalloc((size_t)comm->size * sizeof *all);
    comm_all_gather(comm, NULL, &hash, all, sizeof hash / sizeof(int32_t), TYPE_I32);
    bool same = true;
    for (int r = 1; r < comm->size; r++) same &= all[r] == all[0];
    free(all);
    return same;
}

const char *sliced_drift(const Sliced *s) {
    fsdp_check(s->own->fsdp); /* along `data` */
    const Params *params = fsdp_params(s->own->fsdp);
    int32_t first = INT32_MAX; /* among the parameters of this device; pieces lie alike along `tensor` */
    for (int i = 0; i < params->count; i++) {
        Comm *holders = tensor_parallel_holders(s->tp, params->items[i]);
        if (holders && !same_on(holders, tensor_hash(&params->items[i]->data, 0)) && i < first) first = i;
    }
    int32_t found = -first;
    comm_all_reduce(s->mesh->world, NULL, &found, &found, 1, TYPE_I32, REDUCE_MAX);
    if (found == -INT32_MAX) return NULL;
    return first < INT32_MAX ? params->items[first]->name : "a parameter of another device";
}

Parts sliced_parts(const Sliced *s) {
    const Sharded *own = s->own;
    /* along `tensor` a parameter knows itself which copy it is */
    bool copy = own->config.zero_stage == 0 ? own->comm->rank > 0 : own->copies->rank > 0;
    return (Parts){s->mesh->world, &own->model->params, own->optimizer, copy};
}
