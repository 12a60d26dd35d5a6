#include "datasets/corpus.h"

#include "common/data/ngram.h"
#include "datasets/stories.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    VOCAB_SIZE = 1024,
    TOKENIZER_STORIES = 2000,
    TRIGRAM_WINDOWS = 5120, /* about as many tokens as the tiny preset trains on */
    VALIDATION_WINDOWS = 64,
};

/* Each purpose has stories of its own: training's come from the run's seed, the others are
 * always the same. */
static const uint64_t TOKENIZER_SEED = 0x746f6b656e697a65, VALIDATION_SEED = 0x76616c6964617465,
                      TRIGRAM_SEED = 0x74726967726d;

typedef struct {
    Dataset dataset;
    uint64_t seed;
    int64_t T;
} Stories;

/* The whole stories of a window. */
typedef struct {
    double minus_log_p;
    int64_t targets;
} Whole;

/* Fills a window with stories of `seed`, each window from a range of its own. */
static Whole fill_window(const Tokenizer *tokenizer, uint64_t seed, int64_t index, int64_t T, int32_t *tokens,
                         int32_t *targets) {
    Whole whole = {0};
    Tokens all = {0};
    Str text = {0};
    tokenizer_encode(tokenizer, END_OF_TEXT, strlen(END_OF_TEXT), &all);
    /* a story has more than one token, so a window has fewer than T stories; T + 1 keeps ranges apart */
    for (uint64_t story = (uint64_t)index * (uint64_t)(T + 1); all.count <= T; story++) {
        text.count = 0;
        double minus_log_p = story_make(seed, story, &text);
        str_add(&text, END_OF_TEXT, strlen(END_OF_TEXT));
        tokenizer_encode(tokenizer, text.data, text.count, &all);
        if (all.count > T + 1) break; /* cut */
        whole.targets = all.count - 1;
        whole.minus_log_p += minus_log_p;
    }
    memcpy(tokens, all.data, (size_t)T * sizeof *tokens);
    memcpy(targets, all.data + 1, (size_t)T * sizeof *targets);
    free(all.data);
    str_free(&text);
    return whole;
}

/* A validation window: the cut story is masked, unless there is no other. */
static Whole fill_validation(const Tokenizer *tokenizer, int64_t index, int64_t T, int32_t *tokens,
                             int32_t *targets) {
    Whole whole = fill_window(tokenizer, VALIDATION_SEED, index, T, tokens, targets);
    if (whole.targets > 0)
        for (int64_t t = whole.targets; t < T; t++) targets[t] = TARGET_MASKED;
    return whole;
}

static void stories_window(const Dataset *data, Split split, int64_t index, int64_t T, int32_t *tokens,
                           int32_t *targets) {
    const Stories *stories = (const Stories *)data;
    if (split == SPLIT_VALIDATION)
        fill_validation(data->tokenizer, index, T, tokens, targets);
    else
        fill_window(data->tokenizer, stories->seed, index, T, tokens, targets);
}

static int64_t stories_validation_windows(const Dataset *data, int64_t T) {
    (void)data, (void)T;
    return VALIDATION_WINDOWS;
}

static void stories_close(Dataset *data) {
    tokenizer_free(data->tokenizer);
    free(data);
}

static Tokenizer *learn_tokenizer(void) {
    Str text = {0};
    for (uint64_t story = 0; story < TOKENIZER_STORIES; story++) {
        story_make(TOKENIZER_SEED, story, &text);
        str_add(&text, END_OF_TEXT, strlen(END_OF_TEXT));
    }
    Tokenizer *tokenizer = tokenizer_train(text.data, text.count, VOCAB_SIZE);
    str_free(&text);
    return tokenizer;
}

/* A trigram model of as many stories as fill TRIGRAM_WINDOWS windows of T. */
static Ngram *learn_trigram(const Tokenizer *tokenizer, int64_t vocab_size, int64_t T) {
    int64_t count = TRIGRAM_WINDOWS * T;
    int32_t *tokens = xmalloc((size_t)count * sizeof *tokens);
#pragma omp parallel
    {
        int32_t *targets = xmalloc((size_t)T * sizeof *targets);
#pragma omp for schedule(static)
        for (int64_t w = 0; w < TRIGRAM_WINDOWS; w++)
            fill_window(tokenizer, TRIGRAM_SEED, w, T, tokens + w * T, targets);
        free(targets);
    }
    Ngram *ngram = ngram_train(tokens, count, vocab_size);
    free(tokens);
    return ngram;
}

/* States floor and trigram loss for the targets that validation counts. */
static void stories_measure(Dataset *data) {
    int64_t T = ((const Stories *)data)->T;
    Ngram *ngram = learn_trigram(data->tokenizer, data->vocab_size, T);
    int32_t *tokens = xmalloc((size_t)(2 * T) * sizeof *tokens), *targets = tokens + T;
    double minus_log_p = 0, trigram = 0;
    int64_t counted = 0, whole_targets = 0;
    for (int64_t w = 0; w < VALIDATION_WINDOWS; w++) {
        Whole whole = fill_validation(data->tokenizer, w, T, tokens, targets);
        minus_log_p += whole.minus_log_p;
        whole_targets += whole.targets;
        int64_t here;
        double loss = ngram_loss(ngram, tokens, targets, T, &here);
        trigram += loss * (double)here;
        counted += here;
    }
    data->trigram_loss = trigram / (double)counted;
    bool known = whole_targets == counted; /* every counted target belongs to a whole story */
    data->entropy_floor = known ? minus_log_p / (double)counted : NAN;
    free(tokens);
    ngram_free(ngram);
}

static Dataset *open_stories(int64_t T, uint64_t seed) {
    Stories *stories = xcalloc(1, sizeof *stories);
    Tokenizer *tokenizer = learn_tokenizer();
    stories->seed = seed;
    stories->T = T;
    stories->dataset = (Dataset){.name = "stories",
                                 .tokenizer = tokenizer,
                                 .vocab_size = tokenizer_vocab_size(tokenizer),
                                 .window = stories_window,
                                 .validation_windows = stories_validation_windows,
                                 .entropy_floor = NAN,
                                 .trigram_loss = NAN,
                                 .measure = stories_measure,
                                 .close = stories_close};
    return &stories->dataset;
}

Dataset *corpus_open_stories(int64_t T, uint64_t seed) {
    Dataset *data = open_stories(T, seed);
    data_measure(data);
    return data;
}

Dataset *corpus_open_unmeasured(const char *data_dir, bool pad, int64_t T, uint64_t seed) {
    return data_dir ? data_open_shards_unmeasured(data_dir, pad, seed) : open_stories(T, seed);
}

Dataset *corpus_open(const char *data_dir, bool pad, int64_t T, uint64_t seed) {
    return data_dir ? data_open_shards(data_dir, pad, seed) : corpus_open_stories(T, seed);
}
