/* TEST variants: float asan
 * Windows out of shards against the tokens that were written, and the order in which they come. */
#define _GNU_SOURCE
#include "common/data/data.h"
#include "common/base/permutation.h"
#include "tests/shard_folder.h"
#include "tests/tap.h"

#include <stdlib.h>

static char *folder;
static int32_t *written[2]; /* the tokens of each split */
static int32_t end_of_text;

enum { TRAIN_TOKENS = FOLDER_SHARDS * SHARD_TOKENS, VALIDATION_TOKENS = SHARD_TOKENS, LONGEST = 256 };

/* ---- the order ---- */

static bool is_permutation(int64_t count, uint64_t seed, uint64_t stream) {
    bool *seen = xcalloc((size_t)count, sizeof *seen), good = true;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = permute(i, count, seed, stream);
        good &= at >= 0 && at < count && !seen[at];
        if (at >= 0 && at < count) seen[at] = true;
    }
    free(seen);
    return good;
}

static void test_permutation(void) {
    bool good = true;
    for (int64_t count = 1; count <= 130; count++) good &= is_permutation(count, (uint64_t)count, 5);
    ok(good, "each number once, for 1 to 130 numbers");
    ok(is_permutation(100003, 1, 2), "each number once, for 100003 numbers");
    int64_t last = ((int64_t)1 << 62) - 1, at = permute(last, last + 1, 3, 4);
    ok(at >= 0 && at <= last && at != last, "2^62 numbers: the last one goes to %lld", (long long)at);

    /* where number 0 of 10 goes, over 10000 keys: each place 1000 times, deviation 30 */
    enum { KEYS = 10000, COUNT = 10 };
    int places[COUNT] = {0}, same = 0;
    for (uint64_t key = 0; key < KEYS; key++) {
        places[permute(0, COUNT, key, 9)]++;
        same += permute(0, COUNT, key, 9) == permute(0, COUNT, key, 10);
    }
    int least = KEYS, most = 0;
    for (int i = 0; i < COUNT; i++)
        least = places[i] < least ? places[i] : least, most = places[i] > most ? places[i] : most;
    ok(least > 850 && most < 1150, "every place equally often: %d to %d of %d times", least, most, KEYS);
    ok(same > 850 && same < 1150, "another stream, another order: %d of %d agree", same, KEYS);
    /* neighbours: is the number before it in the order the one before it? For a random order 1 in COUNT *
     * COUNT */
    int64_t big = 5000, neighbours = 0;
    for (int64_t i = 1; i < big; i++) neighbours += permute(i, big, 1, 1) == permute(i - 1, big, 1, 1) + 1;
    ok(neighbours < 12, "%lld of %lld neighbours stay neighbours", (long long)neighbours, (long long)big);
}

/* ---- packed windows ---- */

/* The number of the window of T tokens that these are, or -1. */
static int64_t which(const int32_t *stream, int64_t windows, int64_t T, const int32_t *tokens,
                     const int32_t *targets) {
    for (int64_t w = 0; w < windows; w++)
        if (!memcmp(stream + w * T, tokens, (size_t)T * sizeof *tokens) &&
            !memcmp(stream + w * T + 1, targets, (size_t)T * sizeof *targets))
            return w;
    return -1;
}

