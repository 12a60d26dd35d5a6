/* data: windows of tokens out of the shards that `make data` left. */
#include "common/data/data.h"

#include "common/data/ngram.h"
#include "common/base/permutation.h"
#include "common/base/rng.h"
#include "common/data/shards.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct {
    Dataset base;
    ShardSet splits[2];    /* by Split */
    int64_t *documents[2]; /* padded: document d is tokens documents[d] .. documents[d + 1] - 1, the last one
                              END_OF_TEXT */
    int32_t end_of_text;
    bool pad;
    uint64_t seed;
} ShardData;

/* ---- windows ---- */

static int64_t window_count(const ShardData *data, Split split, int64_t T) {
    const ShardSet *set = &data->splits[split];
    if (data->pad) return set->document_count;
    CHECK(set->token_count > T, "give a smaller --max-seq-length, or make data from more text",
          "'%s' holds %" PRId64 " %s tokens, a window of %" PRId64 " and its last target need %" PRId64,
          data->base.name, set->token_count, split_name(split), T, T + 1);
    return (set->token_count - 1) / T;
}

/* Window w of the packed stream: documents follow each other, and a target may lie in the next window. */
static void packed_window(const ShardSet *set, int64_t w, int64_t T, int32_t *tokens, int32_t *targets) {
    shard_set_read(set, w * T, T, tokens);
    shard_set_read(set, w * T + 1, T, targets);
}

/* One document: END_OF_TEXT of the one before, which is what it is predicted from, then its tokens, cut to T.
 * Its own END_OF_TEXT is the last target. */
static void padded_window(const ShardData *data, Split split, int64_t document, int64_t T, int32_t *tokens,
                          int32_t *targets) {
    const int64_t *start = &data->documents[split][document];
    int64_t count = min64(start[1] - start[0], T);
    shard_set_read(&data->splits[split], start[0], count, targets);
    tokens[0] = data->end_of_text;
    for (int64_t t = 1; t < T; t++) tokens[t] = t < count ? targets[t - 1] : data->end_of_text;
    for (int64_t t = count; t < T; t++) targets[t] = TARGET_MASKED;
}

static void shards_window(const Dataset *base, Split split, int64_t index, int64_t T, int32_t *tokens,
                          int32_t *targets) {
    const ShardData *data = (const ShardData *)base;
    int64_t windows = window_count(data, split, T);
    ASSERT(index >= 0 && T > 0 && (split == SPLIT_TRAIN || index < windows));
    if (split == SPLIT_TRAIN) {
        uint64_t epoch = (uint64_t)(index / windows);
        index = permute(index % windows, windows, data->seed, rng_stream("data.order") + epoch);
    }
    if (data->pad)
        padded_window(data, split, index, T, tokens, targets);
    else
        packed_window(&data->splits[split], index, T, tokens, targets);
}

static int64_t shards_validation_windows(const Dataset *base, int64_t T) {
    return window_count((const ShardData *)base, SPLIT_VALIDATION, T);
}

/* ---- opening ---- */

static void open_split(ShardData *data, Split split) {
    ShardSet *set = &data->splits[split];
    *set = shard_set_open(data->base.name, split, data->base.tokenizer);
    CHECK(set->complete, "make data was not finished: give the same command again and it goes on",
          "'%s' lacks %s_%04d.bin", data->base.name, split_name(split), set->count);
    CHECK(set->document_count > 0, "make data from more text", "'%s' holds no %s document", data->base.name,
          split_name(split));
}

static int64_t *find_documents(const ShardSet *set, int32_t end_of_text) {
    enum { BLOCK = 1 << 14 };
    int32_t tokens[BLOCK];
    int64_t *start = xmalloc((size_t)(set->document_count + 1) * sizeof *start), found = 0;
    start[0] = 0;
    for (int64_t first = 0; first < set->token_count; first += BLOCK) {
        int64_t count = min64(BLOCK, set->token_count - first);
        shard_set_read(set, first, count, tokens);
        for (int64_t i = 0; i < count; i++) {
            if (tokens[i] != end_of_text) continue;
            if (found++ < set->document_count) start[found] = first + i + 1;
        }
    }
    CHECK(found == set->document_count, "the files are damaged: make the data anew",
          "'%s' and those behind it say %" PRId64 " documents and hold %" PRId64, set->shards[0].path,
          set->document_count, found);
    return start;
}

