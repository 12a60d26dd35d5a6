#include "common/base/rng.h"

#include "common/base/philox.h"

#include <math.h>

uint64_t rng_stream(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

void rng_block(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]) {
    philox(seed, stream, index, out);
}

void rng_blocks(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) philox(seed, stream, first + (uint64_t)i, out + 4 * i);
}

static double unit(uint32_t word) { return word * 0x1p-32; }

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t block[4];
    rng_block(seed, stream, index / 4, block);
    return unit(block[index % 4]);
}

void rng_fill_uniform(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, double low, double high,
                      real *out) {
#pragma omp parallel for schedule(static)
    for (int64_t block = (int64_t)(first / 4); block < (int64_t)((first + (uint64_t)count + 3) / 4);
         block++) {
        uint32_t words[4];
        rng_block(seed, stream, (uint64_t)block, words);
        for (int lane = 0; lane < 4; lane++) {
            int64_t i = 4 * block + lane - (int64_t)first;
            if (i >= 0 && i < count) out[i] = (real)(low + (high - low) * unit(words[lane]));
        }
    }
}

/* Two words to two normal numbers. 1 - u lies in (0, 1], where the logarithm is finite. */
static void box_muller(uint32_t a, uint32_t b, double deviation, double out[2]) {
    double radius = deviation * sqrt(-2.0 * log(1.0 - unit(a))), angle = 6.283185307179586 * unit(b);
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

void rng_fill_normal(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, double deviation,
                     real *out) {
#pragma omp parallel for schedule(static)
    for (int64_t block = (int64_t)(first / 4); block < (int64_t)((first + (uint64_t)count + 3) / 4);
         block++) {
        uint32_t words[4];
        double normal[4];
        rng_block(seed, stream, (uint64_t)block, words);
        box_muller(words[0], words[1], deviation, normal);
        box_muller(words[2], words[3], deviation, normal + 2);
        for (int lane = 0; lane < 4; lane++) {
            int64_t i = 4 * block + lane - (int64_t)first;
            if (i >= 0 && i < count) out[i] = (real)normal[lane];
        }
    }
}

double rng_next(Rng *rng) { return rng_uniform(rng->seed, rng->stream, rng->next++); }

uint32_t rng_below(Rng *rng, uint32_t exclusive) {
    uint32_t block[4];
    uint64_t index = rng->next++;
    rng_block(rng->seed, rng->stream, index / 4, block);
    return (uint32_t)(((uint64_t)block[index % 4] * exclusive) >> 32); /* bias at most exclusive / 2^32 */
}
