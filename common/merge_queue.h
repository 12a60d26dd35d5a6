/* merge_queue: what merging needs, in training and in encoding: a row of symbols that gets shorter in place,
 * the places where each pair of neighbours stands, and a heap that says which pair comes next. A piece of n
 * bytes is merged in O(n log n), so a megabyte of one letter costs about as much per byte as prose. */
#ifndef MERGE_QUEUE_H
#define MERGE_QUEUE_H

#include "common/base.h"

#define NOWHERE UINT32_MAX /* no position: beyond an end, or the end of a list */

/* ---- a row of symbols: a doubly linked list over fixed positions ---- */
typedef struct {
    int32_t *symbol; /* -1 where the position was merged into the one before it */
    uint32_t *prev, *next;
} Row;
void row_allocate(Row *row, size_t count);
void row_free(Row *row);
/* Links positions first .. first + count - 1 into a row of its own. */
void row_link(Row *row, uint32_t first, uint32_t count);
/* The symbol at `position` becomes `symbol`, and the one after it disappears. */
static inline void row_merge(Row *row, uint32_t position, int32_t symbol) {
    uint32_t gone = row->next[position], after = row->next[gone];
    row->symbol[position] = symbol;
    row->symbol[gone] = -1;
    row->next[position] = after;
    if (after != NOWHERE) row->prev[after] = position;
}

/* ---- places: the positions of one pair, taken in ascending order; all lists share a pool of nodes ---- */
typedef struct {
    uint32_t first, last;
    bool unsorted;
} Places;
typedef struct {
    struct PlaceNode {
        uint32_t position, next;
    } * nodes;
    uint32_t capacity, spare; /* spare: the first of the nodes that were given back */
} PlacePool;
#define NO_PLACES  ((Places){NOWHERE, NOWHERE, false})
#define EMPTY_POOL ((PlacePool){NULL, 0, NOWHERE})
void places_grow(PlacePool *pool);
void places_sort(Places *places, PlacePool *pool);

/* A position whose pair has changed since stays in the list: who takes it checks the row. */
static inline void places_add(Places *places, PlacePool *pool, uint32_t position) {
    if (pool->spare == NOWHERE) places_grow(pool);
    uint32_t node = pool->spare;
    pool->spare = pool->nodes[node].next;
    pool->nodes[node] = (struct PlaceNode){position, NOWHERE};
    if (places->first == NOWHERE) {
        places->first = node;
    } else {
        places->unsorted |= position < pool->nodes[places->last].position;
        pool->nodes[places->last].next = node;
    }
    places->last = node;
}
/* The lowest position, taken out; NOWHERE from an empty list. */
static inline uint32_t places_take(Places *places, PlacePool *pool) {
    if (places->first == NOWHERE) return NOWHERE;
    if (places->unsorted) places_sort(places, pool);
    uint32_t node = places->first, position = pool->nodes[node].position;
    places->first = pool->nodes[node].next;
    pool->nodes[node].next = pool->spare;
    pool->spare = node;
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
