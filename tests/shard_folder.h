/* shard_folder: a small folder of data, as `make data` leaves one, whose tokens the test knows. */
#ifndef SHARD_FOLDER_H
#define SHARD_FOLDER_H

#include "common/base/rng.h"
#include "common/data/pretokenize.h"
#include "common/data/shards.h"
#include "tests/expect_exit.h"

#include <stdlib.h>

enum { FOLDER_VOCAB = 300, FOLDER_SHARDS = 3, SHARD_TOKENS = 700 };

/* In a child, as training runs in threads, and a test that forks must not have had any. */
static void train_tokenizer(void *path) {
    Str text = {0};
    for (int i = 0; i < 200; i++)
        str_printf(&text, "the %d little bears went home and the sun went down %d\n", i, i * i);
    Tokenizer *tokenizer = tokenizer_train(text.data, text.count, FOLDER_VOCAB);
    tokenizer_save(tokenizer, path);
    tokenizer_free(tokenizer);
    str_free(&text);
}

/* Documents of 1 to 120 tokens, each with END_OF_TEXT behind it. */
static void make_tokens(Split split, int32_t end_of_text, int32_t *tokens, int64_t count) {
    Rng rng = {7, rng_stream(split_name(split)), 0};
    int64_t left = 1 + rng_below(&rng, 120);
    for (int64_t i = 0; i < count; i++, left--) {
        bool ends = left == 0 || i == count - 1;
        tokens[i] = ends ? end_of_text : (int32_t)rng_below(&rng, (uint32_t)end_of_text);
        if (ends) left = 1 + rng_below(&rng, 120);
    }
}

static ShardHeader make_header(const Tokenizer *tokenizer, Split split, int index, int shards) {
    return (ShardHeader){.version = SHARD_VERSION,
                         .token_bytes = (uint32_t)shard_token_bytes(tokenizer_vocab_size(tokenizer)),
                         .split = (uint16_t)split,
                         .unicode = (uint16_t)unicode_version(),
                         .index = (uint32_t)index,
                         .is_last = index == shards - 1,
                         .vocab_size = (uint32_t)tokenizer_vocab_size(tokenizer),
                         .tokenizer_hash = tokenizer_hash(tokenizer),
                         .text_hash = 99,
                         .text_bytes = 3 * SHARD_TOKENS,
                         .text_begin = index * 4 * SHARD_TOKENS,
                         .text_end = (index + 1) * 4 * SHARD_TOKENS};
}

/* Writes a split of `shards` shards and returns its tokens; the caller frees them. */
static int32_t *make_split(const char *folder, const Tokenizer *tokenizer, Split split, int shards) {
    int32_t *tokens = xmalloc((size_t)shards * SHARD_TOKENS * sizeof *tokens),
            end = tokenizer_end_of_text(tokenizer);
    make_tokens(split, end, tokens, shards * SHARD_TOKENS);
    for (int i = 0; i < shards; i++) {
        ShardHeader header = make_header(tokenizer, split, i, shards);
        for (int t = 0; t < SHARD_TOKENS; t++) header.document_count += tokens[i * SHARD_TOKENS + t] == end;
        char *path = shard_path(folder, split, i);
        ShardWriter writer = shard_create(path, &header);
        shard_append(&writer, tokens + i * SHARD_TOKENS, SHARD_TOKENS);
        shard_commit(&writer);
        free(path);
    }
    return tokens;
}

/* tokenizer.json in the folder, and loaded. */
static Tokenizer *make_tokenizer(const char *folder) {
    char *path = xprintf("%s/tokenizer.json", folder);
    Exit e = expect_exit(train_tokenizer, path);
    CHECK(e.status == 0, NULL, "cannot train a tokenizer: %s", e.text);
    Tokenizer *tokenizer = tokenizer_load(path);
    free(path);
    return tokenizer;
}

#endif
