#include "common/data/merge_queue.h"

#include <stdlib.h>

/* ---- the row ---- */

Cell *row_allocate(size_t count) {
    CHECK(count < NOWHERE, "use a part of the text", "%zu bytes are too many to merge at once", count);
    return xmalloc(count * sizeof(Cell));
}

void row_link(Cell *row, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        row[i].prev = i == first ? NOWHERE : i - 1;
        row[i].next = i == first + count - 1 ? NOWHERE : i + 1;
    }
}

/* ---- places ---- */

void places_extend(Places *places, PlacePool *pool) {
    uint32_t block = pool->spare;
    if (block != NOWHERE) {
        pool->spare = pool->blocks[block].next;
    } else {
        if (pool->used == pool->capacity) {
            CHECK(pool->capacity < NOWHERE / 2, "use a part of the text", "more than %u blocks of places",
                  pool->capacity);
            pool->capacity = pool->capacity ? 2 * pool->capacity : 64;
            pool->blocks = xrealloc(pool->blocks, pool->capacity * sizeof *pool->blocks);
        }
        block = pool->used++;
    }
    if (places->first == NOWHERE)
        *places = (Places){.first = block};
    else
        pool->blocks[places->last].next = block;
    places->last = block;
    places->end = 0;
}

static int compare_positions(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Copies all positions of a list to `out` (NULL: only counts them), or from there back into the list. */
static size_t places_copy(const Places *places, PlacePool *pool, uint32_t *out, bool back) {
    size_t count = 0;
    uint32_t block = places->first;
    for (uint32_t i = places->begin; block != places->last || i < places->end; i++) {
        if (i == BLOCK_PLACES) {
            block = pool->blocks[block].next;
            i = 0;
        }
        uint32_t *position = &pool->blocks[block].position[i];
        if (back)
            *position = out[count];
        else if (out)
            out[count] = *position;
        count++;
    }
    return count;
}

void places_sort(Places *places, PlacePool *pool) {
    size_t count = places_copy(places, pool, NULL, false);
    uint32_t *positions = xmalloc(count * sizeof *positions);
    places_copy(places, pool, positions, false);
    qsort(positions, count, sizeof *positions, compare_positions);
    places_copy(places, pool, positions, true);
    places->newest = positions[count - 1];
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
