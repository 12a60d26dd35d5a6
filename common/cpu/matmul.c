/* Matrix products on CPUs: single-threaded products inside (cpu/gemm.c), threads over fixed tiles of
 * the result outside. One multi-threaded SGEMM of OpenBLAS gives other bits with other numbers of threads;
 * tiles that depend on the shape alone do not. */
#include "common/cpu/wide.h"

/* Tiles: as many rows as a core's second cache holds of A, DEPTH columns at a time, since each tile lays out its
 * columns of B anew, and few columns; then cut down until there are enough for many cores, unless one would get too
 * small to be efficient. */
enum { TILES = 16, FEW = 8, TALL = 256, TILE_M = 64, TILE_N = 64 };

/* Equal shares of n, of at most `most`, in units of 32. */
static int64_t shares(int64_t n, int64_t most) { return ceil_div(ceil_div(n, ceil_div(n, most)), 32) * 32; }

static void plan_tiles(int64_t M, int64_t N, int64_t *m, int64_t *n) {
    *m = M <= TALL ? M : shares(M, TALL);
    *n = N;
    for (int64_t tiles; (tiles = ceil_div(M, *m) * ceil_div(N, *n)) < TILES;) {
        if (*n >= 2 * TILE_N)
            *n = shares(*n, ceil_div(*n, 2));
        else if (*m >= 4 * TILE_M || (*m >= 2 * TILE_M && tiles < FEW))
            *m = shares(*m, ceil_div(*m, 2));
        else
            break;
    }
}

/* A tile of C with a bias; C is real. */
static void add_bias(const Tensor *bias, int64_t first, int64_t rows, int64_t columns, real *c, int64_t ldc) {
    const real *bias_row = cpu_reals(bias) + first;
    for (int64_t r = 0; r < rows; r++) {
        real *row = c + r * ldc;
#pragma omp simd
        for (int64_t column = 0; column < columns; column++) row[column] += bias_row[column];
    }
}

/* A tile of C that is bf16, summed in reals, and rounded when it is whole. rows: at most TALL. */
static __attribute__((noinline)) void narrow_tile(const Queue *q, bool a_t, bool b_t, int64_t rows,
                                                  int64_t columns, int64_t K, Matrix A, Matrix B,
                                                  const Tensor *bias, Tensor *C, int64_t i, int64_t j,
                                                  bool add) {
    enum { WIDE = 256 };
    real sums[TALL * WIDE];
    int64_t N = tensor_columns(C);
    for (int64_t first = j; first < j + columns; first += WIDE) {
        int64_t count = min64(WIDE, j + columns - first), step;
        Matrix b = part_of(&B, b_t ? first - j : 0, b_t ? 0 : first - j);
        if (add) {
            Matrix before = matrix_in(C, i * N + first, N);
            wide_block(&before, 0, 0, rows, count, sums, &step);
        }
        wide_gemm(q, a_t, b_t, rows, count, K, 1, A, b, add, sums, count);
        if (bias) add_bias(bias, first, rows, count, sums, count);
        narrow_block(sums, count, rows, count, C, i * N + first, N);
    }
}

/* Every tile would transpose its part of B anew: where there are many rows, it is done once. */
int64_t cpu_matmul_scratch(const Queue *q, int64_t M, int64_t N, int64_t K, bool b_t) {
    return b_t && M >= 4 * TILE_M && !q->openblas ? K * N : 0;
}

void cpu_matmul(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias, Tensor *C,
                bool add) {
    int64_t M = tensor_rows(C), N = tensor_columns(C), lda = tensor_columns(A), ldb = tensor_columns(B);
    int64_t K = a_t ? tensor_rows(A) : lda, m, n;
    ASSERT((a_t ? lda : tensor_rows(A)) == M && (b_t ? tensor_rows(B) : ldb) == N &&
           (b_t ? ldb : tensor_rows(B)) == K);
    ASSERT(!bias || (tensor_count(bias) == N && !add));
    if (M == 0 || N == 0) return;
    if (K == 0) { /* sums of nothing */
        if (!add) cpu_zero(q, C);
        if (bias) cpu_any_add_row(q, C, bias, C);
        return;
    }
    Matrix a = matrix_in(A, 0, lda), b = matrix_in(B, 0, ldb);
    Tensor B_t = {0};
    if (cpu_matmul_scratch(q, M, N, K, b_t) > 0) {
        B_t = tensor_new(C->device, MEMORY_ACTIVATIONS, "transposed", TYPE_REAL, SHAPE(K, N));
        wide_transpose(q, N, K, B, cpu_reals(&B_t));
        b_t = false, b = matrix_in(&B_t, 0, N);
    }
    plan_tiles(M, N, &m, &n);
    int64_t tiles_n = ceil_div(N, n), tiles = ceil_div(M, m) * tiles_n;
    Pieces pieces = pieces_new(tiles);
#pragma omp parallel num_threads(q->threads) if (M * N * K > 64 * WORTH)
    for (int64_t turn = 0, tile; (tile = pieces_take(&pieces, &turn)) >= 0;) {
        int64_t i = tile / tiles_n * m, j = tile % tiles_n * n;
        int64_t rows = min64(m, M - i), columns = min64(n, N - j);
        Matrix a_tile = part_of(&a, a_t ? 0 : i, a_t ? i : 0), b_tile = part_of(&b, b_t ? j : 0, b_t ? 0 : j);
        if (C->type == TYPE_BF16) {
            narrow_tile(q, a_t, b_t, rows, columns, K, a_tile, b_tile, bias, C, i, j, add);
            continue;
        }
        real *c = cpu_reals(C) + i * N + j;
        wide_gemm(q, a_t, b_t, rows, columns, K, 1, a_tile, b_tile, add, c, N);
        if (bias) add_bias(bias, j, rows, columns, c, N); /* while the tile is in the cache */
    }
    pieces_free(&pieces);
    if (B_t.data) tensor_free(&B_t);
}

void cpu_sum_rows(Queue *q, const Tensor *x, Tensor *y, bool add) {
    int64_t M = tensor_rows(x), N = tensor_columns(x);
    real *Y = cpu_reals(y);
    PARALLEL(q, M * N > WORTH)
    for (int64_t block = 0; block < ceil_div(N, COLUMN_BLOCK); block++) {
        int64_t c = block * COLUMN_BLOCK, count = min64(COLUMN_BLOCK, N - c);
        real sum[COLUMN_BLOCK] = {0};
        for (int64_t r = 0; r < M; r++) add_run(x, r * N + c, count, sum);
        for (int64_t i = 0; i < count; i++) Y[c + i] = add ? Y[c + i] + sum[i] : sum[i];
    }
}
