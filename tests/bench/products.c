#include "tests/bench/products.h"

#include "common/cpu/device_cpu.h"
#include "common/cpu/kernels_cpu.h"

#include <stdlib.h>

/* ---- recording: the device gets a copy of its table in which three functions note their call ---- */

static const Kernels *real_kernels;
static Kernels recording_kernels;
static Products *recorded;

static void append(Product product) {
    if (recorded->count == recorded->capacity) {
        recorded->capacity = 2 * recorded->capacity + 64;
        recorded->items = xrealloc(recorded->items, (size_t)recorded->capacity * sizeof *recorded->items);
    }
    recorded->items[recorded->count++] = product;
}

static void note_matmul(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias,
                        Tensor *C, bool add) {
    Product product = {.kind = PRODUCT_MATMUL, .A = *A, .B = *B, .C = *C, .a_t = a_t, .b_t = b_t, .add = add};
    if (bias) product.bias = *bias, product.has_bias = true;
    append(product);
    real_kernels->matmul(q, A, a_t, B, b_t, bias, C, add);
}

static void note_attention(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                           Tensor *scratch) {
    append((Product){.kind = PRODUCT_ATTENTION, .A = *qkv, .C = *out, .H = H, .K = K});
    real_kernels->attention(q, qkv, H, K, out, lse, scratch);
}

static void note_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                                    const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch) {
    append((Product){.kind = PRODUCT_ATTENTION_BACKWARD, .A = *qkv, .B = *dqkv, .C = *dout, .H = H, .K = K});
    real_kernels->attention_backward(q, dout, qkv, out, lse, H, K, dqkv, scratch);
}

static void note_head_loss(Queue *q, const Tensor *x, const Tensor *w, const Tensor *bias,
                           const Tensor *targets, int64_t first_row, Tensor *dx, Tensor *dw, Tensor *dbias,
                           bool add, Tensor *loss, Tensor *scratch) {
    Product product = {.kind = PRODUCT_HEAD, .A = *x, .B = *w, .C = *scratch, .add = add};
    if (bias) product.bias = *bias, product.has_bias = true;
    if (dx) product.dx = *dx, product.dw = *dw;
    append(product);
    real_kernels->head_loss(q, x, w, bias, targets, first_row, dx, dw, dbias, add, loss, scratch);
}

void products_record(Device *device, Products *list) {
    if (list) {
        real_kernels = device->kernels;
        recording_kernels = *real_kernels;
        recording_kernels.matmul = note_matmul;
        recording_kernels.head_loss = note_head_loss;
        recording_kernels.attention = note_attention;
        recording_kernels.attention_backward = note_attention_backward;
    }
    recorded = list;
    device->kernels = list ? &recording_kernels : real_kernels;
}

void products_free(Products *list) {
    free(list->items);
    *list = (Products){0};
}

/* ---- running again ---- */

enum { TILE = 32 }; /* queries against all keys up to the last of them */

/* The products of one tile of queries of head h in window b; S and dS stand for the transposed scores and their
 * gradient. */
static void attention_tile(const Queue *q, const Product *p, int64_t b, int64_t h, int64_t first, bool add,
                           real *S, real *dS) {
    int64_t T = p->A.shape.size[1], W = tensor_columns(&p->A), D = W / (p->H + 2 * p->K), C = p->H * D;
    int64_t rows = min64(TILE, T - first), keys = first + rows;
    int64_t to_q = (b * T + first) * W + h * D, to_k = b * T * W + (p->H + h * p->K / p->H) * D,
            to_v = to_k + p->K * D;
    const real *x = cpu_reals(&p->A);
    real *c = cpu_reals(&p->C) + (b * T + first) * C + h * D;
    cpu_gemm(q, false, true, keys, rows, D, 1, x + to_k, W, x + to_q, W, false, S, TILE);
    if (p->kind == PRODUCT_ATTENTION) {
        cpu_gemm(q, true, false, rows, D, keys, 1, S, TILE, x + to_v, W, false, c, C);
        return;
    }
    real *dqkv = cpu_reals(&p->B);
    cpu_gemm(q, false, true, keys, rows, D, 1, x + to_v, W, c, C, false, dS, TILE);
    cpu_gemm(q, true, false, rows, D, keys, 1, dS, TILE, x + to_k, W, false, dqkv + to_q, W);
    cpu_gemm(q, false, false, keys, D, rows, 1, dS, TILE, x + to_q, W, add, dqkv + to_k, W);
    cpu_gemm(q, false, false, keys, D, rows, 1, S, TILE, c, C, add, dqkv + to_v, W);
}

