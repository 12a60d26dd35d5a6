/* The stories as windows of tokens: floor, trigram loss and bytes against what the windows themselves say;
 * the rules of data.h. */
#include "common/data/ngram.h"
#include "datasets/corpus.h"
#include "datasets/stories.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

enum { T = 256, WINDOWS = 200 };

/* Everything that validation states, counted again: decodes the targets that count and parses the stories. */
static void test_validation(const Dataset *data) {
    int32_t tokens[T], targets[T], end = tokenizer_end_of_text(data->tokenizer);
    double minus_log_p = 0, bytes = 0;
    int64_t counted = 0, stories = 0, wrong = 0;
    for (int64_t w = 0; w < data->validation_windows(data, T); w++) {
        data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
        wrong += tokens[0] != end;
        int64_t begin = 0;
        for (int64_t t = 0; t < T; t++) {
            wrong += t > 0 && targets[t - 1] != TARGET_MASKED && tokens[t] != targets[t - 1];
            wrong += t > 0 && targets[t - 1] == TARGET_MASKED && targets[t] != TARGET_MASKED;
            if (targets[t] != end) continue;
            Str text = {0};
            double p = 0;
            tokenizer_decode(data->tokenizer, targets + begin, t - begin, &text);
            wrong += !story_parse(text.data, text.count, &p);
            minus_log_p += p;
            bytes += (double)text.count;
            stories++;
            str_free(&text);
            begin = t + 1;
            counted = counted + 1;
        }
        for (int64_t t = 0; t < T; t++) counted += targets[t] != TARGET_MASKED && targets[t] != end;
        wrong += begin < T && targets[begin] != TARGET_MASKED; /* only whole stories count */
    }
    ok(wrong == 0, "%d validation windows hold whole stories, the rest masked: %d wrong",
       (int)data->validation_windows(data, T), (int)wrong);
    ok(stories >= data->validation_windows(data, T), "%d whole stories, %d targets", (int)stories,
       (int)counted);
    close_to(data->entropy_floor, minus_log_p / (double)counted, 1e-12,
             "the floor is that of the parsed stories");
    close_to(data_bytes_per_token(data, 0, T), bytes / (double)counted, 1e-12, "bytes per token");
    ok(data->entropy_floor <= 0.6 * data->trigram_loss && data->entropy_floor > 0.05,
       "floor %.3f, trigram %.3f nats per token: ratio %.3f", data->entropy_floor, data->trigram_loss,
       data->entropy_floor / data->trigram_loss);
}

/* The stated trigram loss against a trigram model of training windows. */
static void test_trigram(const Dataset *data) {
    enum { TRAIN = 5120 };
    int32_t *train = xmalloc(TRAIN * T * sizeof *train), tokens[T], targets[T];
    for (int64_t w = 0; w < TRAIN; w++) data->window(data, SPLIT_TRAIN, w, T, train + w * T, targets);
    Ngram *ngram = ngram_train(train, TRAIN * T, data->vocab_size);
    double sum = 0;
    int64_t counted = 0, here;
    for (int64_t w = 0; w < data->validation_windows(data, T); w++) {
        data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
        double loss = ngram_loss(ngram, tokens, targets, T, &here);
        sum += loss * (double)here;
        counted += here;
    }
    close_to(data->trigram_loss, sum / (double)counted, 0.01,
             "the trigram loss is that of other stories too");
    ngram_free(ngram);
    free(train);
}

static void test_training(const Dataset *data) {
    int32_t *serial = xmalloc(WINDOWS * T * sizeof *serial),
            *parallel = xmalloc(WINDOWS * T * sizeof *parallel);
    int32_t *targets = xmalloc(WINDOWS * T * sizeof *targets), end = tokenizer_end_of_text(data->tokenizer);
    int wrong = 0, alike = 0;
    for (int w = 0; w < WINDOWS; w++) data->window(data, SPLIT_TRAIN, w, T, serial + w * T, targets + w * T);
    for (int w = 0; w < WINDOWS; w++) {
        wrong += serial[w * T] != end;
        for (int t = 0; t < T; t++) {
            wrong += targets[w * T + t] < 0 || targets[w * T + t] >= data->vocab_size;
            wrong += t > 0 && targets[w * T + t - 1] != serial[w * T + t];
        }
    }
    ok(wrong == 0, "training windows start with the end of text, and mask nothing");
    /* a story's first 24 tokens hold title, trait, place and elder: enough to know it */
    enum { KNOWN = 24 };
    int32_t **stories = xmalloc(WINDOWS * T * sizeof *stories);
    int count = 0;
    for (int i = 0; i < WINDOWS * T; i++)
        if (serial[i] == end && i % T + KNOWN < T) stories[count++] = serial + i;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++) alike += !memcmp(stories[i], stories[j], KNOWN * sizeof(int32_t));
    ok(alike == 0 && count > WINDOWS, "no story comes twice among the %d of %d windows", count, WINDOWS);
    free(stories);
