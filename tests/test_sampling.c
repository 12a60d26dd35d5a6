/* TEST variants: float double asan
 * From logits to text and to a validation loss: the tokens that are drawn and how often, text that outgrows the
 * window against a model without caches, and an evaluation whose windows do not fill its batches. */
#define _GNU_SOURCE
#include "common/cpu/device_cpu.h"
#include "common/model/generate.h"
#include "datasets/corpus.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

/* ---- one token ---- */

enum { TOKENS = 4 };
static const double PROBABILITY[TOKENS] = {0.15, 0.5, 0.05, 0.3};

static void draws(const char *name, Sampling sampling, const double want[TOKENS]) {
    enum { DRAWS = 1000 };
    double worst = 0;
    int drawn[TOKENS] = {0};
    for (int i = 0; i < DRAWS; i++) {
        real logits[TOKENS];
        for (int t = 0; t < TOKENS; t++) logits[t] = (real)(3 + log(PROBABILITY[t]));
        drawn[sample_token(logits, TOKENS, &sampling, (i + 0.5) / DRAWS)]++;
    }
    for (int t = 0; t < TOKENS; t++) worst = worse(worst, fabs((double)drawn[t] / DRAWS - want[t]));
    ok(worst <= 1.5 / DRAWS, "%s: drawn %d %d %d %d times of %d", name, drawn[0], drawn[1], drawn[2],
       drawn[3], DRAWS);
}

static void test_draws(void) {
    draws("all tokens", (Sampling){.temperature = 1, .top_p = 1}, PROBABILITY);
    draws("temperature 0", (Sampling){.top_p = 1}, (double[]){0, 1, 0, 0});
    draws("temperature 1/2 squares the odds", (Sampling){.temperature = 0.5, .top_p = 1},
          (double[]){0.0225 / 0.365, 0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365});
    draws("top-k 2", (Sampling){.temperature = 1, .top_k = 2, .top_p = 1}, (double[]){0, 0.625, 0, 0.375});
    draws("top-k beyond all", (Sampling){.temperature = 1, .top_k = 9, .top_p = 1}, PROBABILITY);
    draws("top-p 0.7 takes the token that reaches it", (Sampling){.temperature = 1, .top_p = 0.7},
          (double[]){0, 0.625, 0, 0.375});
    draws("top-p below the likeliest", (Sampling){.temperature = 1, .top_p = 0.1}, (double[]){0, 1, 0, 0});
    draws("top-p of the top-k", (Sampling){.temperature = 1, .top_k = 2, .top_p = 0.6},
          (double[]){0, 1, 0, 0});
}

/* The place of a NaN does not matter, nor which tokens may be drawn. */
static void draw_with_nan(void *place) {
    real logits[TOKENS] = {1, 5, 2, 3};
    logits[*(int *)place] = (real)NAN;
    sample_token(logits, TOKENS, &(Sampling){.temperature = 1, .top_k = 1, .top_p = 1}, 0.5);
}

static void test_not_a_number(void) {
    for (int place = 0; place < TOKENS; place++) {
        Exit e = expect_exit(draw_with_nan, &place);
        ok(refused(&e, 1, "the model's output is not a number: the score of token "), "NaN at %d: %s", place,
           e.text);
    }
}

/* ---- text longer than the window ---- */

/* The likeliest token behind tokens (count), by the whole window at once. */
static int32_t next_token(Model *m, const int32_t *tokens, int64_t count, int64_t V) {
    Tape *tape = tape_new(m->device, false);
    Tensor *ids = tape_tensor(tape, "ids", TYPE_I32, SHAPE(1, count), NULL);
    tensor_write(ids, 0, count, tokens);
    Pass pass = {0};
    Tensor *x = model_blocks(m, tape, model_embed(m, tape, ids, &pass), 0, m->config.L, &pass);
    real *logits = xmalloc((size_t)V * sizeof *logits);
    tensor_read(model_logits(m, tape, x), (count - 1) * m->config.V, V, logits);
    int32_t token = sample_token(logits, V, &(Sampling){.top_p = 1}, 0);
    free(logits);
    tape_delete(tape);
    return token;
}

