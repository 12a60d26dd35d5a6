#include "common/merge_queue.h"

#include <stdlib.h>

/* ---- the row ---- */

void row_allocate(Row *row, size_t count) {
    CHECK(count < NOWHERE, "use a part of the text", "%zu bytes are too many to merge at once", count);
    row->symbol = xmalloc(count * sizeof *row->symbol);
    row->prev = xmalloc(count * sizeof *row->prev);
    row->next = xmalloc(count * sizeof *row->next);
}

void row_free(Row *row) {
    free(row->symbol);
    free(row->prev);
    free(row->next);
    *row = (Row){0};
}

void row_link(Row *row, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        row->prev[i] = i == first ? NOWHERE : i - 1;
        row->next[i] = i == first + count - 1 ? NOWHERE : i + 1;
    }
}

/* ---- places ---- */

void places_grow(PlacePool *pool) {
    CHECK(pool->capacity < NOWHERE / 2, "use a part of the text", "more than %u places of pairs",
          pool->capacity);
    uint32_t capacity = pool->capacity ? 2 * pool->capacity : 64;
    pool->nodes = xrealloc(pool->nodes, capacity * sizeof *pool->nodes);
    for (uint32_t i = pool->capacity; i < capacity; i++)
        pool->nodes[i].next = i + 1 < capacity ? i + 1 : NOWHERE;
    pool->spare = pool->capacity;
    pool->capacity = capacity;
}

static int compare_positions(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void places_sort(Places *places, PlacePool *pool) {
    size_t count = 0;
    for (uint32_t node = places->first; node != NOWHERE; node = pool->nodes[node].next) count++;
    uint32_t *positions = xmalloc(count * sizeof *positions), i = 0;
    for (uint32_t node = places->first; node != NOWHERE; node = pool->nodes[node].next)
        positions[i++] = pool->nodes[node].position;
    qsort(positions, count, sizeof *positions, compare_positions);
    i = 0;
    for (uint32_t node = places->first; node != NOWHERE; node = pool->nodes[node].next)
        pool->nodes[node].position = positions[i++];
    places->unsorted = false;
    free(positions);
}

/* ---- the heap ---- */

static bool before(HeapKey a, HeapKey b) {
    return a.major != b.major ? a.major < b.major : a.minor < b.minor;
}

void heap_push(Heap *heap, HeapKey key) {
    if (heap->count == heap->capacity) {
        heap->capacity = 2 * heap->capacity + 64;
        heap->keys = xrealloc(heap->keys, heap->capacity * sizeof *heap->keys);
    }
    size_t i = heap->count++;
    for (; i > 0 && before(key, heap->keys[(i - 1) / 2]); i = (i - 1) / 2)
        heap->keys[i] = heap->keys[(i - 1) / 2];
    heap->keys[i] = key;
}

void heap_pop(Heap *heap) {
    HeapKey key = heap->keys[--heap->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < heap->count; i = child) {
        if (child + 1 < heap->count && before(heap->keys[child + 1], heap->keys[child])) child++;
        if (!before(heap->keys[child], key)) break;
        heap->keys[i] = heap->keys[child];
    }
    heap->keys[i] = key;
}
