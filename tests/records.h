/* records: what a training on several devices leaves, and how it differs from what another one left. */
#ifndef RECORDS_H
#define RECORDS_H

#include "tests/ranks.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

enum { RECORD_STEPS = 20 };

/* All gradients of the first step, as they are before clipping, and all parameters after the last: whole, in the order
 * of the model's parameters. */
typedef struct {
    double losses[RECORD_STEPS], norms[RECORD_STEPS];
    real *gradients, *parameters;
    int64_t count;
    int steps;
} Record;

static inline Record record_new(const Params *params, int steps) {
    size_t bytes = (size_t)params_count(params) * sizeof(real);
    return (Record){.gradients = xmalloc(bytes),
                    .parameters = xmalloc(bytes),
                    .count = params_count(params),
                    .steps = steps};
}

static inline void record_free(Record *record) {
    free(record->gradients);
    free(record->parameters);
}

/* Of a device that holds all of them. */
static inline void keep(const Params *params, bool gradients, real *to) {
    for (int i = 0; i < params->count; i++) {
        const Param *p = params->items[i];
        tensor_read(gradients ? &p->grad[0] : &p->data, 0, tensor_count(&p->data), to);
        to += tensor_count(&p->data);
    }
}

/* A small run on the devices of `comm`. */
static inline Config record_config(const Comm *comm, const ModelConfig *model, int64_t micro_batch,
                                   int64_t microbatches) {
    Config c = *config_preset("tiny");
    c.model = *model;
    c.micro_batch = micro_batch;
    c.num_microbatches = microbatches;
    c.data_parallel = comm->size;
    c.global_batch = micro_batch * microbatches * comm->size;
    c.max_steps = RECORD_STEPS;
    c.learning_rate = 1e-3;
    c.grad_clip = 0.5;
    return c;
}

/* On one device, by code that knows nothing of several (tests/training.h, which is held against JAX elsewhere). Rank 0 of
 * `world` does it, the others are told. */
static inline Record train_on_one(Comm *world, Training *t, int steps) {
    Record record = record_new(&t->model->params, steps);
    for (int step = 0; step < steps && world->rank == 0; step++) {
        training_load(t, step);
        record.losses[step] = 0;
        for (int64_t i = 0; i < t->config.num_microbatches; i++) {
            Tensor *loss = training_forward(t, t->tape, step, i);
            record.losses[step] += tensor_scalar(loss) / (double)t->batch.real;
            tape_backward(t->tape, loss, &t->seed);
            tape_reset(t->tape);
        }
        record.norms[step] = optimizer_grad_norm(t->optimizer);
        if (step == 0) keep(&t->model->params, true, record.gradients);
        training_update(t, step);
    }
    keep(&t->model->params, false, record.parameters);
    comm_broadcast(world, NULL, record.losses, RECORD_STEPS, TYPE_F64, 0);
    comm_broadcast(world, NULL, record.norms, RECORD_STEPS, TYPE_F64, 0);
    comm_broadcast(world, NULL, record.gradients, record.count, TYPE_REAL, 0);
    comm_broadcast(world, NULL, record.parameters, record.count, TYPE_REAL, 0);
    return record;
}

/* The configuration for one device, with the micro-batches of all. */
static inline Config config_alone(const Config *config) {
    Config c = *config;
    c.num_microbatches *= c.data_parallel;
    c.data_parallel = 1;
    return c;
}

static inline Record train_alone(Comm *world, const Config *config, int steps) {
    Config c = config_alone(config);
    Training t = training_new(&c, c.model.T, 1, 0.2);
    Record record = train_on_one(world, &t, steps);
    training_delete(&t);
    return record;
}

/* ---- how two differ ---- */

/* The largest difference, and the largest of b. */
static inline double error_of(const real *a, const real *b, int64_t count, double *largest) {
    double error = 0;
    for (int64_t i = 0; i < count; i++) {
        error = worse(error, fabs((double)a[i] - (double)b[i]));
        *largest = worse(*largest, fabs((double)b[i]));
    }
    return error;
}

static inline bool same_bits(const Record *a, const Record *b) {
    size_t bytes = (size_t)a->count * sizeof(real);
    return !memcmp(a->losses, b->losses, sizeof a->losses) && !memcmp(a->norms, b->norms, sizeof a->norms) &&
           !memcmp(a->gradients, b->gradients, bytes) && !memcmp(a->parameters, b->parameters, bytes);
}

typedef struct {
    double gradients, losses, norms,
        parameters; /* the first relative to the largest of all, the others to themselves */
} RecordErrors;

static inline RecordErrors record_errors(const Record *a, const Record *b) {
    RecordErrors e = {0};
    double largest = 0, largest_parameter = 0;
    e.gradients = error_of(a->gradients, b->gradients, b->count, &largest) / largest;
    e.parameters = error_of(a->parameters, b->parameters, b->count, &largest_parameter);
    for (int step = 0; step < b->steps; step++) {
        e.losses = worse(e.losses, fabs(a->losses[step] / b->losses[step] - 1));
        e.norms = worse(e.norms, fabs(a->norms[step] / b->norms[step] - 1));
    }
    return e;
}

/* The name of the first parameter in which the gradients, or the parameters, differ by a bit; "nothing". */
static inline const char *first_difference(const Record *a, const Record *b, const Params *params) {
    int64_t at = 0;
    for (int i = 0; i < params->count; i++) {
        int64_t count = tensor_count(&params->items[i]->data);
        size_t bytes = (size_t)count * sizeof(real);
        if (memcmp(a->gradients + at, b->gradients + at, bytes) != 0 ||
            memcmp(a->parameters + at, b->parameters + at, bytes) != 0)
            return params->items[i]->name;
        at += count;
    }
    return "nothing";
}

/* ---- validation with few windows: no number of devices divides 9 ---- */

static inline int64_t nine_windows(const Dataset *data, int64_t T) {
    (void)data, (void)T;
    return 9;
}

#endif
