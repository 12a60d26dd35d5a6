/* training: what the tests that train a model share. Tokens that another implementation can make as well
 * (tests/reference/make_fixtures.py), and one step of training taken apart. */
#ifndef TRAINING_H
#define TRAINING_H

#include "common/cpu/device_cpu.h"
#include "common/model/batch.h"
#include "common/model/step_numbers.h"
#include "common/base/rng.h"

/* A dataset of random tokens, a function of (seed, window): V u^(2^skew), floored, with u uniform. A target
 * is masked with probability `masked`. */
typedef struct {
    Dataset dataset;
    uint64_t seed;
    int skew;
    double masked;
} RandomTokens;

static inline void random_window(const Dataset *dataset, Split split, int64_t index, int64_t T,
                                 int32_t *tokens, int32_t *targets) {
    const RandomTokens *data = (const RandomTokens *)dataset;
    uint64_t stream = rng_stream("reference.tokens"), masks = rng_stream("reference.masks");
    (void)split;
    for (int64_t t = 0; t <= T; t++) {
        double u = rng_uniform(data->seed, stream, (uint64_t)(index * (T + 1) + t));
        for (int i = 0; i < data->skew; i++) u *= u;
        int32_t token = (int32_t)((double)dataset->vocab_size * u);
        if (t < T) tokens[t] = token;
        if (t == 0) continue;
        bool masked = rng_uniform(data->seed, masks, (uint64_t)(index * T + t - 1)) < data->masked;
        targets[t - 1] = masked ? TARGET_MASKED : token;
    }
}

/* Tokens for a model of this configuration. */
static inline RandomTokens random_tokens(const Config *config, int skew, double masked) {
    return (RandomTokens){
        {.vocab_size = config->model.V, .window = random_window}, config->seed, skew, masked};
}

/* A model with all that training needs. */
typedef struct {
    Config config;
    RandomTokens data;
    Device *device;
    Model *model;
    Optimizer *optimizer;
    Tape *tape;
    Batch batch;
    StepNumbers numbers;
    Tensor seed; /* of the numbers */
} Training;

/* Two small models whose sizes divide nothing evenly. One has rotary positions, grouped heads, swiglu, biases and
 * dropout ... */
static inline ModelConfig awkward_model(void) {
    return (ModelConfig){.V = 307,
                         .C = 72,
                         .F = 100,
                         .L = 3,
                         .H = 6,
                         .K = 2,
                         .T = 70,
                         .norm = NORM_RMSNORM,
                         .positions = POSITIONS_ROPE,
                         .activation = ACTIVATION_SWIGLU,
                         .bias = true,
                         .dropout = 0.2,
                         .norm_eps = 1e-6,
                         .init_deviation = 0.05};
}

/* ... the other is post-norm, with relu and learned positions. */
static inline ModelConfig awkward_post_norm_model(void) {
    ModelConfig model = awkward_model();
    model.norm = NORM_LAYERNORM;
    model.norm_place = NORM_POST;
    model.positions = POSITIONS_LEARNED;
    model.activation = ACTIVATION_RELU;
    model.init = INIT_XAVIER;
    return model;
}

static inline Training training_new(const Config *config, int64_t window, int skew, double masked) {
    Training t = {.config = *config, .data = random_tokens(config, skew, masked)};
    t.device = device_new_cpu(0);
    t.model = model_new(t.device, &config->model, config->seed, &layers_serial);
    t.model->recompute = config->recompute;
    t.optimizer = optimizer_new(&t.model->params, config);
    t.tape = tape_new(t.device, true);
    t.batch = batch_new(t.device, config->global_batch, window);
    t.numbers = step_numbers_new(t.device);
    t.seed = t.numbers.seed;
    return t;
}

static inline void training_delete(Training *t) {
    step_numbers_free(&t->numbers);
    batch_free(&t->batch);
    tape_delete(t->tape);
    optimizer_delete(t->optimizer);
    model_delete(t->model);
    device_delete(t->device);
}

/* The sum of the loss over one micro-batch, on the tape, which takes it for `place`; the tape is the caller's to run
 * backward and to reset. */
static inline Tensor *training_forward_as(Training *t, Tape *tape, int64_t step, int64_t microbatch,
                                          Microbatch place) {
    const Config *c = &t->config;
    Batch part = batch_rows(&t->batch, microbatch * c->micro_batch, c->micro_batch);
    Pass pass = {.training = true, .first_sample = step * c->global_batch + microbatch * c->micro_batch};
    /* the tape reads the token ids again in backward: they must outlive this call */
    Tensor *ids = tape_alloc(tape, sizeof *ids);
    *ids = part.ids;
    tape_begin_microbatch(tape, place.index, place.count);
    Tensor *x = model_embed(t->model, tape, ids, &pass);
    x = model_blocks(t->model, tape, x, 0, c->model.L, &pass);
    return model_loss(t->model, tape, x, &part.targets);
}

static inline Tensor *training_forward(Training *t, Tape *tape, int64_t step, int64_t microbatch) {
    return training_forward_as(t, tape, step, microbatch,
                               (Microbatch){microbatch, t->config.num_microbatches});
}

/* Loads the step's batch and sets the seed to 1 / its real targets. */
static inline void training_load(Training *t, int64_t step) {
    batch_load(&t->batch, &t->data.dataset, SPLIT_TRAIN, step * t->config.global_batch);
    step_begin(&t->numbers, &t->batch, NULL);
}

/* The mean loss of the step's batch; leaves its gradient in the parameters. */
static inline double training_gradient(Training *t, int64_t step) {
    double sum = 0;
    training_load(t, step);
    for (int64_t i = 0; i < t->config.num_microbatches; i++) {
        Tensor *loss = training_forward(t, t->tape, step, i);
        sum += tensor_scalar(loss);
        tape_backward(t->tape, loss, &t->seed);
        tape_reset(t->tape);
    }
    return sum / (double)t->batch.real;
}

/* Clips and updates; returns the learning rate. */
static inline double training_update(Training *t, int64_t step) {
    double lr = schedule_lr(&t->config, step), limit = t->config.grad_clip;
    step_clip(&t->numbers, t->optimizer, &(NormGroups){0}, limit);
    optimizer_step(t->optimizer, lr, &t->numbers.clip);
    return lr;
}

#endif
