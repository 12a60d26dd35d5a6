#include "chapters/01_autograd/gemm.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- 1. the definition: each element is a row of A times a column of B ---- */

static void gemm_naive(int64_t M, int64_t N, int64_t K, const real *A, const real *B, real *C) {
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            real sum = 0;
            for (int64_t k = 0; k < K; k++) sum += A[i * K + k] * B[k * N + j]; /* B: N elements apart */
            C[i * N + j] = sum;
        }
}

/* ---- 2. the loops in another order: the inner one runs along rows of B and C, so it is vector code ---- */

static void row_of_c(int64_t N, int64_t K, const real *a, const real *B, real *c) {
    memset(c, 0, (size_t)N * sizeof(real));
    for (int64_t k = 0; k < K; k++) {
#pragma omp simd
        for (int64_t j = 0; j < N; j++) c[j] += a[k] * B[k * N + j];
    }
}

static void gemm_reordered(int64_t M, int64_t N, int64_t K, const real *A, const real *B, real *C) {
    for (int64_t i = 0; i < M; i++) row_of_c(N, K, A + i * K, B, C + i * N);
}

/* ---- 3. rows of C on all threads ---- */

static void gemm_openmp(int64_t M, int64_t N, int64_t K, const real *A, const real *B, real *C) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < M; i++) row_of_c(N, K, A + i * K, B, C + i * N);
}

/* ---- 4. blocks for each level of memory ----
 *
 * A tile of C, TILE_M x TILE_N, stays in registers while it runs down a stretch of K: each element that is
 * loaded is used TILE_M or TILE_N times. The stretch is BLOCK_K long, so that the slice of B that a tile
 * reads (BLOCK_K x TILE_N) stays in the first-level cache; BLOCK_M rows of A stay in the second, BLOCK_N
 * columns of B in the third. Both are copied into panels first, in the order in which the tiles read them,
 * short ones filled up with zeros (Goto & van de Geijn, Anatomy of high-performance matrix multiplication,
 * 2008; the names of the loops are those of BLIS). */

/* A tile fills most of the vector registers: 32 of 64 bytes (AVX-512), 16 of 32 (AVX), 32 of 16 (NEON), 16
 * of 16. */
#if defined __AVX512F__
enum { VECTOR_BYTES = 64, TILE_M = 12 };
#elif defined __AVX__
enum { VECTOR_BYTES = 32, TILE_M = 6 };
#elif defined __ARM_NEON
enum { VECTOR_BYTES = 16, TILE_M = 12 };
#else
enum { VECTOR_BYTES = 16, TILE_M = 6 };
#endif
typedef real Vector __attribute__((vector_size(VECTOR_BYTES)));
enum {
    TILE_N = 2 * VECTOR_BYTES / (int)sizeof(real), /* two vectors */
    BLOCK_K = 256,
    BLOCK_M = 96 / TILE_M * TILE_M, /* whole tiles */
    BLOCK_N = 4096 / TILE_N * TILE_N
};

/* C (rows,columns) (+)= a panel of A (k,TILE_M) times a panel of B (k,TILE_N). */
static void tile(int64_t k, const real *a, const Vector *b, real *C, int64_t N, int64_t rows, int64_t columns,
                 bool add) {
    Vector sum[TILE_M][2] = {0};
    for (; k > 0; k--, a += TILE_M, b += 2) {
#pragma GCC unroll 12
        for (int i = 0; i < TILE_M; i++) {
            sum[i][0] += a[i] * b[0];
            sum[i][1] += a[i] * b[1];
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        const real *from = (const real *)sum[i];
        for (int64_t j = 0; j < columns; j++) C[i * N + j] = add ? C[i * N + j] + from[j] : from[j];
    }
}

/* The panel of `width` rows of A, or columns of B, from `from` on: (K, width) in order, zeros beyond `count`.
 * Element (k, i) stands at from[k * step_k + i * step_i]. */
static void pack(int64_t K, int64_t count, int64_t width, const real *from, int64_t step_k, int64_t step_i,
                 real *panel) {
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < width; i++) *panel++ = i < count ? from[k * step_k + i * step_i] : 0;
}

