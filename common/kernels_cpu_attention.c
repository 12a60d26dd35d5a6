/* Attention on CPUs. A row of qkv is [H queries | K keys | K values], each of D numbers. The pieces of work
 * are (window, key head); inside one, scores are formed for a tile of queries against all keys up to it. */
#include "common/kernels_cpu.h"

#include <math.h>
#include <omp.h>

enum { TILE = 64 }; /* queries per tile */

/* ---- rotary positions ---- */

/* (a, b) of halves i and i + D/2 turn by the angle of (position, i): table row = [cos | sin]. */
void cpu_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
              bool inverse, Tensor *y) {
    int64_t R = tensor_rows(qkv), W = tensor_columns(qkv), T = qkv->shape.size[1], D = W / (H + 2 * K);
    int64_t half = D / 2;
    real sign = inverse ? -1 : 1;
    PARALLEL(q, R * W > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *x = tensor_reals(qkv) + r * W, *c = tensor_reals(table) + (first + r % T) * D,
                   *s = c + half;
        real *out = tensor_reals(y) + r * W;
        for (int64_t head = 0; head < H + K; head++) {
            const real *a = x + head * D, *b = a + half;
            real *out_a = out + head * D, *out_b = out_a + half;
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                out_a[i] = a[i] * c[i] - sign * b[i] * s[i];
                out_b[i] = b[i] * c[i] + sign * a[i] * s[i];
            }
        }
        memcpy(out + (H + K) * D, x + (H + K) * D, (size_t)(K * D) * sizeof(real)); /* values stay */
    }
}

/* ---- causal attention ---- */

int64_t cpu_attention_scratch(const Queue *q, int64_t T, int64_t D) {
    (void)D;
    return q->threads * 2 * TILE * T; /* scores and their gradient, for each thread */
}

static real *thread_scratch(const Tensor *scratch, int64_t T) {
    return tensor_reals(scratch) + omp_get_thread_num() * 2 * TILE * T;
}

void cpu_attention(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                   Tensor *scratch) {
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K);
    int64_t C = H * D, tiles = ceil_div(T, TILE);
    real scale = (real)(1 / sqrt((double)D));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(q->threads)
    for (int64_t bh = 0; bh < B * H; bh++) {
        for (int64_t tile = tiles - 1; tile >= 0; tile--) { /* the longest first: threads end together */
            int64_t b = bh / H, h = bh % H, first = tile * TILE, rows = min64(TILE, T - first),
                    keys = first + rows;
            const real *base = tensor_reals(qkv) + b * T * W, *Q = base + first * W + h * D;
            const real *key = base + (H + h * K / H) * D, *value = key + K * D;
            real *S = thread_scratch(scratch, T);
            cpu_gemm(false, true, rows, keys, D, scale, Q, W, key, W, 0, S, T);
            for (int64_t i = 0; i < rows; i++) {
                int64_t seen = first + i + 1;
                SoftmaxRow row = softmax_row(S + i * T, seen);
                tensor_reals(lse)[(b * T + first + i) * H + h] = row.top + row.log_sum;
                memset(S + i * T + seen, 0, (size_t)(keys - seen) * sizeof(real));
            }
            cpu_gemm(false, false, rows, D, keys, 1, S, T, value, W, 0,
                     tensor_reals(out) + (b * T + first) * C + h * D, C);
        }
    }
}

/* One tile of queries of head h: P = exp(S - lse), dS = P (dP - delta) with delta = dout . out; then the
 * three products that give dQ, dK += and dV +=. */
