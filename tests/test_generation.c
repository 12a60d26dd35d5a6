/* TEST variants: float double asan
 * The logits of tokens that come a few at a time, through caches of keys and values, against those of the
 * whole window at once; and that no logit depends on a later token. */
#include "tests/tap.h"
#include "common/cpu/device_cpu.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

enum { T = 131, V = 67 };
#define TOLERANCE (sizeof(real) == sizeof(double) ? 1e-13 : 1e-5) /* relative to the largest logit */

/* logits (count,V) of tokens first .. first + count - 1; caches may be NULL: then first is 0. */
static void run(Model *m, const int32_t *tokens, int64_t first, int64_t count, KeyValueCache *caches,
                real *logits) {
    Tape *tape = tape_new(m->device, false);
    Tensor *ids = tape_tensor(tape, "ids", TYPE_I32, SHAPE(1, count), NULL);
    tensor_write(ids, 0, count, tokens + first);
    Pass pass = {.first_position = first, .caches = caches};
    Tensor *x = model_embed(m, tape, ids, &pass);
    x = model_blocks(m, tape, x, 0, m->config.L, &pass);
    tensor_read(model_logits(m, tape, x), 0, count * V, logits);
    tape_delete(tape);
}

/* chunks: how many tokens come at a time, over and over; a 0 ends the list. */
static void run_in_chunks(Model *m, const int32_t *tokens, const int *chunks, real *logits) {
    const ModelConfig *c = &m->config;
    KeyValueCache caches[8];
    Shape shape = SHAPE(T, c->K * (c->C / c->H));
    for (int64_t l = 0; l < c->L; l++) {
        caches[l].keys = tensor_new(m->device, MEMORY_ACTIVATIONS, "keys", TYPE_REAL, shape);
        caches[l].values = tensor_new(m->device, MEMORY_ACTIVATIONS, "values", TYPE_REAL, shape);
    }
    int64_t count = 0;
    for (int64_t first = 0, i = 0; first < T; first += count, i++) {
        if (!chunks[i]) i = 0;
        count = min64(chunks[i], T - first);
        for (int64_t l = 0; l < c->L; l++) caches[l].count = first;
        run(m, tokens, first, count, caches, logits + first * V);
    }
    for (int64_t l = 0; l < c->L; l++) {
        tensor_free(&caches[l].keys);
        tensor_free(&caches[l].values);
    }
}

static void compare(const ModelConfig *config, const char *name) {
    static const int one[] = {1, 0}, prompt_then_one[] = {67, 1, 1, 1, 1, 1, 0}, some[] = {1, 5, 64, 3, 0},
                     all[] = {T, 0};
    static const struct {
        const int *chunks;
        const char *name;
    } ways[] = {{one, "one at a time"},
                {prompt_then_one, "a prompt, then one at a time"},
                {some, "a few at a time"},
                {all, "all at once"}};
    Device *device = device_new_cpu(0);
    Model *m = model_new(device, config, 3, &layers_serial);
    int32_t tokens[T];
    Rng rng = {3, rng_stream("tokens"), 0};
    for (int t = 0; t < T; t++) tokens[t] = (int32_t)rng_below(&rng, V);
    real *want = xmalloc(sizeof(real[T * V])), *got = xmalloc(sizeof(real[T * V]));
    run(m, tokens, 0, T, NULL, want);
    double largest = 0;
    for (int i = 0; i < T * V; i++) largest = worse(largest, fabs((double)want[i]));
    for (int way = 0; way < COUNT_OF(ways); way++) {
        double error = 0;
        run_in_chunks(m, tokens, ways[way].chunks, got);
        for (int i = 0; i < T * V; i++) error = worse(error, fabs((double)got[i] - (double)want[i]));
        ok(error <= TOLERANCE * largest, "%s, %s: logits up to %.2f, off by %.1e of that", name,
           ways[way].name, largest, error / largest);
    }
    int changed = 90;
    tokens[changed] = (tokens[changed] + 1) % V;
    run(m, tokens, 0, T, NULL, got);
    bool before = !memcmp(got, want, (size_t)changed * V * sizeof(real));
    ok(before && memcmp(got + changed * V, want + changed * V, V * sizeof(real)),
       "%s: another token at %d changes the logits from there on", name, changed);
    free(want);
    free(got);
    model_delete(m);
    device_delete(device);
}

int main(void) {
    ModelConfig config = {.V = V,
                          .C = 24,
                          .F = 40,
                          .L = 2,
                          .H = 6,
                          .K = 2,
                          .T = T,
                          .norm = NORM_RMSNORM,
                          .positions = POSITIONS_ROPE,
                          .activation = ACTIVATION_SWIGLU,
                          .norm_eps = 1e-6,
                          .init = INIT_XAVIER};
    compare(&config, "rope, grouped");
    config.K = 1, config.norm = NORM_LAYERNORM, config.bias = true, config.tied = true;
    compare(&config, "rope, one key head, tied");
    config.positions = POSITIONS_LEARNED, config.H = config.K = 3, config.norm_place = NORM_POST,
    config.activation = ACTIVATION_RELU, config.tied = false;
    compare(&config, "learned, post-norm");
    config.H = 4, config.K = 2, config.norm_place = NORM_PRE, config.activation = ACTIVATION_GELU;
    compare(&config, "learned, grouped");
    return tap_done();
}
