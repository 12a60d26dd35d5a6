/* TEST variants: float double, all: asan
 * What the tape and the parameters promise, bit for bit: backward in one go or in two halves, with and
 * without recomputation, with any number of threads, several tapes alive; gradients of micro-batches;
 * on_grad_ready; and memory that comes back and does not grow. */
#include "tests/tap.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* ---- all gradients of a step in one array ---- */

static real *gradients_of(const Training *t) {
    const Params *params = &t->model->params;
    real *all = xmalloc((size_t)params_count(params) * sizeof *all), *at = all;
    for (int i = 0; i < params->count; i++) {
        const Tensor *g = &params->items[i]->grad[0];
        tensor_read(g, 0, tensor_count(g), at);
        at += tensor_count(g);
    }
    return all;
}

static bool same_gradients(const Training *t, const real *want) {
    real *got = gradients_of(t);
    bool same = !memcmp(got, want, (size_t)params_count(&t->model->params) * sizeof *got);
    free(got);
    return same;
}

/* A step's loss and gradients, to compare with. */
typedef struct {
    double loss;
    real *gradients;
} Step;

static bool same_step(Training *t, double loss, Step want) {
    return loss == want.loss && same_gradients(t, want.gradients);
}

/* ---- other ways to the same bits ---- */

static double gradient_in_halves(Training *t, int64_t step) {
    double sum = 0;
    training_load(t, step);
    for (int64_t i = 0; i < t->config.num_microbatches; i++) {
        Tensor *loss = training_forward(t, t->tape, step, i);
        sum += tensor_scalar(loss);
        tape_backward_inputs(t->tape, loss, &t->seed);
        tape_backward_params(t->tape);
        tape_reset(t->tape);
    }
    return sum / (double)t->batch.real;
}

/* Several micro-batches under way, each on a tape of its own, in an order as pipelines have them: F forward,
 * B backward, I its half towards the inputs, W its half towards the weights. Micro-batches that the step does not have
 * are left out. */
static const char *const orders[] = {
    "F0 F1 F2 B0 B1 B2",          /* GPipe */
    "F0 F1 F2 B2 B1 B0",          /* ... the other way round: gradients wait for their turn */
    "F0 F1 B0 F2 B1 B2",          /* 1F1B */
    "F2 F1 F0 B1 B0 B2",          /* nothing in its order */
    "F0 F1 I0 F2 I1 W0 I2 W2 W1", /* zero-bubble: the weights' halves fill the gaps */
    "F1 I1 F0 W1 F2 I2 I0 W2 W0",
};

static double gradient_in_order(Training *t, int64_t step, const char *order) {
    enum { MOST = 3 };
    Tape *tapes[MOST];
    Tensor *losses[MOST];
    double sums[MOST] = {0};
    ASSERT(t->config.num_microbatches <= MOST);
    training_load(t, step);
    for (int i = 0; i < MOST; i++) tapes[i] = tape_new(t->device, true);
    for (const char *at = order; *at; at += at[2] ? 3 : 2) {
        int i = at[1] - '0';
        if (i >= t->config.num_microbatches) continue;
        if (*at == 'F') losses[i] = training_forward(t, tapes[i], step, i);
        if (*at == 'F') sums[i] = tensor_scalar(losses[i]);
        if (*at == 'B') tape_backward(tapes[i], losses[i], &t->seed);
        if (*at == 'I') tape_backward_inputs(tapes[i], losses[i], &t->seed);
        if (*at == 'W') tape_backward_params(tapes[i]);
    }
    double sum = 0;
    for (int i = 0; i < MOST; i++) {
        sum += sums[i];
        tape_delete(tapes[i]);
    }
    return sum / (double)t->batch.real;
}

static double loss_without_recording(Training *t, int64_t step) {
    Tape *tape = tape_new(t->device, false);
    double sum = 0;
    training_load(t, step);
    for (int64_t i = 0; i < t->config.num_microbatches; i++) {
        sum += tensor_scalar(training_forward(t, tape, step, i));
        tape_reset(tape);
    }
    tape_delete(tape);
    return sum / (double)t->batch.real;
}

