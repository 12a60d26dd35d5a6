#include "common/cpu/wide.h"

const real *wide_block(const Matrix *m, int64_t row, int64_t column, int64_t rows, int64_t columns,
                       real *buffer, int64_t *step) {
    int64_t first = row * m->step + column;
    *step = m->step;
    if (m->type != TYPE_BF16) return (const real *)m->data + first;
    for (int64_t r = 0; r < rows; r++)
        widen((const Bf16 *)m->data + first + r * m->step, columns, buffer + r * columns);
    *step = columns;
    return buffer;
}

void narrow_block(const real *from, int64_t from_step, int64_t rows, int64_t columns, Tensor *t,
                  int64_t first, int64_t step) {
    Bf16 *to = (Bf16 *)cpu_data(t) + first;
    for (int64_t r = 0; r < rows; r++) narrow(from + r * from_step, columns, to + r * step);
}

/* In squares that stay in the cache. */
void wide_transpose(const Queue *q, int64_t M, int64_t N, const Tensor *x, real *y) {
    enum { SQUARE = 32 };
    const real *reals = cpu_reals(x);
    const Bf16 *narrow = cpu_data(x);
    bool is_narrow = x->type == TYPE_BF16;
    PARALLEL(q, M * N > WORTH)
    for (int64_t n = 0; n < N; n += SQUARE)
        for (int64_t m = 0; m < M; m += SQUARE)
            for (int64_t j = n; j < min64(n + SQUARE, N); j++) {
                int64_t end = min64(m + SQUARE, M);
                if (is_narrow)
                    for (int64_t i = m; i < end; i++) y[j * M + i] = (real)bf16_to_float(narrow[i * N + j]);
                else
                    for (int64_t i = m; i < end; i++) y[j * M + i] = reals[i * N + j];
            }
}

/* Tiles of widened numbers stay in the second cache. DEPTH is a multiple of that of cpu_gemm, which sums in such pieces. */
enum { SIDE = 256, DEPTH = 192 };

void wide_gemm(const Queue *q, bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, Matrix A,
               Matrix B, bool add, real *C, int64_t ldc) {
    if (A.type != TYPE_BF16 && B.type != TYPE_BF16) {
        cpu_gemm(q, a_t, b_t, M, N, K, alpha, A.data, A.step, B.data, B.step, add, C, ldc);
        return;
    }
    real a_tile[SIDE * DEPTH], b_tile[DEPTH * SIDE];
    for (int64_t i = 0; i < M; i += SIDE)
        for (int64_t k = 0; k < K; k += DEPTH) {
            int64_t rows = min64(SIDE, M - i), depth = min64(DEPTH, K - k), lda, ldb;
            const real *a = a_t ? wide_block(&A, k, i, depth, rows, a_tile, &lda)
                                : wide_block(&A, i, k, rows, depth, a_tile, &lda);
            for (int64_t j = 0; j < N; j += SIDE) {
                int64_t columns = min64(SIDE, N - j);
                const real *b = b_t ? wide_block(&B, j, k, columns, depth, b_tile, &ldb)
                                    : wide_block(&B, k, j, depth, columns, b_tile, &ldb);
                cpu_gemm(q, a_t, b_t, rows, columns, depth, alpha, a, lda, b, ldb, add || k > 0,
                         C + i * ldc + j, ldc);
            }
        }
}
