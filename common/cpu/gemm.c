/* The small matrix product on one thread that every product on a CPU is made of, twice: our own, and OpenBLAS's.
 *
 * Ours keeps a block of C, MR rows by NR columns, in vector registers and adds one outer product after another
 * to it: a column of A, element by element, times a row of B. For this, NR columns of B are laid out row after
 * row in a panel that stays in the first cache while block after block of A passes by, itself laid out in the
 * second cache in the order in which it is read (Goto & van de Geijn 2008). Each element of C is summed in the
 * order of k, in pieces of DEPTH: where a product is cut into tiles of rows or columns does not change a bit. */
#include "common/cpu/kernels_cpu.h"

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
enum { LANES = VECTOR_BYTES / sizeof(real), NR = VECTORS * LANES, DEPTH = 192 };
enum { TALL = 256, PANELS = 8 }; /* rows of A, and panels of B, that are laid out at a time */
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

/* One function for each number of rows, of A and of A': each with the registers to itself. */
typedef void Block(int64_t depth, real alpha, const real *A, int64_t lda, const real *B, int64_t ldb,
                   bool add, real *C, int64_t ldc);
#define BLOCK(n)                                                                                             \
    static void block_##n(int64_t depth, real alpha, const real *A, int64_t lda, const real *B, int64_t ldb, \
                          bool add, real *C, int64_t ldc) {                                                  \
        block(n < MR ? n : MR, depth, alpha, A, lda, 1, B, ldb, add, C, ldc);                                \
    }                                                                                                        \
    static void block_##n##_t(int64_t depth, real alpha, const real *A, int64_t lda, const real *B,          \
                              int64_t ldb, bool add, real *C, int64_t ldc) {                                 \
        block(n < MR ? n : MR, depth, alpha, A, 1, lda, B, ldb, add, C, ldc);                                \
    }
#define COUNTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define PAIR(n)   {block_##n, block_##n##_t},
COUNTS(BLOCK)
static Block *const blocks[][2] = {{0}, COUNTS(PAIR)}; /* [rows][a_t] */

/* Packing reads rows that lie far apart, each of a few cache lines, which no prefetcher of a CPU foresees: it asks
 * for rows that come later; into the second cache, since in the first one rows at a stride of some KB push each
 * other out. */
static void prefetch_row(const real *row, int64_t count) {
    enum { LINE = 64 / sizeof(real) };
    for (int64_t i = 0; i < count; i += LINE) __builtin_prefetch(row + i, 0, 2);
}

/* op(A) as a block reads it: of A its rows, (M,depth); of A' MR columns after MR columns, (depth,MR). */
static void pack_a(bool a_t, int64_t M, int64_t depth, const real *A, int64_t lda, real *packed) {
    enum { ROWS_AHEAD = 6, COLUMNS_AHEAD = 20 };
    if (!a_t) {
        for (int64_t i = 0; i < M; i++) {
            prefetch_row(A + min64(i + ROWS_AHEAD, M - 1) * lda, depth);
            memcpy(packed + i * depth, A + i * lda, (size_t)depth * sizeof(real));
        }
        return;
    }
    for (int64_t k = 0; k < depth; k++) {
        const real *row = A + k * lda;
        real *to = packed + k * MR;
        int64_t i = 0;
        prefetch_row(A + min64(k + COLUMNS_AHEAD, depth - 1) * lda, M);
        for (; i + MR <= M; i += MR, to += depth * MR) memcpy(to, row + i, MR * sizeof(real));
        if (i < M) memcpy(to, row + i, (size_t)(M - i) * sizeof(real));
    }
}