static void check_same_bits(Training *t, const char *name) {
    Step want = {.loss = training_gradient(t, 0)};
    want.gradients = gradients_of(t);
    ok(same_step(t, training_gradient(t, 0), want), "%s: the same step again", name);
    ok(same_step(t, gradient_in_halves(t, 0), want), "%s: backward to inputs, then to parameters", name);
    for (int i = 0; i < COUNT_OF(orders); i++)
        ok(same_step(t, gradient_in_order(t, 0, orders[i]), want), "%s: %s", name, orders[i]);
    ok(loss_without_recording(t, 0) == want.loss, "%s: the loss alone", name);
    t->model->recompute = true;
    ok(same_step(t, training_gradient(t, 0), want), "%s: recomputed", name);
    ok(same_step(t, gradient_in_halves(t, 0), want), "%s: recomputed, in halves", name);
    for (int i = 0; i < COUNT_OF(orders); i++)
        ok(same_step(t, gradient_in_order(t, 0, orders[i]), want), "%s: recomputed, %s", name, orders[i]);
    t->model->recompute = false;

    int threads = t->device->queue.threads;
    for (int n = 1; n <= 3; n++) {
        t->device->queue.threads = n;
        ok(same_step(t, training_gradient(t, 0), want), "%s: %d thread%s", name, n, n > 1 ? "s" : "");
    }
    t->device->queue.threads = threads;

    tensor_set_scalar(&t->seed, 2 * tensor_scalar(&t->seed));
    Tensor *loss = NULL;
    for (int64_t i = 0; i < t->config.num_microbatches; i++) {
        loss = training_forward(t, t->tape, 0, i);
        tape_backward(t->tape, loss, &t->seed);
        tape_reset(t->tape);
    }
    for (int64_t i = 0; i < params_count(&t->model->params); i++) want.gradients[i] *= 2;
    ok(same_gradients(t, want.gradients), "%s: twice the seed, twice the gradient", name);
    free(want.gradients);
}

/* A whole run of a few steps with another number of threads ends in the same weights. */
static void check_threads(const Config *config, const char *name) {
    Training a = training_new(config, config->model.T, 1, 0.2),
             b = training_new(config, config->model.T, 1, 0.2);
    a.device->queue.threads = 1;
    b.device->queue.threads = 2;
    bool same = true;
    for (int64_t step = 0; step < 3; step++) {
        same &= training_gradient(&a, step) == training_gradient(&b, step);
        training_update(&a, step);
        training_update(&b, step);
    }
    for (int i = 0; i < a.model->params.count; i++)
        same &= same_elements(&a.model->params.items[i]->data, &b.model->params.items[i]->data);
    ok(same, "%s: three steps with 1 and 2 threads: the same losses and weights", name);
    training_delete(&a);
    training_delete(&b);
}

/* ---- micro-batches ---- */

/* The gradient of micro-batch i as if it were the only one of the step: what one device of several makes. */
static real *gradient_alone(Training *t, int64_t i) {
    int64_t count = t->config.num_microbatches;
    t->config.num_microbatches = 1;
    training_load(t, 0);
    Batch whole = t->batch;
    t->batch = batch_rows(&whole, i * t->config.micro_batch, t->config.micro_batch);
    Tensor *loss = training_forward(t, t->tape, 0, 0);
    tape_backward(t->tape, loss, &t->seed);
    tape_reset(t->tape);
    t->batch = whole;
    t->config.num_microbatches = count;
    return gradients_of(t);
}

/* Without dropout, whose masks depend on the row, and with no weight used twice: its uses are summed one
 * after the other. */
