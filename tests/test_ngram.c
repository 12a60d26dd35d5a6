/* The trigram model against the formula written out over dense tables, and against sequences whose entropy is
 * known.
 * TEST variants: float asan */
#include "common/data/ngram.h"
#include "common/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { V = 7, N = 3000 };

/* The next token mostly follows from the two before it; some tokens are rare. */
static void make_tokens(int32_t *tokens, int64_t count) {
    Rng rng = {3, rng_stream("tests.ngram"), 0};
    for (int64_t i = 0; i < count; i++)
        tokens[i] = i > 1 && rng_next(&rng) > 0.3 ? (2 * tokens[i - 1] + tokens[i - 2]) % V
                                                  : (int32_t)(V * rng_next(&rng) * rng_next(&rng));
}

/* One order of modified Kneser-Ney as the paper states it, from counts (contexts, V). */
static double dense(const int *counts, int contexts, int context, int c, double lower) {
    double having[5] = {0}, discount[4] = {0};
    for (int i = 0; i < contexts * V; i++)
        if (counts[i] <= 4) having[counts[i]]++;
    double y = having[1] / (having[1] + 2 * having[2]);
    for (int r = 1; r <= 3; r++) {
        discount[r] = r - (r + 1) * y * having[r + 1] / having[r];
        if (!(discount[r] > 0 && discount[r] < r)) discount[r] = 0.5;
    }
    double total = 0, saved = 0;
    for (int k = 0; k < V; k++) {
        int n = counts[context * V + k];
        total += n;
        saved += discount[n < 3 ? n : 3];
    }
    int n = counts[context * V + c];
    return total > 0 ? (n - discount[n < 3 ? n : 3] + saved * lower) / total : lower;
}

static void test_formula(int64_t count) {
    static int tri[V * V * V], bi[V * V], uni[V];
    for (int i = 0; i < V * V * V; i++) tri[i] = 0;
    for (int i = 0; i < V * V; i++) bi[i] = 0;
    for (int i = 0; i < V; i++) uni[i] = 0;
    int32_t tokens[N];
    make_tokens(tokens, count);
    for (int64_t i = 2; i < count; i++) tri[(tokens[i - 2] * V + tokens[i - 1]) * V + tokens[i]]++;
    for (int i = 0; i < V * V * V; i++) bi[i % (V * V)] += tri[i] > 0;
    for (int i = 0; i < V * V; i++) uni[i % V] += bi[i] > 0;
    Ngram *ngram = ngram_train(tokens, count, V);
    double worst = 0, off = 0;
    for (int a = -1; a < V; a++)
        for (int b = a < 0 ? -1 : 0; b < V; b++) {
            double sum = 0;
            for (int c = 0; c < V; c++) {
                double p = dense(uni, 1, 0, c, 1.0 / V);
                if (b >= 0) p = dense(bi, V, b, c, p);
                if (a >= 0) p = dense(tri, V * V, a * V + b, c, p);
                double got = ngram_probability(ngram, a, b, c);
                worst = worse(worst, fabs(got - p));
                sum += got;
            }
            off = worse(off, fabs(sum - 1));
        }
    ok(worst < 1e-12, "%d tokens: like the formula in every context, to %.1e", (int)count, worst);
    ok(off < 1e-12, "%d tokens: probabilities sum to 1 in every context, to %.1e", (int)count, off);
    ngram_free(ngram);
}

static double loss_of(const int32_t *train, int64_t count, int64_t vocab_size, const int32_t *tokens,
                      int64_t T, int64_t *counted) {
    Ngram *ngram = ngram_train(train, count, vocab_size);
    double loss = ngram_loss(ngram, tokens, tokens + 1, T, counted);
    ngram_free(ngram);
    return loss;
}

static void test_losses(void) {
    enum { LONG = 200000, T = 20000, LARGE = 50000 };
    int32_t *tokens = xmalloc((LONG + T + 1) * sizeof *tokens);
    int64_t counted;

    for (int64_t i = 0; i < LONG + T + 1; i++) tokens[i] = (int32_t)(i % 11 * 1000);
    double loss = loss_of(tokens, LONG, LARGE, tokens + LONG, T, &counted);
    ok(loss < 1e-3 && counted == T, "a cycle: %.2g nats, %d counted", loss, (int)counted);

    /* known entropy: the token that two others decide with probability 0.6, else any of V alike */
    Rng rng = {4, rng_stream("tests.ngram"), 0};
    for (int64_t i = 0; i < LONG + T + 1; i++)
        tokens[i] = i > 1 && rng_next(&rng) < 0.6 ? (2 * tokens[i - 1] + tokens[i - 2]) % V
                                                  : (int32_t)rng_below(&rng, V);
    double likely = 0.6 + 0.4 / V, other = 0.4 / V,
           entropy = -likely * log(likely) - (V - 1) * other * log(other);
    close_to(loss_of(tokens, LONG, V, tokens + LONG, T, &counted), entropy, 0.02,
             "noise over a trigram's rule");

    for (int64_t i = 0; i < LONG + T + 1; i++)
        tokens[i] = (int32_t)(16 * rng_uniform(5, rng_stream("tests.ngram"), (uint64_t)i));
    close_to(loss_of(tokens, LONG, 16, tokens + LONG, T, &counted), log(16), 0.01,
             "16 tokens at random: ln 16");

    /* half the targets masked: every other one */
    int32_t targets[100];
    for (int t = 0; t < 100; t++) targets[t] = t % 2 ? tokens[LONG + t + 1] : -1;
    Ngram *ngram = ngram_train(tokens, LONG, 16);
    double by_hand = 0;
    for (int t = 1; t < 100; t += 2)
        by_hand -= log(ngram_probability(ngram, tokens[LONG + t - 1], tokens[LONG + t], targets[t]));
    loss = ngram_loss(ngram, tokens + LONG, targets, 100, &counted);
    close_to(loss, by_hand / 50, 1e-12, "masked targets are left out");
    ok(counted == 50, "%d targets counted", (int)counted);
    for (int t = 0; t < 100; t++) targets[t] = -1;
    ok(isnan(ngram_loss(ngram, tokens + LONG, targets, 100, &counted)) && counted == 0, "no target, no loss");
    ngram_free(ngram);
    free(tokens);
}

int main(void) {
    test_formula(N);
    test_formula(40); /* too short for the counts of counts */
    test_formula(3);
    test_formula(0);
    test_losses();
    return tap_done();
}
