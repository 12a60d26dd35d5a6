/* The small matrix product on one thread that every product on a CPU is made of, twice: our own, and OpenBLAS's.
 *
 * Ours keeps a block of C, MR rows by NR columns, in vector registers and adds one outer product after another
 * to it: a column of A, element by element, times a row of B. For this, NR columns of B are laid out row after
 * row in a panel that stays in the first cache; A is read where it lies. (Goto & van de Geijn 2008, without the
 * packing of A.) Each element of C is summed in the order of k, in pieces of DEPTH: where a product is cut
 * into tiles of rows or columns does not change a bit. */
#include "common/kernels_cpu.h"

#include <cblas.h>
#include <limits.h>

/* ---- OpenBLAS ---- */

static void gemm_openblas(bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, const real *A,
                          int64_t lda, const real *B, int64_t ldb, bool add, real *C, int64_t ldc) {
    ASSERT(max64(max64(M, N), max64(K, max64(lda, max64(ldb, ldc)))) <= INT_MAX); /* it counts in int */
#ifdef REAL_DOUBLE
    cblas_dgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans, (int)M,
                (int)N, (int)K, alpha, A, (int)lda, B, (int)ldb, add, C, (int)ldc);
#else
    cblas_sgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans, (int)M,
                (int)N, (int)K, alpha, A, (int)lda, B, (int)ldb, add, C, (int)ldc);
#endif
}

/* ---- our own ---- */

/* The block of C takes MR x VECTORS of the registers, a row of B VECTORS more, an element of A one. */
#if defined __AVX512F__ /* 32 registers */
enum { VECTOR_BYTES = 64, MR = 12, VECTORS = 2 };
#elif defined __AVX__     /* 16 */
enum { VECTOR_BYTES = 32, MR = 6, VECTORS = 2 };
#elif defined __aarch64__ /* 32 */
enum { VECTOR_BYTES = 16, MR = 8, VECTORS = 3 };
#else
enum { VECTOR_BYTES = 16, MR = 6, VECTORS = 2 };
#endif
enum { LANES = VECTOR_BYTES / sizeof(real), NR = VECTORS * LANES, DEPTH = 192, AHEAD = 16 };
typedef real Vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* C (rows,NR) (+)= alpha A B; element (i,k) of A is A[i * to_row + k * to_column], B is (depth,NR). Inlined
 * with `rows` and one stride known, so that `sum` lives in registers. */
static inline __attribute__((always_inline)) void block(const int rows, int64_t depth, real alpha,
                                                        const real *A, int64_t to_row, int64_t to_column,
                                                        const real *B, int64_t ldb, bool add, real *C,
                                                        int64_t ldc) {
    Vector sum[MR][VECTORS] = {0};
    for (int64_t k = 0; k < depth; k++) {
        Vector b[VECTORS];
        for (int j = 0; j < VECTORS; j++) b[j] = *(const Vector *)(B + k * ldb + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            real a = A[i * to_row + k * to_column];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) sum[i][j] += a * b[j];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; j++) {
            Vector *c = (Vector *)(C + i * ldc + j * LANES), before = {0};
            if (add) before = *c;
            *c = before + alpha * sum[i][j];
        }
    }
}

#define ROWS(n)                                                                                              \
    case n:                                                                                                  \
        if (a_t)                                                                                             \
            block(n < MR ? n : MR, depth, alpha, A, 1, lda, B, ldb, add, C, ldc);                            \
        else                                                                                                 \
            block(n < MR ? n : MR, depth, alpha, A, lda, 1, B, ldb, add, C, ldc);                            \
        break;

static void block_of_rows(int64_t rows, bool a_t, int64_t depth, real alpha, const real *A, int64_t lda,
                          const real *B, int64_t ldb, bool add, real *C, int64_t ldc) {
    switch (rows) {
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12)
    }
}

/* The columns of op(B) as a panel (depth,NR), zeros after the last. */
static void pack(bool b_t, int64_t depth, int64_t columns, const real *B, int64_t ldb, real *panel) {
    if (columns < NR) memset(panel, 0, (size_t)(depth * NR) * sizeof(real));
    if (b_t) {
        for (int64_t n = 0; n < columns; n++)
            for (int64_t k = 0; k < depth; k++) panel[k * NR + n] = B[n * ldb + k];
    } else if (columns == NR) { /* its rows lie far apart: asked for before they are needed */
        for (int64_t k = 0; k < depth; k++) {
            __builtin_prefetch(B + min64(k + AHEAD, depth - 1) * ldb);
            for (int j = 0; j < VECTORS; j++)
                *(Vector *)(panel + k * NR + j * LANES) = *(const Vector *)(B + k * ldb + j * LANES);
        }
    } else {
        for (int64_t k = 0; k < depth; k++)
            memcpy(panel + k * NR, B + k * ldb, (size_t)columns * sizeof(real));
    }
}

static void gemm_own(bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, const real *A,
                     int64_t lda, const real *B, int64_t ldb, bool add, real *C, int64_t ldc) {
    _Alignas(VECTOR_BYTES) real panel[DEPTH * NR], edge[MR * NR];
    if (M == 1 && b_t) { /* a row times a matrix whose rows lie along k, as when one token is generated */
        for (int64_t n = 0; n < N; n++) {
            real dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t k = 0; k < K; k++) dot += A[k * (a_t ? lda : 1)] * B[n * ldb + k];
            C[n] = alpha * dot + (add ? C[n] : 0);
        }
        return;
    }
    for (int64_t k = 0; k < K; k += DEPTH) {
        int64_t depth = min64(DEPTH, K - k);
        bool more = add || k > 0;
        for (int64_t j = 0; j < N; j += NR) {
            int64_t columns = min64(NR, N - j), ldp = NR;
            const real *b = b_t ? B + j * ldb + k : B + k * ldb + j, *p = panel;
            bool whole = columns == NR;
            if (!b_t && whole && M <= 8 * MR) /* too few rows for packing to pay */
                p = b, ldp = ldb;
            else
                pack(b_t, depth, columns, b, ldb, panel);
            for (int64_t i = 0; i < M; i += MR) {
                int64_t rows = min64(MR, M - i);
                const real *a = a_t ? A + k * lda + i : A + i * lda + k;
                real *c = C + i * ldc + j;
                if (whole) {
                    block_of_rows(rows, a_t, depth, alpha, a, lda, p, ldp, more, c, ldc);
                    continue;
                }
                block_of_rows(rows, a_t, depth, alpha, a, lda, p, ldp, false, edge, NR);
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t n = 0; n < columns; n++)
                        c[r * ldc + n] = edge[r * NR + n] + (more ? c[r * ldc + n] : 0);
            }
        }
    }
}

void cpu_gemm(const Queue *q, bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, const real *A,
              int64_t lda, const real *B, int64_t ldb, bool add, real *C, int64_t ldc) {
    (q->openblas ? gemm_openblas : gemm_own)(a_t, b_t, M, N, K, alpha, A, lda, B, ldb, add, C, ldc);
}
