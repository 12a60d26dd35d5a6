#include "common/data/encoder.h"

#include <pthread.h>
#include <stdlib.h>

struct EncoderPool {
    pthread_mutex_t lock;
    Encoder *idle;
};

EncoderPool *encoder_pool_new(void) {
    EncoderPool *pool = xcalloc(1, sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void encoder_release_long(Encoder *e) {
    free(e->row);
    free(e->pool.blocks);
    free(e->ranks.keys);
    e->row = NULL;
    e->capacity = 0;
    e->pool = EMPTY_POOL;
    e->ranks = (Heap){0};
}

void encoder_pool_free(EncoderPool *pool) {
    for (Encoder *e = pool->idle, *next; e; e = next) {
        next = e->next;
        splitter_free(e->splitter);
        free(e->cache);
        free(e->places);
        encoder_release_long(e);
        free(e);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

Encoder *encoder_take(EncoderPool *pool) {
    pthread_mutex_lock(&pool->lock);
    Encoder *e = pool->idle;
    if (e) pool->idle = e->next;
    pthread_mutex_unlock(&pool->lock);
    if (e) return e;
    e = xcalloc(1, sizeof *e);
    e->splitter = splitter_new();
    e->cache = xcalloc((size_t)1 << CACHE_BITS, sizeof *e->cache);
    e->pool = EMPTY_POOL;
    return e;
}

void encoder_return(EncoderPool *pool, Encoder *e) {
    pthread_mutex_lock(&pool->lock);
    e->next = pool->idle;
    pool->idle = e;
    pthread_mutex_unlock(&pool->lock);
}
