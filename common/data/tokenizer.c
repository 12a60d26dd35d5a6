#include "common/data/tokenizer_internal.h"

#include "common/data/encoder.h"

#include "common/data/byte_alphabet.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- the vocabulary ---- */

static int64_t vocabulary_slot(const Vocabulary *v, const char *bytes, size_t count) {
    int64_t i = (int64_t)XXH3_64bits(bytes, count) & (v->slots - 1);
    for (; v->index[i] >= 0; i = (i + 1) & (v->slots - 1)) {
        int32_t id = v->index[i];
        if (token_length(v, id) == count && memcmp(token_bytes(v, id), bytes, count) == 0) break;
    }
    return i;
}

static void vocabulary_grow_index(Vocabulary *v) {
    int64_t slots = v->slots;
    int32_t *index = v->index;
    v->slots = slots ? 2 * slots : 1024;
    v->index = xmalloc((size_t)v->slots * sizeof *v->index);
    memset(v->index, -1, (size_t)v->slots * sizeof *v->index);
    for (int64_t i = 0; i < slots; i++)
        if (index[i] >= 0)
            v->index[vocabulary_slot(v, token_bytes(v, index[i]), token_length(v, index[i]))] = index[i];
    free(index);
}

int32_t vocabulary_add(Vocabulary *v, const char *bytes, size_t count, bool findable) {
    CHECK(v->count < INT32_MAX - 1, NULL, "more than %d tokens", INT32_MAX - 1);
    if (v->count + 2 > v->capacity) {
        v->capacity = (int32_t)min64(2 * (int64_t)v->capacity + 64, INT32_MAX);
        v->start = xrealloc(v->start, (size_t)v->capacity * sizeof *v->start);
        v->start[v->count] = (int64_t)v->bytes.count;
    }
    str_add(&v->bytes, bytes, count);
    v->start[v->count + 1] = (int64_t)v->bytes.count;
    int32_t id = v->count++;
    if (findable) {
        if (2 * (v->used + 1) > v->slots) vocabulary_grow_index(v);
        v->index[vocabulary_slot(v, bytes, count)] = id;
        v->used++;
    }
    return id;
}

int32_t vocabulary_find(const Vocabulary *v, const char *bytes, size_t count) {
    return v->slots ? v->index[vocabulary_slot(v, bytes, count)] : -1;
}

void vocabulary_free(Vocabulary *v) {
    str_free(&v->bytes);
    free(v->start);
    free(v->index);
    *v = (Vocabulary){0};
}

/* ---- the tokenizer ---- */

static void index_merges(Tokenizer *t, const char *origin) {
    t->merge_bits = 4;
    while ((int64_t)1 << t->merge_bits < 2 * (int64_t)t->merge_count) t->merge_bits++;
    uint64_t slots = (uint64_t)1 << t->merge_bits;
    t->merge_slots = xmalloc(slots * sizeof *t->merge_slots);
    for (uint64_t i = 0; i < slots; i++) t->merge_slots[i].pair = NO_PAIR;
    for (int32_t rank = 0; rank < t->merge_count; rank++) {
        uint64_t pair = pair_of(t->merges[rank].left, t->merges[rank].right);
        uint64_t i = pair_slot(pair, t->merge_bits);
        for (; t->merge_slots[i].pair != NO_PAIR; i = (i + 1) & (slots - 1))
            CHECK(t->merge_slots[i].pair != pair, "each pair is merged by one rule",
                  "'%s': merges %u and %d are the same", origin, t->merge_slots[i].rank + 1, rank + 1);
        t->merge_slots[i] = (MergeSlot){pair, (uint32_t)rank};
    }
}

static int longer_first(const void *a, const void *b) {
    const AddedToken *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The END_OF_TEXT among the added tokens; and normalized means nothing where all are alike. */
static void order_added(Tokenizer *t, const char *origin) {
    t->end_of_text = -1;
    int32_t normalized = 0;
    for (int32_t i = 0; i < t->added_count; i++) {
        AddedToken *added = &t->added[i];
        added->length = token_length(&t->vocabulary, added->id);
        normalized += added->normalized;
        if (added->length == strlen(END_OF_TEXT) &&
            memcmp(token_bytes(&t->vocabulary, added->id), END_OF_TEXT, added->length) == 0)
            t->end_of_text = added->id;
    }
    CHECK(t->end_of_text >= 0, "it separates documents: add it to the file's added_tokens",
          "'%s' has no token %s", origin, END_OF_TEXT);
    for (int32_t i = 0; i < t->added_count; i++) t->added[i].normalized &= normalized < t->added_count;
    qsort(t->added, (size_t)t->added_count, sizeof *t->added, longer_first);
}

Tokenizer *tokenizer_new(Vocabulary vocabulary, Merge *merges, int32_t merge_count, AddedToken *added,
                         int32_t added_count, const char *origin) {
    Tokenizer *t = xcalloc(1, sizeof *t);
    *t = (Tokenizer){.vocabulary = vocabulary,
                     .merges = merges,
                     .merge_count = merge_count,
                     .added = added,
                     .added_count = added_count};
    for (int byte = 0; byte < 256; byte++) {
        t->byte_token[byte] = vocabulary_find(&vocabulary, &(char){(char)byte}, 1);
        CHECK(t->byte_token[byte] >= 0, "train it with all 256 bytes as its initial alphabet",
              "'%s' has no token for byte 0x%02x", origin, byte);
    }
    index_merges(t, origin);
    order_added(t, origin);
    t->encoders = encoder_pool_new();
    return t;
}

void tokenizer_free(Tokenizer *t) {
    if (!t) return;
    vocabulary_free(&t->vocabulary);
    free(t->merges);
    free(t->added);
    free(t->merge_slots);
    encoder_pool_free(t->encoders);
    free(t);
}

int tokenizer_vocab_size(const Tokenizer *t) { return t->vocabulary.count; }

int32_t tokenizer_end_of_text(const Tokenizer *t) { return t->end_of_text; }

int tokenizer_unicode(const Tokenizer *t) { return t->unicode; }

uint64_t tokenizer_hash(const Tokenizer *t) {
    const Vocabulary *v = &t->vocabulary;
    uint64_t hash = XXH64(v->start, ((size_t)v->count + 1) * sizeof *v->start, 0);
    hash = XXH64(v->bytes.data, v->bytes.count, hash);
    hash = XXH64(t->merges, (size_t)t->merge_count * sizeof *t->merges, hash);
    for (int32_t i = 0; i < t->added_count; i++) {
        int32_t added[2] = {t->added[i].id, t->added[i].normalized};
        hash = XXH64(added, sizeof added, hash);
    }
    return hash;
}

void tokenizer_decode(const Tokenizer *t, const int32_t *tokens, int64_t count, Str *out) {
    for (int64_t i = 0; i < count; i++) {
        CHECK(tokens[i] >= 0 && tokens[i] < t->vocabulary.count,
              "were these tokens made by another tokenizer?",
              "token %d at position %lld is not in the vocabulary of %d", tokens[i], (long long)i,
              t->vocabulary.count);
        str_add(out, token_bytes(&t->vocabulary, tokens[i]), token_length(&t->vocabulary, tokens[i]));
    }
}