/* Columns of op(B) as panels (depth,NR), zeros after the last column. */
static void pack_b(bool b_t, int64_t depth, int64_t columns, const real *B, int64_t ldb, real *panels) {
    enum { AHEAD = 20 };
    int64_t whole = columns / NR, rest = columns % NR;
    if (rest) memset(panels + whole * depth * NR, 0, (size_t)(depth * NR) * sizeof(real));
    if (b_t) {
        for (int64_t n = 0; n < columns; n++) {
            real *to = panels + n / NR * depth * NR + n % NR;
            for (int64_t k = 0; k < depth; k++) to[k * NR] = B[n * ldb + k];
        }
        return;
    }
    for (int64_t k = 0; k < depth; k++) {
        const real *row = B + k * ldb;
        real *to = panels + k * NR;
        prefetch_row(B + min64(k + AHEAD, depth - 1) * ldb, columns);
        for (int64_t panel = 0; panel < whole; panel++, row += NR, to += depth * NR)
            for (int j = 0; j < VECTORS; j++)
                *(Vector *)(to + j * LANES) = *(const Vector *)(row + j * LANES);
        if (rest) memcpy(to, row, (size_t)rest * sizeof(real));
    }
}

/* At most TALL rows of the product. */
static void gemm_own(bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, const real *A,
                     int64_t lda, const real *B, int64_t ldb, bool add, real *C, int64_t ldc) {
    _Alignas(VECTOR_BYTES) real panels[PANELS * DEPTH * NR], packed[(TALL + MR) * DEPTH], edge[MR * NR];
    bool lay_out_a = N >= 12 * NR, lay_out_b = b_t || M > 8 * MR; /* else it is read too few times to pay */
    for (int64_t k = 0; k < K; k += DEPTH) {
        int64_t depth = min64(DEPTH, K - k), to_block = a_t ? 1 : lda, stride = lda;
        const real *a = a_t ? A + k * lda : A + k;
        bool more = add || k > 0;
        if (lay_out_a) {
            pack_a(a_t, M, depth, a, lda, packed);
            a = packed, to_block = depth, stride = a_t ? MR : depth;
        }
        for (int64_t j = 0; j < N; j += NR) {
            int64_t columns = min64(NR, N - j), panel = j / NR % PANELS, ldp = NR;
            const real *b = b_t ? B + j * ldb + k : B + k * ldb + j, *p = panels + panel * depth * NR;
            bool whole = columns == NR;
            if (whole && !lay_out_b)
                p = b, ldp = ldb;
            else if (panel == 0 || !lay_out_b)
                pack_b(b_t, depth, min64(PANELS * NR, N - j), b, ldb, panels + panel * depth * NR);
            for (int64_t i = 0; i < M; i += MR) {
                int64_t rows = min64(MR, M - i);
                real *c = C + i * ldc + j;
                if (whole) {
                    blocks[rows][a_t](depth, alpha, a + i * to_block, stride, p, ldp, more, c, ldc);
                    continue;
                }
                blocks[rows][a_t](depth, alpha, a + i * to_block, stride, p, ldp, false, edge, NR);
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t n = 0; n < columns; n++)
                        c[r * ldc + n] = edge[r * NR + n] + (more ? c[r * ldc + n] : 0);
            }
        }
    }
}

/* A row times a matrix whose rows lie along k, as when one token is generated. */
static void row_times_rows(int64_t N, int64_t K, real alpha, const real *A, const real *B, int64_t ldb,
                           bool add, real *C) {
    for (int64_t n = 0; n < N; n++) {
        real dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t k = 0; k < K; k++) dot += A[k] * B[n * ldb + k];
        C[n] = alpha * dot + (add ? C[n] : 0);
    }
}

void cpu_gemm(const Queue *q, bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, const real *A,
              int64_t lda, const real *B, int64_t ldb, bool add, real *C, int64_t ldc) {
    if (q->openblas)
        gemm_openblas(a_t, b_t, M, N, K, alpha, A, lda, B, ldb, add, C, ldc);
    else if (M == 1 && !a_t && b_t)
        row_times_rows(N, K, alpha, A, B, ldb, add, C);
    else
        for (int64_t i = 0; i < M; i += TALL)
            gemm_own(a_t, b_t, min64(TALL, M - i), N, K, alpha, a_t ? A + i : A + i * lda, lda, B, ldb, add,
                     C + i * ldc, ldc);
}
