/* data: where training examples come from. A Dataset gives windows of T tokens by index, so the order of the
 * data is never one of the mesh: a step takes the next global_batch_size windows, row r of it the r-th of them.
 *
 * Two sources: token shards on disk (data_open_shards below) and the stories that are made on
 * the fly (datasets/corpus.h). */
#ifndef DATA_H
#define DATA_H

#include "common/data/tokenizer.h"

typedef enum { SPLIT_TRAIN, SPLIT_VALIDATION } Split;

#define TARGET_MASKED (-1) /* a position that the loss leaves out */

typedef struct Dataset Dataset;
struct Dataset {
    const char *name;     /* for the banner: "stories", or the folder */
    Tokenizer *tokenizer; /* owned */
    int64_t vocab_size;   /* every token is below this */
    double entropy_floor; /* nats per validation token that no model can pass; NAN when not known */
    double trigram_loss;  /* nats per validation token of an interpolated trigram model; NAN when not known */
    int64_t train_windows; /* after so many training windows batches begin with the first again; 0: never */

    /* tokens (T) and targets (T): targets[t] is the token that follows tokens[t], or TARGET_MASKED. Training
     * windows have any index >= 0; validation windows 0 .. validation_windows(T) - 1. Thread-safe. */
    void (*window)(const Dataset *data, Split split, int64_t index, int64_t T, int32_t *tokens,
                   int32_t *targets);
    int64_t (*validation_windows)(const Dataset *data, int64_t T);
    void (*measure)(Dataset *data);
    void (*close)(Dataset *data);
};

/* The folder that `make data` left: tokenizer.json and shards (common/data/shards.h). pad: each window holds one
 * document, behind the END_OF_TEXT that precedes it, cut or padded to T with its padding masked; otherwise
 * documents are packed. Training windows are visited in a new order each epoch (a keyed permutation of their
 * numbers). The trigram model is trained on up to 2 M tokens. */
Dataset *data_open_shards(const char *folder, bool pad, uint64_t seed);

/* Text bytes for each target that counts in the first `windows` validation windows of T tokens (0: all of them), which are
 * the targets of evaluate (model/batch.h): loss / ln 2 / this is their bits per byte. END_OF_TEXT counts as a target and has
 * no bytes. NAN when no target counts. */
double data_bytes_per_token(const Dataset *data, int64_t windows, int64_t T);

/* A trigram model takes a moment to train, and one of many ranks needs it: data_open_shards is these two. Before it is
 * measured, trigram_loss is NAN, and of the stories entropy_floor is too. */
Dataset *data_open_shards_unmeasured(const char *folder, bool pad, uint64_t seed);
static inline void data_measure(Dataset *data) { data->measure(data); }

static inline void data_close(Dataset *data) { data->close(data); }

#endif
