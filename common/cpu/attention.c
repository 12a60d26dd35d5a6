/* Attention on CPUs. A row of qkv is [H queries | K keys | K values], each of D numbers. The pieces of work
 * are (window, key head); inside one, scores are formed for a tile of queries against all keys up to it. */
#include "common/cpu/wide.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

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

int64_t cpu_attention_scratch(const Queue *q, int64_t B, int64_t T, int64_t H, int64_t D) {
    (void)B, (void)H, (void)D;
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
    bool narrowed = out->type == TYPE_BF16; /* then a tile of it is summed in memory of the thread's */
    Pieces pieces = pieces_new(B * H * tiles);
#pragma omp parallel num_threads(q->threads)
    {
        real *own = narrowed ? xmalloc((size_t)(TILE * D) * sizeof(real)) : NULL;
        for (int64_t turn = 0, piece; (piece = pieces_take(&pieces, &turn)) >= 0;) {
            int64_t b = piece / tiles / H, h = piece / tiles % H, first = piece % tiles * TILE,
                    rows = min64(TILE, T - first), keys = first + rows, base = b * T * W;
            Matrix Q = matrix_in(qkv, base + first * W + h * D, W);
            Matrix key = matrix_in(qkv, base + (H + h * K / H) * D, W), value = part_of(&key, 0, K * D);
            real *S = thread_scratch(scratch, T), top[TILE], sum[TILE];
            int64_t to = (b * T + first) * C + h * D, step = narrowed ? D : C;
            real *O = narrowed ? own : cpu_reals(out) + to;
            wide_gemm(q, false, true, keys, rows, D, scale, key, Q, false, S, TILE);
            softmax_columns(S, keys, rows, first, top, sum);
            wide_gemm(q, true, false, rows, D, keys, 1, matrix_at(S, TILE), value, false, O, step);
            for (int64_t i = 0; i < rows; i++) { /* divided here, where there is less than in the scores */
                real inverse = 1 / sum[i];
#pragma omp simd
                for (int64_t d = 0; d < D; d++) O[i * step + d] *= inverse;
                cpu_reals(lse)[(b * T + first + i) * H + h] = top[i] + (real)log((double)sum[i]);
            }
            if (narrowed) narrow_block(O, D, rows, D, out, to, C);
        }
        free(own);
    }
    pieces_free(&pieces);
}

/* Where gradients of one key head and its queries are summed, rows `step` apart: in dqkv, or, where that is bf16, in memory
 * of the thread's. */
typedef struct {
    real *q, *key, *value; /* q: of the queries of a tile */
    real *out, *dout;      /* (TILE,D): a tile's, where it is widened */
    int64_t step;
} HeadGrad;

static int64_t head_grad_count(int64_t T, int64_t D) { return 2 * T * D + 3 * TILE * D; }
static HeadGrad head_grad_in(real *own, int64_t T, int64_t D) {
    real *tiles = own + 2 * T * D;
    return (HeadGrad){tiles, own, own + T * D, tiles + TILE * D, tiles + 2 * TILE * D, D};
}

/* One tile of queries of head h: P = exp(S - lse), dS = P (dP - delta) with delta = dout . out; then the
 * three products that give dQ, dK (+)= and dV (+)=. P and dS stand transposed. */
static void attention_backward_tile(const Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                                    const Tensor *lse, int64_t H, int64_t K, int64_t b, int64_t h,
                                    int64_t first, bool add, const HeadGrad *grad, real *P) {
    int64_t T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), C = H * D;
    int64_t rows = min64(TILE, T - first), keys = first + rows, at = (b * T + first) * C + h * D, o_step,
            d_step;
    Matrix Q = matrix_in(qkv, (b * T + first) * W + h * D, W);
    Matrix key = matrix_in(qkv, b * T * W + (H + h * K / H) * D, W), value = part_of(&key, 0, K * D);
    Matrix out_tile = matrix_in(out, at, C), dout_tile = matrix_in(dout, at, C);
    const real *O = wide_block(&out_tile, 0, 0, rows, D, grad->out, &o_step);
    const real *dO = wide_block(&dout_tile, 0, 0, rows, D, grad->dout, &d_step);
    real *dS = P + TILE * T, scale = (real)(1 / sqrt((double)D)), delta[TILE], log_sum[TILE];

    for (int64_t i = 0; i < rows; i++) {
        real dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t d = 0; d < D; d++) dot += dO[i * d_step + d] * O[i * o_step + d];
        delta[i] = dot;
        log_sum[i] = cpu_reals(lse)[(b * T + first + i) * H + h];
    }
    wide_gemm(q, false, true, keys, rows, D, scale, key, Q, false, P, TILE);
    wide_gemm(q, false, true, keys, rows, D, 1, value, matrix_at(dO, d_step), false, dS, TILE);
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
    Matrix scores = matrix_at(dS, TILE);
    wide_gemm(q, true, false, rows, D, keys, 1, scores, key, false, grad->q, grad->step);
    wide_gemm(q, false, false, keys, D, rows, 1, scores, Q, add, grad->key, grad->step);
    wide_gemm(q, false, false, keys, D, rows, 1, matrix_at(P, TILE), matrix_at(dO, d_step), add, grad->value,
              grad->step);
}