static void test_packed(int64_t T) {
    Dataset *data = data_open_shards(folder, false, 42), *other = data_open_shards(folder, false, 43);
    int32_t tokens[LONGEST], targets[LONGEST], again[LONGEST];
    int64_t windows = (TRAIN_TOKENS - 1) / T, order[3][TRAIN_TOKENS], in_place = 0, same = 0, unlike = 0;
    bool found = true, pure = true;
    for (int64_t i = 0; i < 3 * windows; i++) {
        data->window(data, SPLIT_TRAIN, i, T, tokens, targets);
        int64_t w = which(written[SPLIT_TRAIN], windows, T, tokens, targets);
        found &= w >= 0;
        order[i / windows][i % windows] = w;
        other->window(other, SPLIT_TRAIN, i, T, tokens, targets);
        unlike += which(written[SPLIT_TRAIN], windows, T, tokens, targets) != w;
    }
    ok(found, "T %lld: each training window is one of the stream's %lld, targets are the tokens behind",
       (long long)T, (long long)windows);
    bool once = true;
    for (int epoch = 0; epoch < 3; epoch++)
        for (int64_t w = 0; w < windows; w++) {
            int64_t count = 0;
            for (int64_t i = 0; i < windows; i++) count += order[epoch][i] == w;
            once &= count == 1;
            in_place += order[epoch][w] == w;
            same += order[epoch][w] == order[(epoch + 1) % 3][w];
        }
    ok(once, "T %lld: each epoch visits each window once", (long long)T);
    if (windows > 20)
        ok(in_place < 15 && same < 15 && unlike > 3 * windows - 15,
           "T %lld: the order is shuffled, another one each epoch, another one for another seed",
           (long long)T);
    for (int64_t i = 3 * windows; i-- > 0;) {
        data->window(data, SPLIT_TRAIN, i, T, again, targets);
        pure &= which(written[SPLIT_TRAIN], windows, T, again, targets) == order[i / windows][i % windows];
    }
    ok(pure, "T %lld: asked in another order, the same windows", (long long)T);

    bool in_order = data->validation_windows(data, T) == (VALIDATION_TOKENS - 1) / T;
    for (int64_t w = 0; w < data->validation_windows(data, T); w++) {
        data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
        in_order &= !memcmp(tokens, written[SPLIT_VALIDATION] + w * T, (size_t)T * sizeof *tokens) &&
                    !memcmp(targets, written[SPLIT_VALIDATION] + w * T + 1, (size_t)T * sizeof *tokens);
    }
    ok(in_order, "T %lld: validation windows in order", (long long)T);
    data_close(other);
    data_close(data);
}

/* ---- padded windows ---- */

/* A window made of the document that begins at tokens[start], from first principles. Returns where the next
 * one begins. */
static int64_t expect_document(const int32_t *stream, int64_t start, int64_t T, int32_t *tokens,
                               int32_t *targets) {
    int64_t end = start;
    while (stream[end] != end_of_text) end++;
    for (int64_t t = 0; t < T; t++) {
        tokens[t] = t > 0 && start + t - 1 < end ? stream[start + t - 1] : end_of_text;
        targets[t] = start + t <= end ? stream[start + t] : TARGET_MASKED;
    }
    return end + 1;
}

static void test_padded(int64_t T) {
    Dataset *data = data_open_shards(folder, true, 42);
    int32_t tokens[LONGEST], targets[LONGEST], want_tokens[LONGEST], want_targets[LONGEST];
    int64_t w = 0;
    bool same = true;
    for (int64_t at = 0; at < VALIDATION_TOKENS; w++) {
        at = expect_document(written[SPLIT_VALIDATION], at, T, want_tokens, want_targets);
        data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
        same &= !memcmp(tokens, want_tokens, (size_t)T * sizeof *tokens) &&
                !memcmp(targets, want_targets, (size_t)T * sizeof *tokens);
    }
    ok(same && w == data->validation_windows(data, T),
       "T %lld: padded validation windows hold one document each, end of text as its last target, the rest "
       "masked",
       (long long)T);

    /* the sums of all training windows of an epoch are those of all documents */
    int64_t documents = 0, expected = 0, got = 0;
    for (int64_t at = 0; at < TRAIN_TOKENS; documents++) {
        at = expect_document(written[SPLIT_TRAIN], at, T, want_tokens, want_targets);
        for (int64_t t = 0; t < T; t++) expected += (t + 1) * (want_tokens[t] + 1000 * want_targets[t]);
    }
    for (int64_t i = documents; i < 2 * documents; i++) {
        data->window(data, SPLIT_TRAIN, i, T, tokens, targets);
        for (int64_t t = 0; t < T; t++) got += (t + 1) * (tokens[t] + 1000 * targets[t]);
    }
    ok(got == expected, "T %lld: an epoch of padded training windows visits all %lld documents", (long long)T,
       (long long)documents);
    data_close(data);
}

