/* Attention on CPUs. A row of qkv is [H queries | K keys | K values], each of D numbers. The pieces of work
 * are (window, key head); inside one, scores are formed for a tile of queries against all keys up to it. */
#include "common/cpu/kernels_cpu.h"

#include <math.h>
#include <omp.h>

enum { TILE = 32 }; /* queries per tile */

/* ---- rotary positions ---- */

/* (a, b) of halves i and i + D/2 turn by the angle of (position, i): table row = [cos | sin]. */
void cpu_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
              bool inverse, Tensor *y) {
    int64_t R = tensor_rows(qkv), W = tensor_columns(qkv), T = qkv->shape.size[1], D = W / (H + 2 * K);
    int64_t half = D / 2;
    real sign = inverse ? -1 : 1;
    PARALLEL(q, R * W > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *x = cpu_reals(qkv) + r * W, *c = cpu_reals(table) + (first + r % T) * D, *s = c + half;
        real *out = cpu_reals(y) + r * W;
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

/* Scores stand transposed, (keys,TILE): a row holds what one key is to each query of the tile. So softmax
 * works on whole vectors of queries, and no product has to transpose anything but a tile's queries. */

int64_t cpu_attention_scratch(const Queue *q, int64_t T, int64_t D) {
    (void)D;
    return q->threads * 2 * TILE * T; /* scores and their gradient, for each thread */
}

static real *thread_scratch(const Tensor *scratch, int64_t T) {
    return cpu_reals(scratch) + omp_get_thread_num() * 2 * TILE * T;
}

/* The first query of the tile that sees this key; those before it are masked. */
static int64_t first_query(int64_t key, int64_t first) { return max64(key - first, 0); }

/* S (keys,TILE) becomes exp(S - top) with top the largest of each column, 0 where masked; sum: of each column. */
static void softmax_columns(real *S, int64_t keys, int64_t rows, int64_t first, real top[TILE],
                            real sum[TILE]) {
    for (int64_t i = 0; i < rows; i++) top[i] = -INFINITY, sum[i] = 0;
    for (int64_t j = 0; j < keys; j++) {
        const real *s = S + j * TILE;
#pragma omp simd
        for (int64_t i = first_query(j, first); i < rows; i++) top[i] = s[i] > top[i] ? s[i] : top[i];
    }
    for (int64_t j = 0; j < keys; j++) {
        real *s = S + j * TILE;
        int64_t begin = first_query(j, first);
        memset(s, 0, (size_t)begin * sizeof(real));
#pragma omp simd
        for (int64_t i = begin; i < rows; i++) {
            s[i] = exp_real(s[i] - top[i]);
            sum[i] += s[i];
        }
    }
}

void cpu_attention(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                   Tensor *scratch) {
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K);
    int64_t C = H * D, tiles = ceil_div(T, TILE);
    real scale = (real)(1 / sqrt((double)D));
    Pieces pieces = pieces_new(B * H * tiles);
#pragma omp parallel num_threads(q->threads)
    for (int64_t turn = 0, piece; (piece = pieces_take(&pieces, &turn)) >= 0;) {
        int64_t b = piece / tiles / H, h = piece / tiles % H, first = piece % tiles * TILE,
                rows = min64(TILE, T - first), keys = first + rows;
        const real *base = cpu_reals(qkv) + b * T * W, *Q = base + first * W + h * D;
        const real *key = base + (H + h * K / H) * D, *value = key + K * D;
        real *S = thread_scratch(scratch, T), top[TILE], sum[TILE];
        real *O = cpu_reals(out) + (b * T + first) * C + h * D;
        cpu_gemm(q, false, true, keys, rows, D, scale, key, W, Q, W, false, S, TILE);
        softmax_columns(S, keys, rows, first, top, sum);
        cpu_gemm(q, true, false, rows, D, keys, 1, S, TILE, value, W, false, O, C);
        for (int64_t i = 0; i < rows; i++) { /* divided here, where there is less than in the scores */
            real inverse = 1 / sum[i];
#pragma omp simd
            for (int64_t d = 0; d < D; d++) O[i * C + d] *= inverse;
            cpu_reals(lse)[(b * T + first + i) * H + h] = top[i] + (real)log((double)sum[i]);
        }
    }
    pieces_free(&pieces);
}

/* One tile of queries of head h: P = exp(S - lse), dS = P (dP - delta) with delta = dout . out; then the
 * three products that give dQ, dK (+)= and dV (+)=. P and dS stand transposed. */
static void attention_backward_tile(const Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                                    const Tensor *lse, int64_t H, int64_t K, int64_t b, int64_t h,
                                    int64_t first, bool add, Tensor *dqkv, real *P) {
    int64_t T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), C = H * D;
    int64_t rows = min64(TILE, T - first), keys = first + rows;
    int64_t to_q = (b * T + first) * W + h * D, to_k = b * T * W + (H + h * K / H) * D, to_v = to_k + K * D;
    const real *Q = cpu_reals(qkv) + to_q, *key = cpu_reals(qkv) + to_k, *value = cpu_reals(qkv) + to_v;
    const real *dO = cpu_reals(dout) + (b * T + first) * C + h * D;
    const real *O = cpu_reals(out) + (b * T + first) * C + h * D;
    real *dS = P + TILE * T, scale = (real)(1 / sqrt((double)D)), delta[TILE], log_sum[TILE];

    for (int64_t i = 0; i < rows; i++) {
        real dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t d = 0; d < D; d++) dot += dO[i * C + d] * O[i * C + d];
        delta[i] = dot;
        log_sum[i] = cpu_reals(lse)[(b * T + first + i) * H + h];
    }
    cpu_gemm(q, false, true, keys, rows, D, scale, key, W, Q, W, false, P, TILE);
    cpu_gemm(q, false, true, keys, rows, D, 1, value, W, dO, C, false, dS, TILE);
    for (int64_t j = 0; j < keys; j++) {
        real *p = P + j * TILE, *ds = dS + j * TILE;
        int64_t begin = first_query(j, first);
        memset(p, 0, (size_t)begin * sizeof(real));
        memset(ds, 0, (size_t)begin * sizeof(real));
#pragma omp simd
        for (int64_t i = begin; i < rows; i++) {
            p[i] = exp_real(p[i] - log_sum[i]);
            ds[i] = p[i] * (ds[i] - delta[i]) * scale;
        }
    }
    cpu_gemm(q, true, false, rows, D, keys, 1, dS, TILE, key, W, false, cpu_reals(dqkv) + to_q, W);
    cpu_gemm(q, false, false, keys, D, rows, 1, dS, TILE, Q, W, add, cpu_reals(dqkv) + to_k, W);
    cpu_gemm(q, false, false, keys, D, rows, 1, P, TILE, dO, C, add, cpu_reals(dqkv) + to_v, W);
}