/* Key head k of window b, with its queries; own: memory of the thread's, where dqkv is bf16. */
static void attention_backward_head(const Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                                    const Tensor *lse, int64_t H, int64_t K, int64_t b, int64_t k,
                                    Tensor *dqkv, real *P, real *own) {
    int64_t T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K);
    int64_t begin = k * H / K, last = (ceil_div(T, TILE) - 1) * TILE;
    int64_t to_key = b * T * W + (H + k) * D, to_value = to_key + K * D;
    for (int64_t h = begin; h < (k + 1) * H / K; h++)
        for (int64_t first = last; first >= 0; first -= TILE) { /* the last tile reaches every key */
            int64_t to_q = (b * T + first) * W + h * D;
            HeadGrad grad = own ? head_grad_in(own, T, D)
                                : (HeadGrad){.q = cpu_reals(dqkv) + to_q,
                                             .key = cpu_reals(dqkv) + to_key,
                                             .value = cpu_reals(dqkv) + to_value,
                                             .step = W};
            attention_backward_tile(q, dout, qkv, out, lse, H, K, b, h, first, h > begin || first < last,
                                    &grad, P);
            if (own) narrow_block(grad.q, D, min64(TILE, T - first), D, dqkv, to_q, W);
        }
    if (!own) return;
    HeadGrad grad = head_grad_in(own, T, D);
    narrow_block(grad.key, D, T, D, dqkv, to_key, W);
    narrow_block(grad.value, D, T, D, dqkv, to_value, W);
}

void cpu_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                            const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv, Tensor *scratch) {
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], D = tensor_columns(qkv) / (H + 2 * K);
    size_t own_bytes = (size_t)head_grad_count(T, D) * sizeof(real);
    Pieces pieces = pieces_new(B * K);
#pragma omp parallel num_threads(q->threads)
    {
        real *own = dqkv->type == TYPE_BF16 ? xmalloc(own_bytes) : NULL;
        for (int64_t turn = 0, piece; (piece = pieces_take(&pieces, &turn)) >= 0;)
            attention_backward_head(q, dout, qkv, out, lse, H, K, piece / K, piece % K, dqkv,
                                    thread_scratch(scratch, T), own);
        free(own);
    }
    pieces_free(&pieces);
}

/* ---- attention over a cache ---- */

void cpu_attention_cached(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys,
                          Tensor *values, Tensor *out, Tensor *scratch) {
    int64_t fresh = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), KD = K * D, C = H * D;
    int64_t T = keys->shape.size[0], e = element_bytes(qkv->type);
    ASSERT(keys->type == qkv->type && out->type == qkv->type);
    real scale = (real)(1 / sqrt((double)D));
    for (int64_t t = 0; t < fresh; t++) {
        const char *x = (const char *)cpu_data(qkv) + (t * W + C) * e;
        memcpy((char *)cpu_data(keys) + (first + t) * KD * e, x, (size_t)(KD * e));
        memcpy((char *)cpu_data(values) + (first + t) * KD * e, x + KD * e, (size_t)(KD * e));
    }
    PARALLEL(q, fresh * (first + fresh) * C > WORTH)
    for (int64_t th = 0; th < fresh * H; th++) {
        int64_t t = th / H, h = th % H, seen = first + t + 1, at = h * K / H * D, step;
        bool narrowed = out->type == TYPE_BF16;
        real *own = narrowed ? xmalloc((size_t)((2 * seen + 2) * D) * sizeof(real)) : NULL;
        Matrix all_keys = matrix_in(keys, at, KD), all_values = matrix_in(values, at, KD);
        const real *query = wide_run(qkv, t * W + h * D, D, own);
        const real *key = wide_block(&all_keys, 0, 0, seen, D, narrowed ? own + 2 * D : NULL, &step);
        const real *value =
            wide_block(&all_values, 0, 0, seen, D, narrowed ? own + (2 + seen) * D : NULL, &step);
        real *s = thread_scratch(scratch, T), *o = narrowed ? own + D : cpu_reals(out) + t * C + h * D;
        for (int64_t j = 0; j < seen; j++) {
            real dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t d = 0; d < D; d++) dot += query[d] * key[j * step + d];
            s[j] = dot * scale;
        }
        softmax_row(s, seen);
        memset(o, 0, (size_t)D * sizeof(real));
        for (int64_t j = 0; j < seen; j++) {
#pragma omp simd
            for (int64_t d = 0; d < D; d++) o[d] += s[j] * value[j * step + d];
        }
        if (narrowed) narrow_block(o, D, 1, D, out, t * C + h * D, C);
        free(own);
    }
}
