/* permutation: a shuffled order as a function. permute(i) over i = 0 .. count - 1 gives each number below
 * `count` exactly once, in an order that the key decides; nothing is stored, so a data set of a billion
 * windows is shuffled anew each epoch for free, and any rank can ask for any place in the order. */
#ifndef PERMUTATION_H
#define PERMUTATION_H

#include "common/base/base.h"

/* index < count <= 2^62; the key is (seed, stream), as in rng.h. */
int64_t permute(int64_t index, int64_t count, uint64_t seed, uint64_t stream);

#endif
