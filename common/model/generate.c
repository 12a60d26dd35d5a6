#include "common/model/generate.h"

#include "common/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one token ---- */

typedef struct {
    double p;
    int32_t token;
} Candidate;

static int more_likely(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return x->token - y->token;
}

int32_t sample_token(real *logits, int64_t count, const Sampling *s, double random) {
    int64_t best = 0;
    for (int64_t i = 0; i < count; i++) {
        CHECK(!isnan((double)logits[i]), "train again with a smaller --learning-rate",
              "the model's output is not a number: the score of token %lld of %lld", (long long)i,
              (long long)count);
        if (logits[i] > logits[best]) best = i;
    }
    CHECK(isfinite((double)logits[best]), "train again with a smaller --learning-rate",
          "the model gives %g as the score of its likeliest token", (double)logits[best]);
    if (s->temperature == 0) return (int32_t)best;

    Candidate *candidates = xmalloc((size_t)count * sizeof *candidates);
    for (int64_t i = 0; i < count; i++)
        candidates[i] =
            (Candidate){exp(((double)logits[i] - (double)logits[best]) / s->temperature), (int32_t)i};
    qsort(candidates, (size_t)count, sizeof *candidates, more_likely);

    int64_t kept = s->top_k > 0 ? min64(s->top_k, count) : count;
    double total = 0, sum = 0;
    for (int64_t i = 0; i < kept; i++) total += candidates[i].p;
    for (int64_t i = 0; i < kept; i++) {
        sum += candidates[i].p;
        if (sum >= s->top_p * total) kept = i + 1;
    }
    double left = random * sum;
    int64_t chosen = 0;
    while (chosen < kept - 1 && (left -= candidates[chosen].p) >= 0) chosen++;
    int32_t token = candidates[chosen].token;
    free(candidates);
    return token;
}

/* ---- the cache ---- */

static KeyValueCache *caches_new(Model *m) {
    int64_t T = m->config.T, KD = m->key_value_heads * m->config.C / m->config.H;
    KeyValueCache *caches = xcalloc((size_t)m->config.L, sizeof *caches);
    for (int64_t l = 0; l < m->config.L; l++) {
        if (!model_has_block(m, l)) continue;
        caches[l].keys =
            tensor_new(m->device, MEMORY_ACTIVATIONS, "cache.keys", model_type(&m->config), SHAPE(T, KD));
        caches[l].values =
            tensor_new(m->device, MEMORY_ACTIVATIONS, "cache.values", model_type(&m->config), SHAPE(T, KD));
    }
    return caches;
}

static void caches_delete(Model *m, KeyValueCache *caches) {
    for (int64_t l = 0; l < m->config.L; l++) {
        if (!model_has_block(m, l)) continue;
        tensor_free(&caches[l].keys);
        tensor_free(&caches[l].values);
    }
    free(caches);
}

/* Runs `count` new tokens at positions first .. and copies the logits of the one behind them. */
static void run(NextLogits next, void *context, const Model *m, Tape *tape, KeyValueCache *caches,
                const int32_t *tokens, int64_t first, int64_t count, real *logits) {
    Tensor *ids = tape_tensor(tape, "ids", TYPE_I32, SHAPE(1, count), NULL);
    tensor_write(ids, 0, count, tokens);
    for (int64_t l = 0; l < m->config.L; l++) caches[l].count = first;
    Pass pass = {.first_position = first, .caches = caches};
    next(context, tape, ids, &pass, logits);
    tape_reset(tape);
}

void model_next_logits(Model *m, Tape *tape, const Tensor *x, real *logits) {
    int64_t C = m->config.C; /* the head on the last token alone */
    Tensor last = tensor_view(x, (tensor_rows(x) - 1) * C, SHAPE(1, 1, C));
    tensor_read(model_logits(m, tape, &last), 0, m->config.V, logits);
}

Generated generate_by(NextLogits next, void *context, Model *m, const Tokenizer *tokenizer,
                      const char *prompt, const Sampling *s, Str *text) {
    Generated result = {0};
    int64_t T = m->config.T, V = min64(m->config.V, tokenizer_vocab_size(tokenizer)),
            window = max64(T / 2, 1);
    int32_t end = tokenizer_end_of_text(tokenizer);
    Tokens tokens = {0}; /* the document so far; its first token is the end of the one before */
    tokenizer_encode(tokenizer, END_OF_TEXT, strlen(END_OF_TEXT), &tokens);
    tokenizer_encode(tokenizer, prompt, strlen(prompt), &tokens);
    result.prompt_tokens = tokens.count - 1;

    Tape *tape = tape_new(m->device, false);
    KeyValueCache *caches = caches_new(m);
    real *logits = xcalloc((size_t)m->config.V, sizeof *logits); /* a dry run leaves them so */
    Rng rng = {s->seed, rng_stream("sample"), s->draw << 32};
    int64_t start = tokens.count > T ? tokens.count - window : 0; /* of the window in the document */
    int64_t done = start;                                         /* tokens that are in the cache */
    tokens.data = xrealloc(tokens.data, (size_t)(tokens.count + s->max_new_tokens) * sizeof *tokens.data);
    while (result.new_tokens < s->max_new_tokens) {
        if (tokens.count - start > T) {
            start = done = tokens.count - window;
            result.slides++;
        }
        run(next, context, m, tape, caches, tokens.data + done, done - start, tokens.count - done, logits);
        done = tokens.count;
        int32_t token = sample_token(logits, V, s, rng_next(&rng));
        if (token == end) {
            result.ended = true;
            break;
        }
        tokens.data[tokens.count++] = token;
        result.new_tokens++;
    }
    tokenizer_decode(tokenizer, tokens.data + 1, tokens.count - 1, text);
    free(logits);
    free(tokens.data);
    caches_delete(m, caches);
    tape_delete(tape);
    return result;
}

static void logits_of_model(void *context, Tape *tape, Tensor *ids, const Pass *pass, real *logits) {
    Model *m = context;
    Tensor *x = model_embed(m, tape, ids, pass);
    model_next_logits(m, tape, model_blocks(m, tape, x, 0, m->config.L, pass), logits);
}

Generated generate(Model *m, const Tokenizer *tokenizer, const char *prompt, const Sampling *s, Str *text) {
    return generate_by(logits_of_model, m, m, tokenizer, prompt, s, text);
}