static void check_microbatches(const Config *config, const char *name) {
    Config c = *config;
    c.model.tied = false;
    c.model.dropout = 0;
    Training t = training_new(&c, c.model.T, 1, 0.2);
    int64_t count = params_count(&t.model->params);
    real *sum = gradient_alone(&t, 0);
    for (int64_t i = 1; i < c.num_microbatches; i++) {
        real *next = gradient_alone(&t, i);
        for (int64_t j = 0; j < count; j++) sum[j] += next[j];
        free(next);
    }
    training_gradient(&t, 0);
    ok(same_gradients(&t, sum), "%s: %lld micro-batches give the sum of what each gives alone", name,
       (long long)c.num_microbatches);
    free(sum);
    training_delete(&t);
}

typedef struct {
    const Training *t;
    real *seen; /* the gradients of all uses as they were when they were ready, added up */
    int calls, early;
} Ready;

static void on_ready(void *context, Param *p, int use) {
    Ready *ready = context;
    const Params *params = &ready->t->model->params;
    real *at = ready->seen;
    for (int i = 0; params->items[i] != p; i++) at += tensor_count(&params->items[i]->data);
    for (int64_t i = 0; i < tensor_count(&p->data); i++) at[i] += real_at(&p->grad[use], i);
    ready->calls++;
    ready->early += ready->t->tape->microbatch.index != ready->t->config.num_microbatches - 1;
}

/* Counts the gradients of blocks. */
static void see_block(void *context, Param *p, int use) {
    (void)use;
    *(int *)context += !strncmp(p->name, "blocks.", 7);
}

static void check_grad_ready(Training *t, const char *name) {
    Params *params = &t->model->params;
    Ready ready = {.t = t, .seen = xcalloc((size_t)params_count(params), sizeof(real))};
    params->on_grad_ready = on_ready;
    params->on_grad_ready_context = &ready;
    training_gradient(t, 1);
    params->on_grad_ready = NULL;
    params_add_uses(params);
    int uses = 0;
    for (int i = 0; i < params->count; i++) uses += params->items[i]->uses;
    ok(ready.calls == uses && ready.early == 0, "%s: on_grad_ready came %d times for %d uses, %d too early",
       name, ready.calls, uses, ready.early);
    ok(same_gradients(t, ready.seen), "%s: and with the gradient of the whole step", name);
    free(ready.seen);
}

/* ---- memory ---- */

/* Bytes that the C library has given out, where it can tell. */
static size_t heap_bytes(void) {
#ifdef __GLIBC__
    return mallinfo2().uordblks;
#else
    return 0;
#endif
}

static void check_memory(Training *t, const char *name) {
    MemoryUse after[4];
    size_t heap[4];
    int64_t free_lists[4];
    for (int step = 0; step < 4; step++) {
        training_gradient(t, step);
        training_update(t, step);
        after[step] = t->device->memory;
        heap[step] = heap_bytes();
        free_lists[step] = t->device->free_list_count;
    }
    ok(!memcmp(&after[1], &after[3], sizeof after[1]), "%s: bytes held and their peaks do not grow", name);
    ok(heap[1] == heap[3] && free_lists[1] == free_lists[3],
       "%s: nothing new from the system after the first step: %zu, %zu", name, heap[1], heap[3]);
    int64_t gradients = after[3].now[MEMORY_GRADIENTS], weights = after[3].now[MEMORY_PARAMETERS];
    int64_t tied = t->config.model.tied ? tensor_bytes(&t->model->token->data) : 0;
    ok(weights == params_count(&t->model->params) * element_bytes(TYPE_REAL) && gradients == weights + tied &&
           after[3].now[MEMORY_OPTIMIZER] == 2 * weights,
       "%s: %lld bytes of weights, gradients one each, AdamW two", name, (long long)weights);

    int64_t before = t->device->memory.now[MEMORY_ACTIVATIONS], microbatches = t->config.num_microbatches;
    t->config.num_microbatches = 1; /* a step of one */
    Tensor *loss = training_forward(t, t->tape, 0, 0);
    int64_t kept = t->device->memory.now[MEMORY_ACTIVATIONS] - before;
    tape_backward(t->tape, loss, &t->seed);
    int64_t left = t->device->memory.now[MEMORY_ACTIVATIONS] - before;
    tape_reset(t->tape);
    ok(t->device->memory.now[MEMORY_ACTIVATIONS] == before, "%s: tape_reset gives back all", name);
    ok(left <= 64 && kept > 1000, "%s: backward frees as it goes: %lld bytes kept for it, %lld left after it",
       name, (long long)kept, (long long)left);

    training_forward(t, t->tape, 0, 0);
    tape_reset(t->tape);
    ok(t->device->memory.now[MEMORY_ACTIVATIONS] == before, "%s: also without a backward", name);

    t->model->recompute = true;
    loss = training_forward(t, t->tape, 0, 0);
    int64_t kept_recomputing = t->device->memory.now[MEMORY_ACTIVATIONS] - before;
    tape_backward(t->tape, loss, &t->seed);
    tape_reset(t->tape);
    t->model->recompute = false;
    ok(kept_recomputing < kept / 2, "%s: recomputing keeps %lld bytes", name, (long long)kept_recomputing);
    ok(t->device->memory.now[MEMORY_ACTIVATIONS] == before, "%s: and gives back all", name);
    t->config.num_microbatches = microbatches;
}

