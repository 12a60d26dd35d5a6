/* Kernels that treat each element, or each row, by itself. */
#include "common/cpu/wide.h"

#include "common/base/rng.h"

#include <stdlib.h>

/* for every element i below count: */
#define EACH(q, count)                                                                                         \
    OMP_PRAGMA(omp parallel for simd schedule(static) num_threads((q)->threads) if (parallel : count > WORTH)) \
    for (int64_t i = 0; i < count; i++)

/* y[i] (+)= value, which speaks of i: two loops, so that neither asks in its middle */
#define EACH_ADDED(q, count, add, y, value)                                                                  \
    if (add)                                                                                                 \
        EACH(q, count)(y)[i] += (value);                                                                     \
    else                                                                                                     \
        EACH(q, count)(y)[i] = (value)

/* ---- memory ---- */

enum { PIECE = WORTH * sizeof(real) }; /* bytes */

void cpu_zero(Queue *q, Tensor *y) {
    int64_t bytes = tensor_bytes(y);
    PARALLEL(q, bytes > PIECE)
    for (int64_t at = 0; at < bytes; at += PIECE)
        memset((char *)cpu_data(y) + at, 0, (size_t)min64(PIECE, bytes - at));
}

void cpu_copy(Queue *q, const Tensor *x, Tensor *y) {
    int64_t bytes = tensor_bytes(x);
    ASSERT(bytes == tensor_bytes(y));
    PARALLEL(q, bytes > PIECE)
    for (int64_t at = 0; at < bytes; at += PIECE)
        memcpy((char *)cpu_data(y) + at, (const char *)cpu_data(x) + at, (size_t)min64(PIECE, bytes - at));
}

void cpu_add(Queue *q, const Tensor *a, const Tensor *b, Tensor *y) {
    const real *A = cpu_reals(a), *B = cpu_reals(b);
    real *Y = cpu_reals(y);
    int64_t count = tensor_count(y);
    EACH(q, count) Y[i] = A[i] + B[i];
}

void cpu_accumulate(Queue *q, const Tensor *x, Tensor *y) {
    const real *X = cpu_reals(x);
    real *Y = cpu_reals(y);
    int64_t count = tensor_count(y);
    EACH(q, count) Y[i] += X[i];
}

void cpu_add_row(Queue *q, const Tensor *x, const Tensor *row, Tensor *y) {
    int64_t R = tensor_rows(y), N = tensor_columns(y);
    const real *ROW = cpu_reals(row);
    PARALLEL(q, R * N > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *X = cpu_reals(x) + r * N;
        real *Y = cpu_reals(y) + r * N;
#pragma omp simd
        for (int64_t i = 0; i < N; i++) Y[i] = X[i] + ROW[i];
    }
}

static void *element_at(const Tensor *t, int64_t i) {
    return (char *)cpu_data(t) + i * element_bytes(t->type);
}
static void add_reals(const real *x, int64_t count, real *y) {
    for (int64_t i = 0; i < count; i++) y[i] += x[i];
}
static void add_bf16(const Bf16 *x, int64_t count, Bf16 *y) {
    for (int64_t i = 0; i < count; i++) y[i] = bf16_from_float(bf16_to_float(y[i]) + bf16_to_float(x[i]));
}

void cpu_copy_slice(Queue *q, const Tensor *x, int64_t x_first, Tensor *y, int64_t y_first, int axis,
                    int64_t count, bool add_to) {
    int64_t outer = 1, inner = 1; /* elements in front of the axis and behind it */
    for (int i = 0; i < axis; i++) outer *= y->shape.size[i];
    for (int i = axis + 1; i < y->shape.rank; i++) inner *= y->shape.size[i];
    int64_t block = count * inner, x_step = x->shape.size[axis] * inner, y_step = y->shape.size[axis] * inner;
    ASSERT(x->type == y->type);
    PARALLEL(q, outer * block > WORTH)
    for (int64_t o = 0; o < outer; o++) {
        const void *from = element_at(x, x_first * inner + o * x_step);
        void *to = element_at(y, y_first * inner + o * y_step);
        if (!add_to)
            memcpy(to, from, (size_t)(block * element_bytes(y->type)));
        else if (y->type == TYPE_BF16)
            add_bf16(from, block, to);
        else
            add_reals(from, block, to);
    }
}

void cpu_scale(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add_to) {
    const real *X = cpu_reals(x), S = cpu_reals(s)[0];
    real *Y = cpu_reals(y);
    int64_t count = tensor_count(y);
    EACH_ADDED(q, count, add_to, Y, S * X[i]);
}

/* ---- activations ---- */

void cpu_relu(Queue *q, const Tensor *x, Tensor *y) {
    const real *X = cpu_reals(x);
    real *Y = cpu_reals(y);
    int64_t count = tensor_count(y);
    EACH(q, count) Y[i] = X[i] < 0 ? 0 : X[i]; /* so that a NaN stays one */
}

