/* gemm: the matrix product C (M,N) = A (M,K) B (K,N), from the definition to a library, as a ladder: each
 * rung changes one thing about the rung below, `idea` says which. Matrices are dense and stored row by row,
 * every size is at least 1, C is overwritten.
 *
 * All rungs give the same sums up to rounding. gemm_check holds a result against double precision and the
 * bound that rounding cannot pass, so that a rung is known to be right before it is timed. */
#ifndef GEMM_H
#define GEMM_H

#include "common/base/base.h"

typedef void GemmFn(int64_t M, int64_t N, int64_t K, const real *A, const real *B, real *C);

typedef struct {
    const char *name, *idea;
    GemmFn *run;
} GemmRung;

enum { GEMM_RUNGS = 5 };
extern const GemmRung gemm_rungs[GEMM_RUNGS]; /* the last one is OpenBLAS */

/* The sums in double precision, and for each the most by which rounding in `real` may move it, in any order
 * of summation: (K + 1) u times the sum of |a b|, u the unit roundoff (Higham, Accuracy and Stability of
 * Numerical Algorithms, 2002, section 3.1). Both (M,N). */
void gemm_reference(int64_t M, int64_t N, int64_t K, const real *A, const real *B, double *C, double *bound);

/* The largest error of C, and the largest error in units of its bound: at most 1 when C is right. A NaN
 * anywhere gives NAN for both. */
typedef struct {
    double error, share_of_bound;
} GemmCheck;
GemmCheck gemm_check(int64_t count, const real *C, const double *reference, const double *bound);

#endif
