/* ladder: checks and times every rung of the matrix product (gemm.h) at several sizes: a table
 * and a picture. */
#ifndef LADDER_H
#define LADDER_H

#include "common/base/base.h"

enum { LADDER_SIZES = 16, LADDER_LARGEST = 4096 };
typedef struct {
    int64_t M, N, K;
} GemmSize;

/* Reads "64,1000,5x700x33" (N stands for NxNxN), smallest product first; returns how many. A usage error,
 * exit 2, names the part that is not a size. */
int ladder_parse(const char *text, GemmSize sizes[LADDER_SIZES]);

/* Prints the table and draws <folder>/gemm.png. Each rung is repeated for `seconds`, at least once, and its
 * best time counts. False: some rung gave a wrong result, which the table marks. */
bool ladder_climb(const GemmSize *sizes, int count, double seconds, uint64_t seed, const char *folder);

#endif