void cpu_relu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add_to) {
    const real *X = cpu_reals(x), *DY = cpu_reals(dy);
    real *DX = cpu_reals(dx);
    int64_t count = tensor_count(x);
    EACH_ADDED(q, count, add_to, DX, X[i] > 0 ? DY[i] : 0);
}

static inline real sigmoid(real x) { return 1 / (1 + exp_real(-x)); }

/* 0.5 (1 + tanh u) = sigmoid(2u), 2u = GELU_A x + GELU_B x^3: sqrt(8 / pi), and 0.044715 times that */
#define GELU_A ((real)1.5957691216057308)
#define GELU_B ((real)0.07135481627260025)

static inline real gelu_gate(real x) { return sigmoid(x * (GELU_A + GELU_B * (x * x))); }

static inline real gelu_slope(real x) {
    real s = gelu_gate(x);
    return s + s * (1 - s) * x * (GELU_A + 3 * GELU_B * (x * x));
}

void cpu_gelu(Queue *q, const Tensor *x, Tensor *y) {
    const real *X = cpu_reals(x);
    real *Y = cpu_reals(y);
    int64_t count = tensor_count(y);
    EACH(q, count) Y[i] = X[i] * gelu_gate(X[i]);
}

void cpu_gelu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add_to) {
    const real *X = cpu_reals(x), *DY = cpu_reals(dy);
    real *DX = cpu_reals(dx);
    int64_t count = tensor_count(x);
    EACH_ADDED(q, count, add_to, DX, DY[i] * gelu_slope(X[i]));
}

void cpu_swiglu(Queue *q, const Tensor *x, Tensor *y) {
    int64_t R = tensor_rows(y), F = tensor_columns(y);
    PARALLEL(q, R * F > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *gate = cpu_reals(x) + r * 2 * F, *up = gate + F;
        real *Y = cpu_reals(y) + r * F;
#pragma omp simd
        for (int64_t f = 0; f < F; f++) Y[f] = gate[f] * sigmoid(gate[f]) * up[f];
    }
}

/* Inlined twice, with `add` known: neither loop asks in its middle. */
static inline __attribute__((always_inline)) void swiglu_backward_row(bool add_to, int64_t F, const real *DY,
                                                                      const real *gate, const real *up,
                                                                      real *dgate, real *dup) {
#pragma omp simd
    for (int64_t f = 0; f < F; f++) {
        real s = sigmoid(gate[f]);
        real g = DY[f] * up[f] * (s + gate[f] * s * (1 - s)), u = DY[f] * gate[f] * s;
        dgate[f] = add_to ? dgate[f] + g : g;
        dup[f] = add_to ? dup[f] + u : u;
    }
}

void cpu_swiglu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add_to) {
    int64_t R = tensor_rows(dy), F = tensor_columns(dy);
    PARALLEL(q, R * F > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *gate = cpu_reals(x) + r * 2 * F, *DY = cpu_reals(dy) + r * F;
        real *dgate = cpu_reals(dx) + r * 2 * F;
        if (add_to)
            swiglu_backward_row(true, F, DY, gate, gate + F, dgate, dgate + F);
        else
            swiglu_backward_row(false, F, DY, gate, gate + F, dgate, dgate + F);
    }
}

/* Of elements that follow each other in the stream. */
static void dropout_run(const Queue *q, int64_t count, const real *X, double rate, uint64_t seed,
                        uint64_t stream, int64_t first, real *Y, bool add_to) {
    enum { BLOCKS = 64 };
    const real grow = (real)(1 / (1 - rate));
    uint64_t threshold = (uint64_t)(rate * 0x1p32);
    PARALLEL(q, count > WORTH)
    for (int64_t block = first / 4; block < ceil_div(first + count, 4); block += BLOCKS) {
        uint32_t words[4 * BLOCKS];
        rng_blocks(seed, stream, (uint64_t)block, BLOCKS, words);
        int64_t begin = max64(4 * block - first, 0), end = min64(4 * (block + BLOCKS) - first, count);
        const uint32_t *word = words + begin - (4 * block - first);
#pragma omp simd
        for (int64_t i = begin; i < end; i++) {
            real kept = word[i - begin] >= threshold ? X[i] * grow : 0;
            Y[i] = add_to ? Y[i] + kept : kept;
        }
    }
}

void cpu_dropout(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first,
                 int64_t window, Tensor *y, bool add_to) {
    int64_t runs = window ? x->shape.size[0] : 1, count = tensor_count(x) / max64(runs, 1);
    for (int64_t run = 0; run < runs; run++)
        dropout_run(q, count, cpu_reals(x) + run * count, rate, seed, stream, first + run * window,
                    cpu_reals(y) + run * count, add_to);
}