void cpu_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                            const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch) {
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], last = (ceil_div(T, TILE) - 1) * TILE;
    Pieces pieces = pieces_new(B * K);
#pragma omp parallel num_threads(q->threads)
    for (int64_t turn = 0, piece; (piece = pieces_take(&pieces, &turn)) >= 0;) {
        int64_t b = piece / K, k = piece % K, begin = k * H / K;
        for (int64_t h = begin; h < (k + 1) * H / K; h++)
            for (int64_t first = last; first >= 0; first -= TILE) /* the last tile reaches every key */
                attention_backward_tile(q, dout, qkv, out, lse, H, K, b, h, first, h > begin || first < last,
                                        dqkv, thread_scratch(scratch, T));
    }
    pieces_free(&pieces);
}

/* ---- attention over a cache ---- */

void cpu_attention_cached(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys,
                          Tensor *values, Tensor *out, Tensor *scratch) {
    int64_t fresh = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), KD = K * D, C = H * D;
    int64_t T = keys->shape.size[0];
    const real *x = cpu_reals(qkv);
    real scale = (real)(1 / sqrt((double)D));
    for (int64_t t = 0; t < fresh; t++) {
        memcpy(cpu_reals(keys) + (first + t) * KD, x + t * W + C, (size_t)KD * sizeof(real));
        memcpy(cpu_reals(values) + (first + t) * KD, x + t * W + C + KD, (size_t)KD * sizeof(real));
    }
    PARALLEL(q, fresh * (first + fresh) * C > WORTH)
    for (int64_t th = 0; th < fresh * H; th++) {
        int64_t t = th / H, h = th % H, seen = first + t + 1, at = h * K / H * D;
        const real *query = x + t * W + h * D, *key = cpu_reals(keys) + at, *value = cpu_reals(values) + at;
        real *s = thread_scratch(scratch, T), *o = cpu_reals(out) + t * C + h * D;
        for (int64_t j = 0; j < seen; j++) {
            real dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t d = 0; d < D; d++) dot += query[d] * key[j * KD + d];
            s[j] = dot * scale;
        }
        softmax_row(s, seen);
        memset(o, 0, (size_t)D * sizeof(real));
        for (int64_t j = 0; j < seen; j++) {
#pragma omp simd
            for (int64_t d = 0; d < D; d++) o[d] += s[j] * value[j * KD + d];
        }
    }
}
