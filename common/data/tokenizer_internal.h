/* tokenizer_internal: what tokenizer.c, tokenizer_load.c, tokenizer_save.c, bpe_train.c
 * and bpe_encode.c share. */
#ifndef TOKENIZER_INTERNAL_H
#define TOKENIZER_INTERNAL_H

#include "common/data/tokenizer.h"

/* ---- the vocabulary: id to bytes, and back ---- */
typedef struct {
    Str bytes;      /* of all tokens, one behind the other */
    int64_t *start; /* token id is bytes.data[start[id]] .. bytes.data[start[id + 1] - 1] */
    int32_t count, capacity;
    int32_t *index;      /* hash table: ids, -1 where free */
    int64_t slots, used; /* a power of two; those taken */
} Vocabulary;
/* The id of the new token. One that is not findable (an added token, which may have the bytes of a learned
 * one) stays out of the index. */
int32_t vocabulary_add(Vocabulary *vocabulary, const char *bytes, size_t count, bool findable);
int32_t vocabulary_find(const Vocabulary *vocabulary, const char *bytes, size_t count); /* -1: not there */
void vocabulary_free(Vocabulary *vocabulary);
static inline const char *token_bytes(const Vocabulary *vocabulary, int32_t id) {
    return vocabulary->bytes.data + vocabulary->start[id];
}
static inline size_t token_length(const Vocabulary *vocabulary, int32_t id) {
    return (size_t)(vocabulary->start[id + 1] - vocabulary->start[id]);
}

/* ---- merges: the earlier in the list, the sooner applied ---- */
typedef struct {
    int32_t left, right, result;
} Merge;
typedef struct {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank;
} MergeSlot;
#define NO_PAIR  UINT64_MAX
#define NO_MERGE UINT32_MAX
static inline uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}
/* Where a pair's search in a table of 2^bits slots begins (Fibonacci hashing: Knuth, TAOCP 3, 6.4). */
static inline uint64_t pair_slot(uint64_t pair, int bits) {
    return ((pair ^ pair >> 29) * 0x9E3779B97F4A7C15u) >> (64 - bits);
}

/* A token that is looked for in the text itself, before the text is cut into pieces. */
typedef struct {
    int32_t id;
    size_t length;   /* of its bytes; tokenizer_new fills it in */
    bool special;    /* only kept, for tokenizer_save */
    bool normalized; /* looked for only where no token without this flag was found, as in Hugging Face's */
} AddedToken;

struct Tokenizer {
    Vocabulary vocabulary;
    Merge *merges;
    int32_t merge_count;
    AddedToken *added; /* longest first, so that of two that begin alike the longer one is found */
    int32_t added_count;
    int32_t end_of_text;
    int unicode; /* see tokenizer_unicode; whoever makes the tokenizer fills it in */
    int32_t byte_token[256];
    MergeSlot *merge_slots; /* hash table of 2^merge_bits */
    int merge_bits;
    struct EncoderPool *encoders; /* encoder.h */
};

/* Takes over vocabulary, merges and added; checks that every byte has a token, that no pair is merged twice
 * and that END_OF_TEXT is among the added tokens. `origin` names the file in messages. */
Tokenizer *tokenizer_new(Vocabulary vocabulary, Merge *merges, int32_t merge_count, AddedToken *added,
                         int32_t added_count, const char *origin);

/* The place in the list of the merge of two neighbours, or NO_MERGE. */
static inline uint32_t merge_rank(const Tokenizer *t, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right), mask = ((uint64_t)1 << t->merge_bits) - 1;
    for (uint64_t i = pair_slot(pair, t->merge_bits);; i = (i + 1) & mask) {
        if (t->merge_slots[i].pair == pair) return t->merge_slots[i].rank;
        if (t->merge_slots[i].pair == NO_PAIR) return NO_MERGE;
    }
}

#endif