/* ---- threads, and what is known of the data ---- */

static void test_threads(void) {
    enum { T = 32, WINDOWS = 500 };
    Dataset *data = data_open_shards(folder, false, 1);
    static int32_t alone[WINDOWS][2][T], together[WINDOWS][2][T];
    for (int i = 0; i < WINDOWS; i++) data->window(data, SPLIT_TRAIN, i, T, alone[i][0], alone[i][1]);
#pragma omp parallel for schedule(dynamic, 1) num_threads(4)
    for (int i = 0; i < WINDOWS; i++) data->window(data, SPLIT_TRAIN, i, T, together[i][0], together[i][1]);
    ok(!memcmp(alone, together, sizeof alone), "four threads get the windows that one gets");
    data_close(data);
}

static void test_facts(void) {
    Dataset *data = data_open_shards(folder, false, 1);
    ok(data->vocab_size == FOLDER_VOCAB && !strcmp(data->name, folder), "vocabulary and name");
    ok(isnan(data->entropy_floor), "nobody knows the entropy of a real text");
    /* the tokens are random: no model is much better than ln 299, and a trigram model that was trained on so
     * few of them not much worse */
    ok(data->trigram_loss > log(FOLDER_VOCAB) - 0.4 && data->trigram_loss < log(FOLDER_VOCAB) + 0.6,
       "the trigram model's loss on random tokens is %.3f", data->trigram_loss);
    Dataset *other = data_open_shards_unmeasured(folder, false, 1);
    bool unknown = isnan(other->trigram_loss);
    data_measure(other);
    ok(unknown && other->trigram_loss == data->trigram_loss, "it is measured when asked for");
    data_close(other);
    data_close(data);
}

/* Of the targets that an evaluation counts, no others: packed and padded, some windows and all. */
static void test_bytes(void) {
    enum { T = 24 };
    static const int64_t windows[] = {1, 3, 0, 1 << 30}; /* the last two: all */
    for (int pad = 0; pad < 2; pad++) {
        Dataset *data = data_open_shards(folder, pad, 1);
        int64_t all = data->validation_windows(data, T);
        double last = 0;
        for (int i = 0; i < COUNT_OF(windows); i++) {
            int32_t tokens[T], targets[T];
            double bytes = 0, counted = 0;
            for (int64_t w = 0; w < (windows[i] ? min64(windows[i], all) : all); w++) {
                data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
                for (int t = 0; t < T && targets[t] != TARGET_MASKED; t++, counted++) {
                    Str text = {0};
                    tokenizer_decode(data->tokenizer, &targets[t], 1, &text);
                    if (targets[t] != end_of_text) bytes += (double)text.count;
                    str_free(&text);
                }
            }
            char *what = xprintf("bytes per target, %s, %lld windows", pad ? "padded" : "packed",
                                 (long long)windows[i]);
            double got = data_bytes_per_token(data, windows[i], T);
            close_to(got, bytes / counted, 1e-12, what);
            if (i == 2) ok(got != last, "... which are others than those of some of them");
            last = got;
            free(what);
        }
        data_close(data);
    }
}

int main(void) {
    folder = file_temp_folder("shard-test");
    Tokenizer *tokenizer = make_tokenizer(folder);
    end_of_text = tokenizer_end_of_text(tokenizer);
    written[SPLIT_TRAIN] = make_split(folder, tokenizer, SPLIT_TRAIN, FOLDER_SHARDS);
    written[SPLIT_VALIDATION] = make_split(folder, tokenizer, SPLIT_VALIDATION, 1);
    tokenizer_free(tokenizer);
    test_permutation();
    test_packed(16);
    test_packed(3);
    test_packed(256); /* windows lie across the shards */
    test_padded(16);
    test_padded(200);
    test_facts();
    test_bytes();
    test_threads();
    file_remove(folder);
    free(folder);
    free(written[0]);
    free(written[1]);
    return tap_done();
}
