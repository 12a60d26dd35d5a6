#include "common/base/permutation.h"

#include "common/base/rng.h"

/* A Feistel network (Luby and Rackoff, "How to construct pseudorandom permutations from pseudorandom
 * functions", 1988) permutes the numbers of 2 * half_bits bits: each round is undone by itself run backwards,
 * whatever its round function is. */
enum { ROUNDS = 6 };

static uint64_t feistel(uint64_t x, int half_bits, uint64_t seed, uint64_t stream) {
    uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = x >> half_bits, right = x & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t random[4];
        rng_block(seed, stream, round << 32 | right, random);
        uint64_t mixed = left ^ (random[0] & mask);
        left = right;
        right = mixed;
    }
    return left << half_bits | right;
}

int64_t permute(int64_t index, int64_t count, uint64_t seed, uint64_t stream) {
    ASSERT(0 <= index && index < count && count <= (int64_t)1 << 62);
    int half_bits = 1;
    while ((int64_t)1 << 2 * half_bits < count) half_bits++;
    /* Cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002): what falls outside is
     * permuted again. It comes back inside, at the latest at `index` itself, after fewer than 4 rounds in the
     * mean, as the network is less than 4 times too large (16 numbers at most for a few). */
    uint64_t x = (uint64_t)index;
    do x = feistel(x, half_bits, seed, stream);
    while (x >= (uint64_t)count);
    return (int64_t)x;
}
