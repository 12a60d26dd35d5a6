/* reduce: sums and maxima over ranks, in rank order. */
#ifndef COMM_REDUCE_H
#define COMM_REDUCE_H

#include "common/comm/comm.h"

/* out[i] = rows[0][i] + rows[1][i] + ... + rows[n-1][i], from left to right (or the maximum; a NaN stays). bf16 is summed in
 * float, and rounded once. out (count) overlaps no row (count). */
void comm_reduce(Reduction reduction, ElementType type, const void *const *rows, int n, void *out,
                 int64_t count);

#endif