#pragma omp parallel for num_threads(4) schedule(dynamic)
    for (int w = WINDOWS - 1; w >= 0; w--) {
        int32_t own[T];
        data->window(data, SPLIT_TRAIN, w, T, parallel + w * T, own);
    }
    ok(!memcmp(serial, parallel, WINDOWS * T * sizeof *serial),
       "the same windows in any order, from any thread");
    data->window(data, SPLIT_TRAIN, (int64_t)1 << 40, T, parallel, targets);
    ok(parallel[0] == end && memcmp(serial, parallel, T * sizeof *serial), "windows at large indices");
    free(serial);
    free(parallel);
    free(targets);
}

/* Of many ranks one measures: the others have the same windows without. */
static void test_unmeasured(const Dataset *data) {
    Dataset *other = corpus_open_unmeasured(NULL, false, T, 1);
    int32_t a[T], b[T], targets[T];
    data->window(data, SPLIT_TRAIN, 5, T, a, targets);
    other->window(other, SPLIT_TRAIN, 5, T, b, targets);
    ok(!memcmp(a, b, sizeof a) && isnan(other->entropy_floor) && isnan(other->trigram_loss),
       "not measured: the same stories, and nothing said of them");
    data_measure(other);
    ok(data->entropy_floor == other->entropy_floor && data->trigram_loss == other->trigram_loss,
       "measured later: the same floor and trigram loss");
    data_close(other);
}

static void test_seeds(const Dataset *data) {
    Dataset *other = corpus_open(NULL, false, T, 2);
    int32_t a[T], b[T], targets[T];
    ok(tokenizer_hash(data->tokenizer) == tokenizer_hash(other->tokenizer), "one vocabulary for all seeds");
    data->window(data, SPLIT_VALIDATION, 5, T, a, targets);
    other->window(other, SPLIT_VALIDATION, 5, T, b, targets);
    ok(!memcmp(a, b, sizeof a) && data->entropy_floor == other->entropy_floor &&
           data->trigram_loss == other->trigram_loss,
       "one validation split for all seeds");
    data->window(data, SPLIT_TRAIN, 5, T, a, targets);
    other->window(other, SPLIT_TRAIN, 5, T, b, targets);
    ok(memcmp(a, b, sizeof a) != 0, "training stories of their own for each seed");
    data_close(other);
}

/* Windows too short for a story: nothing masked, no floor claimed. */
static void test_short_windows(void) {
    Dataset *data = corpus_open_stories(16, 1);
    int32_t tokens[16], targets[16];
    int masked = 0;
    for (int64_t w = 0; w < data->validation_windows(data, 16); w++) {
        data->window(data, SPLIT_VALIDATION, w, 16, tokens, targets);
        for (int t = 0; t < 16; t++) masked += targets[t] == TARGET_MASKED;
    }
    ok(masked == 0 && isnan(data->entropy_floor) && isfinite(data->trigram_loss),
       "windows of 16: %d masked, floor %g, trigram %.3f", masked, data->entropy_floor, data->trigram_loss);
    data_close(data);
}

static void test_lengths(const Dataset *data) {
    enum { STORIES = 5000 };
    int64_t longest = 0, total = 0;
    for (uint64_t i = 0; i < STORIES; i++) {
        Str text = {0};
        Tokens tokens = {0};
        story_make(21, i, &text);
        tokenizer_encode(data->tokenizer, text.data, text.count, &tokens);
        longest = max64(longest, tokens.count);
        total += tokens.count;
        str_free(&text);
        free(tokens.data);
    }
    ok(longest < 250, "a story has %.0f tokens on average and %d at most", (double)total / STORIES,
       (int)longest);
    ok(data->vocab_size == 1024, "a vocabulary of %d", (int)data->vocab_size);
}

int main(void) {
    Dataset *data = corpus_open_stories(T, 1);
    test_validation(data);
    test_trigram(data);
    test_training(data);
    test_unmeasured(data);
    test_seeds(data);
    test_short_windows();
    test_lengths(data);
    data_close(data);
    return tap_done();
}
