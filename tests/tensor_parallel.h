/* tensor_parallel: what the tests of chapter 08 share. Models whose sizes t divides, and little else; one device of a mesh of
 * data and tensor, with a step of training taken apart. */
#ifndef TENSOR_PARALLEL_TESTS_H
#define TENSOR_PARALLEL_TESTS_H

#include "chapters/07_fsdp/fsdp.h"
#include "chapters/08_tensor_parallel/mistakes.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

/* ---- the models ---- */

/* Sizes that t divides, and little else: V is a prime. */
static inline ModelConfig sized(ModelConfig m, int t, int64_t K) {
    m.L = 2;
    m.V = 307;
    m.H = t % 4 == 0 ? 8 : t == 2 ? 10 : 6 % t == 0 ? 6 : t;
    m.K = K ? K : m.H;
    m.C = m.H * 6;
    m.F = 13 * t;
    m.T = 7 * t;
    return m;
}

/* So many heads of keys and values that each device has one ... */
static inline int64_t one_each(int t) { return t == 1 ? 2 : t; }
/* ... and fewer, as many as divide: shared by at least two, where there are two. */
static inline int64_t shared(int t) { return t % 2 == 0 && t > 2 ? 2 : 1; }

enum { MODELS = 5 };
static inline ModelConfig model_of(int which, int t, const char **name) {
    ModelConfig m = awkward_model(), post = awkward_post_norm_model();
    switch (which) {
    case 0: *name = "rope, swiglu, a key head each"; return sized(m, t, one_each(t));
    case 1:
        *name = "rope, swiglu, shared key heads, no biases";
        m.bias = false;
        return sized(m, t, shared(t));
    case 2:
        *name = "post-norm, learned positions, tied";
        post.tied = true;
        return sized(post, t, 0);
    case 3:
        *name = "post-norm, shared key heads, few words";
        m = sized(post, t, shared(t));
        m.V = 2 * t + 1; /* from 4 devices on the last has none of them */
        return m;
    }
    *name = "pre-norm, layer norm, gelu, tied, one key head";
    m.norm = NORM_LAYERNORM;
    m.positions = POSITIONS_LEARNED;
    m.activation = ACTIVATION_GELU;
    m.tied = true;
    return sized(m, t, 1);
}

static inline Config config_of(const ModelConfig *model, int data) {
    Config c = *config_preset("tiny");
    c.model = *model;
    c.micro_batch = 2;
    c.num_microbatches = 2;
    c.data_parallel = data;
    c.global_batch = 4 * data;
    c.max_steps = 20;
    c.optimizer = OPTIMIZER_SGD; /* Adam's division would hide a factor */
    c.learning_rate = 1e-2;
    c.grad_clip = 0.5;
    return c;
}

/* Biases that are not 0 and norms that are not 1: what is added or multiplied too often is seen. */
static inline void start_anywhere(Params *params) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        if (p->start.kind == START_CONSTANT) param_start(p, (Start){START_UNIFORM, 0.5, 11});
    }
}

/* ---- a device of the mesh ---- */

typedef struct {
    Config config;
    const Mesh *mesh;
    TensorParallel *tp;
    Device *device;
    Model *model;
    Fsdp *fsdp;
    Optimizer *optimizer;
    Tape *tape;
    Batch batch;
    StepNumbers numbers;
    Tensor seed; /* of the numbers */
} Slot;

static inline Slot slot_new(const Config *c, const Mesh *mesh, TensorParallelOptions options,
                            Mistake mistake) {
    Slot s = {.config = *c, .mesh = mesh, .device = device_new_cpu(0)};
    s.tp = tensor_parallel_new(mesh, &c->model, &options);
    if (mistake != MISTAKE_NONE) tensor_parallel_plant(s.tp, mistake);
    s.model = tensor_parallel_model(s.tp, s.device, &c->model, c->seed, true);
    s.model->recompute = c->recompute;
    start_anywhere(&s.model->params);
    FsdpOptions sharding = fsdp_options_of(c, mesh->axis[MESH_DATA], NULL);
    s.fsdp = fsdp_new(&s.model->params, &sharding);
    s.optimizer = optimizer_new(fsdp_params(s.fsdp), c);
    s.tape = tape_new(s.device, true);
    s.batch = batch_new(s.device, c->micro_batch * c->num_microbatches, c->model.T);
    s.numbers = step_numbers_new(s.device);
    s.seed = s.numbers.seed;
    return s;
}

