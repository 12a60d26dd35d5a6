/* bpe_encode: text to tokens. Added tokens are found first, the text between them is cut into
 * pieces, and each piece is merged: the earliest merge in the list that applies, at its leftmost
 * place, until none applies. */
#include "common/data/tokenizer_internal.h"

#include "common/data/encoder.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Up to here the next merge is found by looking at all pairs, beyond by a heap. */
#define SHORT_PIECE 64
/* What a piece longer than this needed is given back at once. */
#define KEPT_PIECE (1 << 20)

/* ---- merging one piece; both ways do the same merges in the same order ---- */

static int32_t *merge_short(const Tokenizer *t, const char *piece, size_t bytes, int32_t *out) {
    int32_t symbol[SHORT_PIECE];
    uint32_t rank[SHORT_PIECE]; /* of the merge of a symbol and the next */
    size_t count = bytes;
    for (size_t i = 0; i < count; i++) symbol[i] = t->byte_token[(unsigned char)piece[i]];
    for (size_t i = 0; i + 1 < count; i++) rank[i] = merge_rank(t, symbol[i], symbol[i + 1]);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best]) best = i;
        if (count < 2 || rank[best] == NO_MERGE) break;
        symbol[best] = t->merges[rank[best]].result;
        count--;
        memmove(symbol + best + 1, symbol + best + 2, (count - best - 1) * sizeof *symbol);
        memmove(rank + best, rank + best + 1, (count - best - 1) * sizeof *rank);
        if (best + 1 < count) rank[best] = merge_rank(t, symbol[best], symbol[best + 1]);
        if (best > 0) rank[best - 1] = merge_rank(t, symbol[best - 1], symbol[best]);
    }
    memcpy(out, symbol, count * sizeof *symbol);
    return out + count;
}

/* Notes which merge, if any, applies at a position. */
static void offer(const Tokenizer *t, Encoder *e, uint32_t position) {
    Cell *cell = &e->row[position];
    uint32_t rank = cell->next == NOWHERE ? NO_MERGE : merge_rank(t, cell->symbol, e->row[cell->next].symbol);
    cell->note = rank;
    if (rank == NO_MERGE) return;
    if (e->places[rank].first == NOWHERE) heap_push(&e->ranks, (HeapKey){rank, 0});
    places_add(&e->places[rank], &e->pool, position);
}

static int32_t *merge_long(const Tokenizer *t, Encoder *e, const char *piece, size_t bytes, int32_t *out) {
    if (!e->places) {
        e->places = xmalloc((size_t)t->merge_count * sizeof *e->places);
        for (int32_t rank = 0; rank < t->merge_count; rank++) e->places[rank] = NO_PLACES;
    }
    if (bytes > e->capacity) {
        encoder_release_long(e);
        e->row = row_allocate(bytes);
        e->capacity = bytes;
    }
    Cell *row = e->row;
    row_link(row, 0, (uint32_t)bytes);
    for (size_t i = 0; i < bytes; i++) row[i].symbol = t->byte_token[(unsigned char)piece[i]];
    for (size_t i = 0; i < bytes; i++) offer(t, e, (uint32_t)i);
    while (e->ranks.count) {
        uint32_t rank = (uint32_t)e->ranks.keys[0].major;
        uint32_t position = places_take(&e->places[rank], &e->pool);
        if (position == NOWHERE) {
            heap_pop(&e->ranks);
            continue;
        }
        if (row[position].note != rank) continue; /* a neighbour was merged in the meantime */
        row[row[position].next].note = NO_MERGE;
        row_merge(row, position, t->merges[rank].result);
        offer(t, e, position);
        if (row[position].prev != NOWHERE) offer(t, e, row[position].prev);
    }
    for (uint32_t i = 0; i != NOWHERE; i = row[i].next) *out++ = row[i].symbol;
    e->pool.used =
        0; /* all lists are empty: the next piece fills the blocks in order again, which is faster */
    e->pool.spare = NOWHERE;
    if (bytes > KEPT_PIECE) encoder_release_long(e);
    return out;
}

/* `out` has room for `bytes` tokens; returns its new end. */
static int32_t *encode_piece(const Tokenizer *t, Encoder *e, const char *piece, size_t bytes, int32_t *out) {
    if (bytes == 1) {
        *out = t->byte_token[(unsigned char)*piece];
        return out + 1;
    }
    if (bytes > SHORT_PIECE) return merge_long(t, e, piece, bytes, out);
    if (bytes > CACHE_BYTES) return merge_short(t, piece, bytes, out);
    CacheEntry *entry = &e->cache[XXH3_64bits(piece, bytes) >> (64 - CACHE_BITS)];
    if (entry->bytes == bytes && memcmp(entry->piece, piece, bytes) == 0) {
        memcpy(out, entry->token, entry->tokens * sizeof *out);
        return out + entry->tokens;
    }
    int32_t *end = merge_short(t, piece, bytes, out);
    if (end - out <= CACHE_TOKENS) {
        entry->bytes = (uint8_t)bytes;
        entry->tokens = (uint8_t)(end - out);
        memcpy(entry->piece, piece, bytes);
        memcpy(entry->token, out, (size_t)(end - out) * sizeof *out);
    }
    return end;
}

/* ---- the text ---- */

static void reserve(Tokens *out, size_t more) {
    if (out->capacity - out->count >= (int64_t)more) return;
    out->capacity = 2 * out->capacity + (int64_t)more + 64;
    out->data = xrealloc(out->data, (size_t)out->capacity * sizeof *out->data);
}

static void encode_plain(const Tokenizer *t, Encoder *e, const char *text, size_t bytes, Tokens *out) {
    const char *piece;
    size_t length;
    splitter_start(e->splitter, text, bytes);
    while (splitter_next(e->splitter, &piece, &length)) {
        reserve(out, length);
        out->count = encode_piece(t, e, piece, length, out->data + out->count) - out->data;
    }
}

/* The added token that begins at `text`, the longest if several do; NULL: none. */
static const AddedToken *added_at(const Tokenizer *t, bool normalized, const char *text, size_t bytes) {
    for (const AddedToken *a = t->added; a < t->added + t->added_count; a++)
        if (a->normalized == normalized && a->length <= bytes &&
            memcmp(text, token_bytes(&t->vocabulary, a->id), a->length) == 0)
            return a;
    return NULL;
}

/* Added tokens that are not normalized come first, the others are found in the text between them. */
static void encode_text(const Tokenizer *t, Encoder *e, bool normalized, const char *text, size_t bytes,
                        Tokens *out) {
    bool begins[256] = {false}; /* an added token begins with this byte */
    for (int32_t i = 0; i < t->added_count; i++)
        if (t->added[i].normalized == normalized)
            begins[(unsigned char)*token_bytes(&t->vocabulary, t->added[i].id)] = true;
    size_t done = 0;
    for (size_t i = 0; i <= bytes;) {
        const AddedToken *added = NULL;
        if (i < bytes && begins[(unsigned char)text[i]]) added = added_at(t, normalized, text + i, bytes - i);
        if (i < bytes && !added) {
            i++;
            continue;
        }
        if (i > done && normalized) encode_plain(t, e, text + done, i - done, out);
        if (i > done && !normalized) encode_text(t, e, true, text + done, i - done, out);
        if (!added) break;
        reserve(out, 1);
        out->data[out->count++] = added->id;
        done = i += added->length;
    }
}

void tokenizer_encode(const Tokenizer *t, const char *text, size_t bytes, Tokens *out) {
    Encoder *e = encoder_take(t->encoders);
    encode_text(t, e, false, text, bytes, out);
    encoder_return(t->encoders, e);
}
