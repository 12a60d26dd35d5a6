/* merge_queue: what merging needs, in training and in encoding: a row of symbols that gets shorter in place,
 * the places where each pair of neighbours stands, and a heap that says which pair comes next. A piece of n
 * bytes is merged in O(n log n), so a megabyte of one letter costs about as much per byte as prose. */
#ifndef MERGE_QUEUE_H
#define MERGE_QUEUE_H

#include "common/base/base.h"

#define NOWHERE UINT32_MAX /* no position: beyond an end, or the end of a list */

/* ---- a row of symbols: a doubly linked list over fixed positions, all of a position in one place ---- */
typedef struct {
    int32_t symbol; /* -1 where the position was merged into the one before it */
    uint32_t prev, next;
    uint32_t note; /* the user's */
} Cell;
/* Room for `count` positions; free() it. */
Cell *row_allocate(size_t count);
/* Links positions first .. first + count - 1 into a row of its own. */
void row_link(Cell *row, uint32_t first, uint32_t count);
/* The symbol at `position` becomes `symbol`, and the one after it disappears. */
static inline void row_merge(Cell *row, uint32_t position, int32_t symbol) {
    uint32_t gone = row[position].next, after = row[gone].next;
    row[position].symbol = symbol;
    row[gone].symbol = -1;
    row[position].next = after;
    if (after != NOWHERE) row[after].prev = position;
}

/* ---- places: the positions of one pair, taken in ascending order; all lists share a pool of blocks ---- */
#define BLOCK_PLACES 7
typedef struct {
    uint32_t position[BLOCK_PLACES];
    uint32_t next;
} PlaceBlock;
typedef struct {
    uint32_t first, last; /* blocks; NOWHERE: the list is empty */
    uint32_t newest;      /* position */
    uint8_t begin, end;   /* what is used: from here in the first, up to here in the last */
    bool unsorted;
} Places;
typedef struct {
    PlaceBlock *blocks;
    uint32_t capacity, used; /* blocks; those from `used` on were never taken */
    uint32_t spare;          /* the first of a list of those given back */
} PlacePool;
#define NO_PLACES  ((Places){.first = NOWHERE})
#define EMPTY_POOL ((PlacePool){.spare = NOWHERE})
void places_extend(Places *places, PlacePool *pool); /* by an empty block */
void places_sort(Places *places, PlacePool *pool);

/* A position whose pair has changed since stays in the list: who takes it checks the row. */
static inline void places_add(Places *places, PlacePool *pool, uint32_t position) {
    if (places->first == NOWHERE || places->end == BLOCK_PLACES) places_extend(places, pool);
    pool->blocks[places->last].position[places->end++] = position;
    places->unsorted |= position < places->newest;
    places->newest = position;
}
/* The lowest position, taken out; NOWHERE from an empty list. */
static inline uint32_t places_take(Places *places, PlacePool *pool) {
    if (places->first == NOWHERE) return NOWHERE;
    if (places->unsorted) places_sort(places, pool);
    PlaceBlock *block = &pool->blocks[places->first];
    uint32_t position = block->position[places->begin++];
    bool only = places->first == places->last;
    if (places->begin == (only ? places->end : BLOCK_PLACES)) {
        uint32_t next = only ? NOWHERE : block->next;
        block->next = pool->spare;
        pool->spare = places->first;
        places->first = next;
        places->begin = 0;
    }
    return position;
}

/* ---- a heap: the smallest (major, minor) comes out first ---- */
typedef struct {
    uint64_t major, minor;
} HeapKey;
typedef struct {
    HeapKey *keys;
    size_t count, capacity;
} Heap;
void heap_push(Heap *heap, HeapKey key);
void heap_pop(Heap *heap); /* removes keys[0] */

#endif
