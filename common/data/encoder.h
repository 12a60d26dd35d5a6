/* encoder: what a thread needs while it encodes, handed from call to call. */
#ifndef ENCODER_H
#define ENCODER_H

#include "common/data/merge_queue.h"
#include "common/data/pretokenize.h"

/* Words come again and again: the cache holds the tokens of a piece, one cache line an entry, and a new piece
 * takes the place of the old one, so that no text makes it grow. */
#define CACHE_BITS   15
#define CACHE_BYTES  22
#define CACHE_TOKENS 10
typedef struct {
    uint8_t bytes, tokens; /* 0 bytes: empty */
    char piece[CACHE_BYTES];
    int32_t token[CACHE_TOKENS];
} CacheEntry;

typedef struct Encoder Encoder;
struct Encoder {
    Splitter *splitter;
    CacheEntry *cache;

    /* of long pieces */
    Cell *row; /* note: the rank of the merge of a position and the next one, or NO_MERGE */
    size_t capacity;
    PlacePool pool;
    Places *places; /* per rank; all empty between pieces */
    Heap ranks;     /* those with places */

    Encoder *next; /* idle */
};

typedef struct EncoderPool EncoderPool;
EncoderPool *encoder_pool_new(void);
void encoder_pool_free(EncoderPool *pool);
/* An idle one, or a new one, for the calling thread; it gives it back. Thread-safe. */
Encoder *encoder_take(EncoderPool *pool);
void encoder_return(EncoderPool *pool, Encoder *encoder);
/* Gives back what a long piece needed. */
void encoder_release_long(Encoder *encoder);

#endif