static void attention_products(Device *device, const Product *p) {
    int64_t B = p->A.shape.size[0], T = p->A.shape.size[1];
    size_t bytes = (size_t)(TILE * T) * sizeof(real);
#pragma omp parallel num_threads(device->queue.threads)
    {
        real *S = xcalloc(1, bytes), *dS = xcalloc(1, bytes);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t b = 0; b < B; b++)
            for (int64_t k = 0; k < p->K; k++) /* heads that share a key add to its gradient: one thread */
                for (int64_t h = k * p->H / p->K; h < (k + 1) * p->H / p->K; h++)
                    for (int64_t first = (ceil_div(T, TILE) - 1) * TILE; first >= 0; first -= TILE)
                        attention_tile(&device->queue, p, b, h, first, first + TILE < T, S, dS);
        free(S);
        free(dS);
    }
}

enum { WORDS = 192 }; /* of the vocabulary at a time: their logits stay in a core's cache */

/* Logits of some rows, (WORDS,R) at a time, and the two products of their gradient: no logit ever goes to memory, as
 * none would have to if softmax did not need the sum over all of them. */
static void head_products(Device *device, const Product *p) {
    int64_t R = tensor_rows(&p->A), C = tensor_columns(&p->A), V = tensor_rows(&p->B);
    const real *x = cpu_reals(&p->A), *w = cpu_reals(&p->B);
    const Queue *q = &device->queue;
    real *x_t = xcalloc((size_t)(C * R), sizeof *x_t);
    for (int64_t i = 0; i < C * R; i++) x_t[i] = x[i % R * C + i / R];
#pragma omp parallel num_threads(q->threads)
    {
        real *S = xcalloc((size_t)(WORDS * R), sizeof *S), *dx = xcalloc((size_t)(R * C), sizeof *dx);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < V; first += WORDS) {
            int64_t words = min64(WORDS, V - first);
            cpu_gemm(q, false, false, words, R, C, 1, w + first * C, C, x_t, R, false, S, R);
            if (!p->dx.data) continue;
            cpu_gemm(q, true, false, R, C, words, 1, S, R, w + first * C, C, true, dx, C);
            cpu_gemm(q, false, false, words, C, R, 1, S, R, x, C, p->add, cpu_reals(&p->dw) + first * C, C);
        }
        free(S);
        free(dx);
    }
    free(x_t);
}

void product_run(Device *device, const Product *product) {
    Product p = *product;
    if (p.kind == PRODUCT_MATMUL)
        device->kernels->matmul(&device->queue, &p.A, p.a_t, &p.B, p.b_t, p.has_bias ? &p.bias : NULL, &p.C,
                                p.add);
    else if (p.kind == PRODUCT_HEAD)
        head_products(device, &p);
    else
        attention_products(device, &p);
}

/* ---- sizes ---- */

ProductSize product_size(const Product *p) {
    if (p->kind == PRODUCT_HEAD)
        return (ProductSize){tensor_rows(&p->A), tensor_rows(&p->B), tensor_columns(&p->A)};
    return (ProductSize){tensor_rows(&p->C), tensor_columns(&p->C),
                         p->a_t ? tensor_rows(&p->A) : tensor_columns(&p->A)};
}

double product_flops(const Product *p) {
    if (p->kind == PRODUCT_MATMUL) {
        ProductSize size = product_size(p);
        return 2.0 * (double)size.M * (double)size.N * (double)size.K;
    }
    if (p->kind == PRODUCT_HEAD)
        return (p->dx.data ? 6.0 : 2.0) * (double)(tensor_rows(&p->A) * tensor_count(&p->B));
    double B = (double)p->A.shape.size[0], T = (double)p->A.shape.size[1];
    int64_t D = tensor_columns(&p->A) / (p->H + 2 * p->K);
    return (p->kind == PRODUCT_ATTENTION ? 2 : 5) * B * T * T * (double)(p->H * D);
}
