/* bpe_train: learns merges. Every round the pair of neighbours that occurs most often, over all pieces,
 * becomes a new symbol; of pairs that occur equally often, the one with the smaller ids (left, then right)
 * wins, as in Hugging Face's trainer. Counts are kept up to date at the places that change, so that a round
 * costs what it changes, and the whole training about as much as there are bytes in different pieces. */
#include "common/data/tokenizer_internal.h"

#include "common/data/pretokenize.h"

#include "common/data/byte_alphabet.h"
#include "common/data/merge_queue.h"
#include "common/data/piece_count.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t pair; /* NO_PAIR: a free slot */
    int64_t count;
    Places places;
    int32_t round; /* the round in which it grew last */
} PairCount;

typedef struct {
    Cell *row;            /* all different pieces, one behind the other; note: the piece */
    int64_t *occurrences; /* of each piece */
    uint32_t pieces, positions;

    PairCount *pairs; /* hash table of 2^bits slots */
    int64_t used;
    int bits;
    PlacePool pool;
    Heap heap; /* (-count, pair); a count that has fallen since is put right when it comes out */

    int32_t round;
    uint64_t *grown; /* the pairs that grew in this round */
    size_t grown_count, grown_capacity;
} Trainer;

/* ---- pairs ---- */

static PairCount *pair_find(const Trainer *r, uint64_t pair) {
    uint64_t mask = ((uint64_t)1 << r->bits) - 1, i = pair_slot(pair, r->bits);
    while (r->pairs[i].pair != pair && r->pairs[i].pair != NO_PAIR) i = (i + 1) & mask;
    return &r->pairs[i];
}

static void pairs_resize(Trainer *r, int bits) {
    PairCount *old = r->pairs;
    int64_t old_slots = old ? (int64_t)1 << r->bits : 0, slots = (int64_t)1 << bits;
    r->bits = bits;
    r->pairs = xmalloc((size_t)slots * sizeof *r->pairs);
    for (int64_t i = 0; i < slots; i++) r->pairs[i].pair = NO_PAIR;
    for (int64_t i = 0; i < old_slots; i++)
        if (old[i].pair != NO_PAIR) *pair_find(r, old[i].pair) = old[i];
    free(old);
}

static void pair_grow(Trainer *r, int32_t left, int32_t right, int64_t by, uint32_t position) {
    uint64_t pair = pair_of(left, right);
    PairCount *p = pair_find(r, pair);
    if (p->pair == NO_PAIR) {
        if (2 * ++r->used > (int64_t)1 << r->bits) {
            pairs_resize(r, r->bits + 1);
            p = pair_find(r, pair);
        }
        *p = (PairCount){pair, 0, NO_PLACES, -1};
    }
    p->count += by;
    places_add(&p->places, &r->pool, position);
    if (p->round == r->round) return;
    p->round = r->round;
    if (r->grown_count == r->grown_capacity) {
        r->grown_capacity = 2 * r->grown_capacity + 64;
        r->grown = xrealloc(r->grown, r->grown_capacity * sizeof *r->grown);
    }
    r->grown[r->grown_count++] = pair;
}

static void push(Trainer *r, const PairCount *p) {
    heap_push(&r->heap, (HeapKey){(uint64_t)INT64_MAX - (uint64_t)p->count, p->pair});
}

/* Ends a round: what grew goes to the heap, once, with its final count. */
static void push_grown(Trainer *r) {
    for (size_t i = 0; i < r->grown_count; i++) {
        const PairCount *p = pair_find(r, r->grown[i]);
        if (p->count > 0) push(r, p);
    }
    r->grown_count = 0;
    r->round++;
}

/* The pair that occurs most often, taken off the heap; NULL: none is left. */
static PairCount *most_frequent(Trainer *r) {
    while (r->heap.count) {
        HeapKey key = r->heap.keys[0];
        PairCount *p = pair_find(r, key.minor);
        heap_pop(&r->heap);
        if (p->count == INT64_MAX - (int64_t)key.major) return p;
        if (p->count > 0) push(r, p);
    }
    return NULL;
}

/* ---- rounds ---- */