/* Recomputed, and backward in halves: the first keeps what the second needs, and forms no gradient of a block; the second
 * frees it. Without a second the tape gives all back. */
static void check_halves(Training *t, const char *name) {
    Params *params = &t->model->params;
    const int64_t *held = &t->device->memory.now[MEMORY_ACTIVATIONS];
    int64_t before = *held, microbatches = t->config.num_microbatches;
    t->config.num_microbatches = 1; /* a step of one */
    t->model->recompute = true;
    int seen = 0, blocks = 0;
    params->on_grad_ready = see_block;
    params->on_grad_ready_context = &seen;
    Tensor *loss = training_forward(t, t->tape, 0, 0);
    tape_backward_inputs(t->tape, loss, &t->seed);
    int64_t kept = *held - before;
    int first = seen;
    tape_backward_params(t->tape);
    int64_t left = *held - before;
    for (int i = 0; i < params->count; i++) blocks += !strncmp(params->items[i]->name, "blocks.", 7);
    ok(first == 0 && seen == blocks, "%s: recomputed: %d gradients of blocks, all in the second half", name,
       seen);
    ok(kept > 1000 && left <= 64, "%s: ... for which the first keeps %lld bytes; %lld are left", name,
       (long long)kept, (long long)left);
    tape_reset(t->tape);
    ok(*held == before, "%s: ... tape_reset gives back all", name);
    params->on_grad_ready = NULL;

    loss = training_forward(t, t->tape, 0, 0);
    tape_backward_inputs(t->tape, loss, &t->seed);
    tape_reset(t->tape);
    ok(*held == before, "%s: ... between the halves as well", name);
    t->model->recompute = false;
    t->config.num_microbatches = microbatches;
}

static void check_all(const Config *config, const char *name) {
    Training t = training_new(config, config->model.T, 1, 0.2);
    check_same_bits(&t, name);
    check_grad_ready(&t, name);
    check_memory(&t, name);
    check_halves(&t, name);
    training_delete(&t);
    check_threads(config, name);
    check_microbatches(config, name);
}

int main(void) {
    Config config = *config_preset("tiny");
    config.micro_batch = 1, config.num_microbatches = config.global_batch = 2;
    config.model.V = 1024;
    config.model.K = config.model.H;
    check_all(&config, "tiny");

    config.micro_batch = 1, config.num_microbatches = config.global_batch = 3;
    config.model = awkward_model();
    check_all(&config, "rope, grouped, dropout");
    config.model = awkward_post_norm_model();
    check_all(&config, "post-norm, learned, dropout");
    return tap_done();
}