static inline void slot_delete(Slot *s) {
    step_numbers_free(&s->numbers);
    batch_free(&s->batch);
    tape_delete(s->tape);
    optimizer_delete(s->optimizer);
    fsdp_delete(s->fsdp);
    model_delete(s->model);
    tensor_parallel_delete(s->tp);
    device_delete(s->device);
}

/* The mean loss of the step's batch; every gradient of fsdp_params is complete. */
static inline double slot_gradient(Slot *s, const Dataset *data, int step) {
    const Config *c = &s->config;
    int64_t share = c->micro_batch * c->num_microbatches,
            first = step * c->global_batch + s->mesh->coordinate[MESH_DATA] * share;
    batch_load(&s->batch, data, SPLIT_TRAIN, first);
    double sums[2] = {(double)s->batch.real, 0};
    comm_all_reduce(s->mesh->axis[MESH_DATA], NULL, sums, sums, 1, TYPE_F64, REDUCE_SUM);
    tensor_set_scalar(&s->seed, 1 / sums[0]);
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        Batch part = batch_rows(&s->batch, i * c->micro_batch, c->micro_batch);
        Pass pass = tensor_parallel_pass(
            s->tp, &c->model, (Pass){.training = true, .first_sample = first + i * c->micro_batch});
        tape_begin_microbatch(s->tape, i, c->num_microbatches);
        fsdp_begin(s->fsdp);
        Tensor *x = model_embed(s->model, s->tape, &part.ids, &pass);
        x = model_blocks(s->model, s->tape, x, 0, c->model.L, &pass);
        Tensor *loss = model_loss(s->model, s->tape, x, &part.targets);
        sums[1] += tensor_scalar(loss);
        tape_backward(s->tape, loss, &s->seed);
        tape_reset(s->tape);
    }
    fsdp_finish(s->fsdp);
    tensor_parallel_finish(s->tp, fsdp_params(s->fsdp));
    comm_all_reduce(s->mesh->axis[MESH_DATA], NULL, sums + 1, sums + 1, 1, TYPE_F64, REDUCE_SUM);
    return sums[1] / sums[0];
}

/* Clips and updates; the norm of the whole gradient. */
static inline double slot_update(Slot *s, int step) {
    const Config *c = &s->config;
    NormGroups groups = {.shards = c->zero_stage ? s->mesh->axis[MESH_DATA] : NULL,
                         .slices = s->mesh->axis[MESH_TENSOR]};
    step_clip(&s->numbers, s->optimizer, &groups, c->grad_clip);
    optimizer_step(s->optimizer, schedule_lr(c, step), &s->numbers.clip);
    step_start_read(&s->numbers, 0, 0);
    StepResult was = step_read(&s->numbers);
    fsdp_updated(s->fsdp);
    return was.grad_norm;
}

/* Parameters that several devices hold have the same bits on them. */
static inline bool same_on(Comm *comm, uint64_t hash) {
    uint64_t *all = xmalloc((size_t)comm->size * sizeof *all);
    comm_all_gather(comm, NULL, &hash, all, sizeof hash / sizeof(int32_t), TYPE_I32);
    bool same = true;
    for (int r = 0; r < comm->size; r++) same &= all[r] == hash;
    free(all);
    return same;
}

static inline bool replicas_are_equal(const Slot *s) {
    uint64_t whole = 0, head = 0;
    for (int i = 0; i < s->model->params.count; i++) {
        Param *p = s->model->params.items[i];
        const Tensor *data = param_acquire(p);
        if (p->data.place[MESH_TENSOR].kind == PLACE_REPLICATE) whole = tensor_hash(data, whole);
        if (strstr(p->name, ".qkv.") && p->slice.runs == 2) head = tensor_hash(data, head);
        param_release(p);
    }
    fsdp_check(s->fsdp);
    bool same = same_on(s->mesh->axis[MESH_TENSOR], whole);
    return s->tp->same_head ? same_on(s->tp->same_head, head) && same : same;
}

#endif