static void test_slides(Positions positions, const char *prompt) {
    enum { T = 8, NEW = 30 };
    Dataset *data = corpus_open(NULL, false, T, 1);
    ModelConfig config = {.V = data->vocab_size,
                          .C = 16,
                          .F = 16,
                          .L = 2,
                          .H = 2,
                          .K = 1,
                          .T = T,
                          .positions = positions,
                          .norm_eps = 1e-5,
                          .init_deviation = 0.5};
    Device *device = device_new_cpu(0);
    Model *m = model_new(device, &config, 5, &layers_serial);
    Str text = {0}, want = {0};
    Sampling greedy = {.top_p = 1, .max_new_tokens = NEW};
    Generated g = generate(m, data->tokenizer, prompt, &greedy, &text);

    Tokens prompt_tokens = {0};
    tokenizer_encode(data->tokenizer, END_OF_TEXT, strlen(END_OF_TEXT), &prompt_tokens);
    tokenizer_encode(data->tokenizer, prompt, strlen(prompt), &prompt_tokens);
    int64_t count = prompt_tokens.count, start = count > T ? count - T / 2 : 0, slides = 0;
    int32_t *tokens = xcalloc((size_t)(count + NEW), sizeof *tokens);
    memcpy(tokens, prompt_tokens.data, (size_t)count * sizeof *tokens);
    for (int i = 0; i < NEW; i++) {
        if (count - start > T) start = count - T / 2, slides++;
        tokens[count] = next_token(m, tokens + start, count - start, config.V);
        count++;
    }
    tokenizer_decode(data->tokenizer, tokens + 1, count - 1, &want);
    ok(g.new_tokens == NEW && !strcmp(text.data, want.data), "'%s' and %d tokens, as without a cache", prompt,
       NEW);
    ok(g.slides == slides && slides > 3, "the window slides %lld times", (long long)g.slides);
    free(tokens);
    free(prompt_tokens.data);
    str_free(&text);
    str_free(&want);
    model_delete(m);
    device_delete(device);
    data_close(data);
}

/* ---- the validation loss ---- */

enum { WINDOWS = 7 };
static int64_t seven_windows(const Dataset *data, int64_t T) {
    (void)data, (void)T;
    return WINDOWS;
}

static void test_evaluate(void) {
    Config config = {.model = {.V = 31,
                               .C = 16,
                               .F = 16,
                               .L = 1,
                               .H = 2,
                               .K = 2,
                               .T = 12,
                               .norm_eps = 1e-5,
                               .init_deviation = 0.3},
                     .global_batch = 1,
                     .seed = 4};
    Training t = training_new(&config, config.model.T, 1, 0.3);
    t.data.dataset.validation_windows = seven_windows;
    double tolerance = sizeof(real) == sizeof(double) ? 1e-13 : 1e-6, all = 0, five = 0;
    int64_t counted = 0, counted_in_five = 0;
    for (int64_t w = 0; w < WINDOWS; w++) { /* window by window, by hand */
        Pass pass = {0};
        batch_load(&t.batch, &t.data.dataset, SPLIT_VALIDATION, w);
        Tensor *x = model_embed(t.model, t.tape, &t.batch.ids, &pass);
        x = model_blocks(t.model, t.tape, x, 0, 1, &pass);
        double sum = tensor_scalar(model_loss(t.model, t.tape, x, &t.batch.targets));
        tape_reset(t.tape);
        all += sum, counted += t.batch.real;
        if (w < 5) five += sum, counted_in_five += t.batch.real;
    }
    for (int64_t rows = 1; rows <= 9; rows++) {
        char name[64];
        snprintf(name, sizeof name, "all windows, %lld at a time", (long long)rows);
        close_to(evaluate(t.model, &t.data.dataset, 0, rows, NULL), all / (double)counted, tolerance, name);
        snprintf(name, sizeof name, "5 windows, %lld at a time", (long long)rows);
        close_to(evaluate(t.model, &t.data.dataset, 5, rows, NULL), five / (double)counted_in_five, tolerance,
                 name);
    }
    close_to(evaluate(t.model, &t.data.dataset, 100, 2, NULL), all / (double)counted, tolerance,
             "more windows than there are");
    training_delete(&t);
}

int main(void) {
    test_not_a_number(); /* first: it forks */
    test_draws();
    test_slides(POSITIONS_LEARNED, "Mia");
    test_slides(POSITIONS_ROPE, "Once upon a time there was a little fox who lived in the forest.");
    test_evaluate();
    return tap_done();
}