static real *panels_new(int64_t count) {
    real *panels = aligned_alloc(64, (size_t)ceil_div(count * (int64_t)sizeof(real), 64) * 64);
    CHECK(panels, "choose smaller --gemm-sizes", "no memory for %lld elements", (long long)count);
    return panels;
}

static void gemm_blocked(int64_t M, int64_t N, int64_t K, const real *A, const real *B, real *C) {
    int64_t row_blocks = ceil_div(M, BLOCK_M);
    real *b = panels_new(BLOCK_K * BLOCK_N);
#pragma omp parallel
    {
        real *a = panels_new(BLOCK_K * BLOCK_M); /* each thread's own */
        for (int64_t column = 0; column < N; column += BLOCK_N)
            for (int64_t inner = 0; inner < K; inner += BLOCK_K) {
                int64_t n = min64(BLOCK_N, N - column), k = min64(BLOCK_K, K - inner);
#pragma omp for schedule(static)
                for (int64_t j = 0; j < n; j += TILE_N)
                    pack(k, n - j, TILE_N, B + inner * N + column + j, N, 1, b + j * k);
#pragma omp for schedule(dynamic)
                for (int64_t block = 0; block < row_blocks; block++) {
                    int64_t row = block * BLOCK_M, m = min64(BLOCK_M, M - row);
                    for (int64_t i = 0; i < m; i += TILE_M)
                        pack(k, m - i, TILE_M, A + (row + i) * K + inner, 1, K, a + i * k);
                    for (int64_t j = 0; j < n; j += TILE_N)
                        for (int64_t i = 0; i < m; i += TILE_M)
                            tile(k, a + i * k, (const Vector *)(b + j * k), C + (row + i) * N + column + j, N,
                                 min64(TILE_M, m - i), min64(TILE_N, n - j), inner > 0);
                }
            }
        free(a);
    }
    free(b);
}

/* ---- 5. the library ---- */

static void gemm_openblas(int64_t M, int64_t N, int64_t K, const real *A, const real *B, real *C) {
    int before = openblas_get_num_threads();
    openblas_set_num_threads(omp_get_max_threads());
#ifdef REAL_DOUBLE
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)M, (int)N, (int)K, 1, A, (int)K, B, (int)N, 0,
                C, (int)N);
#else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)M, (int)N, (int)K, 1, A, (int)K, B, (int)N, 0,
                C, (int)N);
#endif
    openblas_set_num_threads(before);
}

const GemmRung gemm_rungs[GEMM_RUNGS] = {
    {"naive", "the definition, on one thread", gemm_naive},
    {"reordered", "the inner loop runs along rows: vector code", gemm_reordered},
    {"OpenMP", "the rows of C on all threads", gemm_openmp},
    {"blocked", "tiles in registers, panels in the caches", gemm_blocked},
    {"OpenBLAS", "a library, with kernels written for this CPU", gemm_openblas},
};

/* ---- the check ---- */

void gemm_reference(int64_t M, int64_t N, int64_t K, const real *A, const real *B, double *C, double *bound) {
    double unit = (sizeof(real) == sizeof(float) ? (double)FLT_EPSILON : DBL_EPSILON) / 2;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < M; i++) {
        double *sum = C + i * N, *size = bound + i * N;
        memset(sum, 0, (size_t)N * sizeof(double));
        memset(size, 0, (size_t)N * sizeof(double));
        for (int64_t k = 0; k < K; k++) {
            double a = A[i * K + k];
#pragma omp simd
            for (int64_t j = 0; j < N; j++) {
                double product = a * B[k * N + j];
                sum[j] += product;
                size[j] += fabs(product);
            }
        }
        for (int64_t j = 0; j < N; j++) size[j] *= (double)(K + 1) * unit;
    }
}

GemmCheck gemm_check(int64_t count, const real *C, const double *reference, const double *bound) {
    GemmCheck check = {0, 0};
    for (int64_t i = 0; i < count; i++) {
        double error = fabs(C[i] - reference[i]),
               share = error > 0 ? error / bound[i] : error; /* NAN stays NAN */
        if (isnan(error)) return (GemmCheck){NAN, NAN};
        check.error = fmax(check.error, error);
        check.share_of_bound = fmax(check.share_of_bound, share);
    }
    return check;
}
