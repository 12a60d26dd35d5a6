/* rng: random numbers as a function of (seed, stream, index), never of the order of calls.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the key is the seed,
 * the counter is (index, stream), the block of four 32-bit words is the value. So a shard of a weight starts
 * exactly like its slice of the whole, a dropout mask is the same on every mesh and when it is recomputed,
 * and numpy can make the same numbers (tests/reference/philox.py). */
#ifndef RNG_H
#define RNG_H

#include "common/base/base.h"

/* The stream of a purpose: the 64-bit FNV-1a hash of its name, "blocks.0.qkv.weight" for one. */
uint64_t rng_stream(const char *name);

/* Block `index` of a stream: four independent uniform 32-bit words. */
void rng_block(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);
/* Blocks first .. first + count - 1, many at a time in vectors: out[4 count]. */
void rng_blocks(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out);

/* Element `index` of a stream (word index % 4 of block index / 4), uniform in [0, 1) on a grid of 2^-32. */
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/* out[i] = element first + i of the stream: uniform in [low, high). */
void rng_fill_uniform(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, double low, double high,
                      real *out);
/* ... or normal with the given deviation: Box-Muller, in double; words 0 and 1 of a block give its elements 0
 * and 1 (cosine, sine), words 2 and 3 give elements 2 and 3. */
void rng_fill_normal(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, double deviation,
                     real *out);

/* A generator that walks along a stream, for code that draws one number after the other. */
typedef struct {
    uint64_t seed, stream, next;
} Rng;
double rng_next(Rng *rng);                        /* uniform in [0, 1) */
uint32_t rng_below(Rng *rng, uint32_t exclusive); /* uniform in 0 .. exclusive - 1; exclusive > 0 */

#endif
