#define _GNU_SOURCE /* memmem */
#include "common/data/piece_count.h"

#include "common/data/pretokenize.h"
#include "common/data/tokenizer.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define CHUNK_BYTES (1 << 20)

/* ---- the table ---- */

static PieceCount *piece_slot(const PieceTable *table, const char *piece, size_t length, uint64_t hash) {
    size_t i = hash & (table->size - 1);
    for (; table->slots[i].length; i = (i + 1) & (table->size - 1)) {
        const PieceCount *slot = &table->slots[i];
        if (slot->hash == hash && slot->length == length && memcmp(slot->start, piece, length) == 0) break;
    }
    return &table->slots[i];
}

static void piece_add(PieceTable *table, PieceCount piece) {
    if (2 * table->used >= table->size) {
        PieceTable larger = {NULL, table->size ? 2 * table->size : 1 << 12, table->used};
        larger.slots = xcalloc(larger.size, sizeof *larger.slots);
        for (size_t i = 0; i < table->size; i++)
            if (table->slots[i].length)
                *piece_slot(&larger, table->slots[i].start, table->slots[i].length, table->slots[i].hash) =
                    table->slots[i];
        free(table->slots);
        *table = larger;
    }
    PieceCount *slot = piece_slot(table, piece.start, piece.length, piece.hash);
    if (slot->length) {
        slot->count += piece.count;
    } else {
        *slot = piece;
        table->used++;
    }
}

/* ---- the text ---- */

/* The first place from `from` on where a cut changes no piece: white space behind a visible ASCII
 * character, as no piece has that inside, what comes before does not look beyond it, and END_OF_TEXT has
 * no white space. */
static size_t safe_cut(const char *text, size_t bytes, size_t from) {
    for (size_t i = from > 1 ? from : 1; i < bytes; i++)
        if ((text[i] == ' ' || text[i] == '\n') && text[i - 1] > ' ' && text[i - 1] < 0x7F) return i;
    return bytes;
}

static void count_chunk(PieceTable *table, Splitter *splitter, const char *text, size_t bytes) {
    const char *end = text + bytes;
    while (text < end) {
        const char *stop = memmem(text, (size_t)(end - text), END_OF_TEXT, strlen(END_OF_TEXT));
        const char *piece;
        size_t length;
        splitter_start(splitter, text, (size_t)((stop ? stop : end) - text));
        while (splitter_next(splitter, &piece, &length))
            piece_add(table, (PieceCount){piece, length, 1, XXH3_64bits(piece, length)});
        text = stop ? stop + strlen(END_OF_TEXT) : end;
    }
}

PieceTable pieces_count(const char *text, size_t bytes) {
    int64_t chunks = ceil_div((int64_t)bytes, CHUNK_BYTES);
    size_t *cut = xcalloc((size_t)chunks + 1, sizeof *cut);
    for (int64_t i = 1; i <= chunks; i++) {
        size_t target = (size_t)i * CHUNK_BYTES;
        cut[i] = i == chunks || target >= bytes ? bytes
                 : cut[i - 1] >= target         ? cut[i - 1]
                                                : safe_cut(text, bytes, target);
    }
    PieceTable total = {0};
#pragma omp parallel
    {
        PieceTable mine = {0};
        Splitter *splitter = splitter_new();
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < chunks; i++) count_chunk(&mine, splitter, text + cut[i], cut[i + 1] - cut[i]);
#pragma omp critical
        {
            if (!total.size) {
                total = mine;
            } else {
                for (size_t i = 0; i < mine.size; i++)
                    if (mine.slots[i].length) piece_add(&total, mine.slots[i]);
                free(mine.slots);
            }
        }
        splitter_free(splitter);
    }
    free(cut);
    return total;
}
