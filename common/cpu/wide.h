/* wide: how kernels meet elements that may be bf16. All arithmetic is in reals: bf16 is widened on the way in, which is
 * exact, and rounded once on the way out. Of reals nothing is copied. */
#ifndef WIDE_H
#define WIDE_H

#include "common/base/bf16.h"
#include "common/cpu/kernels_cpu.h"

static inline void widen(const Bf16 *x, int64_t count, real *y) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = (real)bf16_to_float(x[i]);
}
static inline void narrow(const real *x, int64_t count, Bf16 *y) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = bf16_from_float((float)x[i]);
}

/* count elements of t, real or bf16, from `first` on: where they lie as reals, which is `buffer` for bf16. */
static inline const real *wide_run(const Tensor *t, int64_t first, int64_t count, real *buffer) {
    if (t->type != TYPE_BF16) return cpu_reals(t) + first;
    widen((const Bf16 *)cpu_data(t) + first, count, buffer);
    return buffer;
}

/* to[i] += element first + i of t. */
static inline void add_run(const Tensor *t, int64_t first, int64_t count, real *to) {
    if (t->type == TYPE_BF16) {
        const Bf16 *x = (const Bf16 *)cpu_data(t) + first;
#pragma omp simd
        for (int64_t i = 0; i < count; i++) to[i] += (real)bf16_to_float(x[i]);
    } else {
        const real *x = cpu_reals(t) + first;
#pragma omp simd
        for (int64_t i = 0; i < count; i++) to[i] += x[i];
    }
}

/* A matrix somewhere in memory, its rows `step` elements apart. */
typedef struct {
    const void *data;
    ElementType type;
    int64_t step;
} Matrix;
/* ... that begins with element `first` of t, or with a real. */
static inline Matrix matrix_in(const Tensor *t, int64_t first, int64_t step) {
    return (Matrix){(const char *)cpu_data(t) + first * element_bytes(t->type), t->type, step};
}
static inline Matrix matrix_at(const real *data, int64_t step) { return (Matrix){data, TYPE_REAL, step}; }

/* ... from element (row,column) on. */
static inline Matrix part_of(const Matrix *m, int64_t row, int64_t column) {
    return (Matrix){(const char *)m->data + (row * m->step + column) * element_bytes(m->type), m->type,
                    m->step};
}

/* rows x columns of a matrix from element (row,column) on, as reals: where they lie, `buffer` (rows,columns) for bf16, and
 * how far apart the rows are there. */
const real *wide_block(const Matrix *m, int64_t row, int64_t column, int64_t rows, int64_t columns,
                       real *buffer, int64_t *step);
/* The way back: rows x columns, rows `from_step` apart, become bf16 in t from element `first` on, with rows `step` apart. */
void narrow_block(const real *from, int64_t from_step, int64_t rows, int64_t columns, Tensor *t,
                  int64_t first, int64_t step);
/* y (N,M) = x (M,N)^T; y is real. */
void wide_transpose(const Queue *q, int64_t M, int64_t N, const Tensor *x, real *y);
/* cpu_gemm for operands of either type: the same bits as that of widened ones. */
void wide_gemm(const Queue *q, bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, real alpha, Matrix A,
               Matrix B, bool add, real *C, int64_t ldc);

#endif