static void attention_backward_tile(const Tensor *dout, const Tensor *qkv, const Tensor *out,
                                    const Tensor *lse, int64_t H, int64_t K, int64_t b, int64_t h,
                                    int64_t first, Tensor *dqkv, real *P) {
    int64_t T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), C = H * D;
    int64_t rows = min64(TILE, T - first), keys = first + rows;
    int64_t to_q = (b * T + first) * W + h * D, to_k = b * T * W + (H + h * K / H) * D, to_v = to_k + K * D;
    const real *Q = tensor_reals(qkv) + to_q, *key = tensor_reals(qkv) + to_k,
               *value = tensor_reals(qkv) + to_v;
    const real *dO = tensor_reals(dout) + (b * T + first) * C + h * D;
    const real *O = tensor_reals(out) + (b * T + first) * C + h * D;
    real *dS = P + TILE * T, scale = (real)(1 / sqrt((double)D));

    cpu_gemm(false, true, rows, keys, D, scale, Q, W, key, W, 0, P, T);
    cpu_gemm(false, true, rows, keys, D, 1, dO, C, value, W, 0, dS, T);
    for (int64_t i = 0; i < rows; i++) {
        int64_t seen = first + i + 1;
        real *p = P + i * T, *ds = dS + i * T, delta = 0;
        real row_lse = tensor_reals(lse)[(b * T + first + i) * H + h];
#pragma omp simd reduction(+ : delta)
        for (int64_t d = 0; d < D; d++) delta += dO[i * C + d] * O[i * C + d];
#pragma omp simd
        for (int64_t j = 0; j < seen; j++) {
            p[j] = exp_real(p[j] - row_lse);
            ds[j] = p[j] * (ds[j] - delta) * scale;
        }
        memset(p + seen, 0, (size_t)(keys - seen) * sizeof(real));
        memset(ds + seen, 0, (size_t)(keys - seen) * sizeof(real));
    }
    cpu_gemm(false, false, rows, D, keys, 1, dS, T, key, W, 0, tensor_reals(dqkv) + to_q, W);
    cpu_gemm(true, false, keys, D, rows, 1, dS, T, Q, W, 1, tensor_reals(dqkv) + to_k, W);
    cpu_gemm(true, false, keys, D, rows, 1, P, T, dO, C, 1, tensor_reals(dqkv) + to_v, W);
}

void cpu_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                            const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch) {
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K);
#pragma omp parallel for schedule(dynamic) num_threads(q->threads)
    for (int64_t bk = 0; bk < B * K; bk++) {
        int64_t b = bk / K, k = bk % K;
        for (int64_t t = 0; t < T; t++) { /* keys and values gather from many tiles */
            real *row = tensor_reals(dqkv) + (b * T + t) * W + (H + k) * D;
            memset(row, 0, (size_t)D * sizeof(real));
            memset(row + K * D, 0, (size_t)D * sizeof(real));
        }
        for (int64_t h = k * H / K; h < (k + 1) * H / K; h++)
            for (int64_t first = 0; first < T; first += TILE)
                attention_backward_tile(dout, qkv, out, lse, H, K, b, h, first, dqkv,
                                        thread_scratch(scratch, T));
    }
}

/* ---- attention over a cache ---- */

void cpu_attention_cached(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys,
                          Tensor *values, Tensor *out, Tensor *scratch) {
    int64_t fresh = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), KD = K * D, C = H * D;
    int64_t T = keys->shape.size[0];
    const real *x = tensor_reals(qkv);
    real scale = (real)(1 / sqrt((double)D));
    for (int64_t t = 0; t < fresh; t++) {
        memcpy(tensor_reals(keys) + (first + t) * KD, x + t * W + C, (size_t)KD * sizeof(real));
        memcpy(tensor_reals(values) + (first + t) * KD, x + t * W + C + KD, (size_t)KD * sizeof(real));
    }
    PARALLEL(q, fresh * (first + fresh) * C > WORTH)
    for (int64_t th = 0; th < fresh * H; th++) {
        int64_t t = th / H, h = th % H, seen = first + t + 1, at = h * K / H * D;
        real *s = thread_scratch(scratch, T), *o = tensor_reals(out) + t * C + h * D;
        cpu_gemm(false, true, 1, seen, D, scale, x + t * W + h * D, W, tensor_reals(keys) + at, KD, 0, s, T);
        softmax_row(s, seen);
        cpu_gemm(false, false, 1, D, seen, 1, s, T, tensor_reals(values) + at, KD, 0, o, C);
    }
}