static void load_pieces(Trainer *r, const PieceTable *table) {
    size_t positions = 0;
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].length > 1) positions += table->slots[i].length; /* one byte has no pairs */
    r->row = row_allocate(positions);
    r->occurrences = xmalloc(table->used * sizeof *r->occurrences);
    for (size_t i = 0; i < table->size; i++) {
        const PieceCount *piece = &table->slots[i];
        if (piece->length < 2) continue;
        row_link(r->row, r->positions, (uint32_t)piece->length);
        for (size_t k = 0; k < piece->length; k++, r->positions++) {
            r->row[r->positions].symbol = byte_alphabet_order((unsigned char)piece->start[k]);
            r->row[r->positions].note = r->pieces;
        }
        r->occurrences[r->pieces++] = piece->count;
    }
    for (uint32_t i = 0; i < r->positions; i++)
        if (r->row[i].next != NOWHERE)
            pair_grow(r, r->row[i].symbol, r->row[i + 1].symbol, r->occurrences[r->row[i].note], i);
    push_grown(r);
}

/* Replaces left right by the merge's result in all pieces, and counts the neighbours anew. */
static void merge_everywhere(Trainer *r, Merge merge) {
    Cell *row = r->row;
    PairCount *pair = pair_find(r, pair_of(merge.left, merge.right));
    Places places = pair->places;
    pair->places = NO_PLACES; /* no place is added below: every new pair has the longer result in it */
    for (uint32_t at; (at = places_take(&places, &r->pool)) != NOWHERE;) {
        uint32_t next = row[at].next;
        if (row[at].symbol != merge.left || next == NOWHERE || row[next].symbol != merge.right) continue;
        int64_t count = r->occurrences[row[at].note];
        row_merge(row, at, merge.result);
        uint32_t before = row[at].prev, after = row[at].next;
        if (before != NOWHERE) {
            pair_find(r, pair_of(row[before].symbol, merge.left))->count -= count;
            pair_grow(r, row[before].symbol, merge.result, count, before);
        }
        if (after != NOWHERE) {
            pair_find(r, pair_of(merge.right, row[after].symbol))->count -= count;
            pair_grow(r, merge.result, row[after].symbol, count, at);
        }
    }
    pair_find(r, pair_of(merge.left, merge.right))->count = 0; /* the table may have moved */
    push_grown(r);
}

/* ---- the list ---- */

typedef struct {
    Merge *data;
    int32_t count, capacity;
} Merges;

/* Two ways to the same bytes, (ab, c) and (a, bc), share one token; so a pair may come up again that is in
 * the list already, and is not put there twice. */
static Merge note_merge(Merges *merges, Vocabulary *v, uint64_t pair) {
    int32_t left = (int32_t)(pair >> 32), right = (int32_t)pair;
    Str joined = {0};
    str_add(&joined, token_bytes(v, left), token_length(v, left));
    str_add(&joined, token_bytes(v, right), token_length(v, right));
    int32_t result = vocabulary_find(v, joined.data, joined.count);
    for (int32_t i = 0; result >= 0 && i < merges->count; i++)
        if (merges->data[i].left == left && merges->data[i].right == right) {
            str_free(&joined);
            return merges->data[i];
        }
    if (result < 0) result = vocabulary_add(v, joined.data, joined.count, true);
    str_free(&joined);
    if (merges->count == merges->capacity) {
        merges->capacity = 2 * merges->capacity + 256;
        merges->data = xrealloc(merges->data, (size_t)merges->capacity * sizeof *merges->data);
    }
    return merges->data[merges->count++] = (Merge){left, right, result};
}

Tokenizer *tokenizer_train(const char *text, size_t bytes, int vocab_size) {
    CHECK_USAGE(vocab_size >= 257, "256 bytes and " END_OF_TEXT " make 257",
                "a vocabulary of %d tokens is too small", vocab_size);
    Trainer r = {.pool = EMPTY_POOL};
    pairs_resize(&r, 16);
    PieceTable table = pieces_count(text, bytes);
    load_pieces(&r, &table);
    free(table.slots);

    Vocabulary v = {0};
    int byte_at[256];
    for (int byte = 0; byte < 256; byte++) byte_at[byte_alphabet_order(byte)] = byte;
    for (int i = 0; i < 256; i++) vocabulary_add(&v, &(char){(char)byte_at[i]}, 1, true);
    Merges merges = {0};
    const PairCount *pair;
    while (v.count < vocab_size - 1 && (pair = most_frequent(&r)))
        merge_everywhere(&r, note_merge(&merges, &v, pair->pair));
    AddedToken *added = xmalloc(sizeof *added);
    *added = (AddedToken){.id = vocabulary_add(&v, END_OF_TEXT, strlen(END_OF_TEXT), true), .special = true};

    free(r.row);
    free(r.occurrences);
    free(r.pairs);
    free(r.pool.blocks);
    free(r.heap.keys);
    free(r.grown);
    Tokenizer *t = tokenizer_new(v, merges.data, merges.count, added, 1, "the trained tokenizer");
    t->unicode = unicode_version();
    return t;
}
