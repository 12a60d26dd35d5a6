/* piece_count: how often each piece of a text occurs. Training needs nothing else of the text. */
#ifndef PIECE_COUNT_H
#define PIECE_COUNT_H

#include "common/base/base.h"

typedef struct {
    const char *start; /* its first occurrence that was seen, inside the text */
    size_t length;     /* 0: a free slot */
    int64_t count;
    uint64_t hash;
} PieceCount;

typedef struct {
    PieceCount *slots; /* hash table, in no order */
    size_t size, used; /* a power of two; those taken */
} PieceTable;

/* Cuts `text` at END_OF_TEXT and by GPT-2's rule, in parallel; the same counts with any number of threads.
 * free(table.slots) when done. */
PieceTable pieces_count(const char *text, size_t bytes);

#endif