/* The line that training must pass. Millions of tokens train a trigram model well enough, and quickly. */
static double trigram_loss(const ShardSet *train, const ShardSet *validation, int64_t vocab_size) {
    enum { STRETCHES = 16, STRETCH = 1 << 17, VALIDATION = 1 << 17, MOST_TOKENS = 1 << 21 };
    if (train->token_count < 3 || validation->token_count < 2 || vocab_size > MOST_TOKENS) return NAN;
    int64_t count = min64(train->token_count, STRETCHES * STRETCH), stretch = count / STRETCHES;
    int32_t *tokens = xmalloc((size_t)count * sizeof *tokens);
    if (count == train->token_count) {
        shard_set_read(train, 0, count, tokens);
    } else {
        for (int64_t i = 0; i < STRETCHES; i++)
            shard_set_read(train, (train->token_count - stretch) / (STRETCHES - 1) * i, stretch,
                           tokens + i * stretch);
    }
    Ngram *ngram = ngram_train(tokens, count, vocab_size);
    free(tokens);
    int64_t T = min64(validation->token_count - 1, VALIDATION), counted;
    tokens = xmalloc((size_t)(T + 1) * sizeof *tokens);
    shard_set_read(validation, 0, T + 1, tokens);
    double loss = ngram_loss(ngram, tokens, tokens + 1, T, &counted);
    free(tokens);
    ngram_free(ngram);
    return loss;
}

static void shards_measure(Dataset *base) {
    ShardData *data = (ShardData *)base;
    base->trigram_loss =
        trigram_loss(&data->splits[SPLIT_TRAIN], &data->splits[SPLIT_VALIDATION], base->vocab_size);
}

static void shards_close(Dataset *base) {
    ShardData *data = (ShardData *)base;
    for (int split = 0; split < 2; split++) {
        shard_set_close(&data->splits[split]);
        free(data->documents[split]);
    }
    tokenizer_free(base->tokenizer);
    free((char *)(uintptr_t)base->name);
    free(data);
}

Dataset *data_open_shards(const char *folder, bool pad, uint64_t seed) {
    Dataset *data = data_open_shards_unmeasured(folder, pad, seed);
    data_measure(data);
    return data;
}

Dataset *data_open_shards_unmeasured(const char *folder, bool pad, uint64_t seed) {
    char *tokenizer = xprintf("%s/tokenizer.json", folder);
    CHECK(file_exists(tokenizer), "make data TEXT=file.txt OUT=folder makes such a folder",
          "no data in '%s': no '%s'", folder, tokenizer);
    ShardData *data = xcalloc(1, sizeof *data);
    data->base = (Dataset){.name = xstrdup(folder),
                           .tokenizer = tokenizer_load(tokenizer),
                           .entropy_floor = NAN, /* nobody knows that of real text */
                           .trigram_loss = NAN,
                           .window = shards_window,
                           .validation_windows = shards_validation_windows,
                           .measure = shards_measure,
                           .close = shards_close};
    free(tokenizer);
    data->pad = pad;
    data->seed = seed;
    data->end_of_text = tokenizer_end_of_text(data->base.tokenizer);
    data->base.vocab_size = tokenizer_vocab_size(data->base.tokenizer);
    for (int split = 0; split < 2; split++) {
        open_split(data, (Split)split);
        if (pad) data->documents[split] = find_documents(&data->splits[split], data->end_of_text);
    }
    const ShardSet *train = &data->splits[SPLIT_TRAIN], *validation = &data->splits[SPLIT_VALIDATION];
    CHECK(train->shards[0].header->text_hash == validation->shards[0].header->text_hash,
          "all shards must come from one make data", "'%s': the splits come from different texts", folder);
    return &data->base;
}

/* ---- bytes ---- */

double data_bytes_per_token(const Dataset *data, int64_t windows, int64_t T) {
    int64_t all = data->validation_windows(data, T), counted = 0;
    double bytes = 0;
    int32_t end_of_text = tokenizer_end_of_text(data->tokenizer);
    int32_t *tokens = xmalloc((size_t)(2 * T) * sizeof *tokens), *targets = tokens + T;
    Str text = {0};
    if (windows == 0 || windows > all) windows = all;
    for (int64_t w = 0; w < windows; w++) {
        data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
        text.count = 0;
        for (int64_t t = 0; t < T; t++) {
            counted += targets[t] != TARGET_MASKED;
            if (targets[t] == TARGET_MASKED || targets[t] == end_of_text) continue;
            tokenizer_decode(data->tokenizer, &targets[t], 1, &text);
        }
        bytes += (double)text.count;
    }
    str_free(&text);
    free(tokens);
    return counted ? bytes / (double)counted : NAN;
}
