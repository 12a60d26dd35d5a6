/* The backward of attention.cu: P = exp(S - lse) is formed again, dS = P (dP - delta) with delta = dout . out, then
 * dV = P^T dout, dK = dS^T Q, dQ = dS K. Two passes form what they need of P and dS, one with a block for a tile of keys,
 * one with a block for a tile of queries: so each sum has one owner and one order, and no atomics. */
#include "common/cuda/tile.h"

/* delta (rows) = dout . out over D elements; a warp has a row. */
template <class T>
__global__ void attention_delta_kernel(const T *dout, const T *out, real *delta, int64_t rows, int64_t D) {
    int lane = (int)threadIdx.x % WARP;
    int64_t warps = (int64_t)gridDim.x * (blockDim.x / WARP);
    for (int64_t r = blockIdx.x * (int64_t)(blockDim.x / WARP) + threadIdx.x / WARP; r < rows; r += warps) {
        real dot = 0;
        for (int64_t d = lane; d < D; d += WARP) dot += wide(dout[r * D + d]) * wide(out[r * D + d]);
        dot = warp_sum(dot);
        if (lane == 0) delta[r] = dot;
    }
}

/* dK and dV of a tile of ROWS keys, over the queries of the heads that share them, in order. Rows of scores are keys here,
 * columns queries. */
template <class T, int ROWS, int N>
__global__ void __launch_bounds__(TILE_THREADS, 1)
    attention_keys_kernel(const T *qkv, const T *dout, const real *lse, const real *delta, T *dqkv, int64_t B,
                          int64_t tokens, int64_t H, int64_t K, int64_t D, real scale) {
    SHARED(real, pieces, [(ROWS + TILE) * CHUNK_STEP]);
    SHARED(real, weights, [ROWS * WEIGHTS_STEP]);
    int64_t k = blockIdx.x % K, b = blockIdx.x / K % B, begin = blockIdx.x / (K * B) * ROWS;
    int64_t W = (H + 2 * K) * D, there = tokens - begin, at_key = (b * tokens + begin) * W + (H + k) * D;
    const T *key = qkv + at_key, *value = key + K * D;

    real dk[ROWS / TEAMS][N / LANES], dv[ROWS / TEAMS][N / LANES];
    for (int i = 0; i < ROWS / TEAMS; i++)
        for (int j = 0; j < N / LANES; j++) dk[i][j] = dv[i][j] = 0;
    for (int64_t h = k * H / K; h < (k + 1) * H / K; h++)
        for (int64_t first = begin; first < tokens;
             first += TILE) { /* queries before see none of these keys */
            int64_t rows = tokens - first, at = b * tokens + first;
            const T *query = qkv + at * W + h * D, *dy = dout + at * H * D + h * D;
            real p[ROWS / TEAMS][TILE / LANES], ds[ROWS / TEAMS][TILE / LANES];
            dot_rows<ROWS, TILE>(key, W, there, query, W, rows, D, pieces, p);
            for (int j = 0; j < TILE / LANES; j++) {
                int c = tile_lane() + LANES * j;
                real log_sum = c < rows ? lse[(at + c) * H + h] : 0;
                for (int i = 0; i < ROWS / TEAMS; i++) {
                    bool seen = c < rows && begin + tile_team() + TEAMS * i <= first + c;
                    p[i][j] = seen ? exp(p[i][j] * scale - log_sum) : 0;
                }
            }
            store_weights<ROWS>(p, weights);
            sum_weighted<ROWS, N>(weights, dy, H * D, rows, D, pieces, dv);
            dot_rows<ROWS, TILE>(value, W, there, dy, H * D, rows, D, pieces, ds);
            for (int j = 0; j < TILE / LANES; j++) {
                int c = tile_lane() + LANES * j;
                real subtract = c < rows ? delta[(at + c) * H + h] : 0;
                for (int i = 0; i < ROWS / TEAMS; i++) ds[i][j] = p[i][j] * (ds[i][j] - subtract) * scale;
            }
            store_weights<ROWS>(ds, weights);
            sum_weighted<ROWS, N>(weights, query, W, rows, D, pieces, dk);
        }
    store_rows<ROWS, N>(dk, dqkv + at_key, W, there, D);
    store_rows<ROWS, N>(dv, dqkv + at_key + K * D, W, there, D);
}

/* dQ of a tile of ROWS queries, over the keys that they see. */
template <class T, int ROWS, int N>
__global__ void __launch_bounds__(TILE_THREADS, 1)
    attention_queries_kernel(const T *qkv, const T *dout, const real *lse, const real *delta, T *dqkv,
                             int64_t B, int64_t tokens, int64_t H, int64_t K, int64_t D, real scale) {
    SHARED(real, pieces, [(ROWS + TILE) * CHUNK_STEP]);
    SHARED(real, weights, [ROWS * WEIGHTS_STEP]);
    int64_t h = blockIdx.x % H, b = blockIdx.x / H % B;
    int64_t begin =
        (gridDim.x / (H * B) - 1 - blockIdx.x / (H * B)) * ROWS; /* those that see most begin first */
    int64_t rows = tokens - begin < ROWS ? tokens - begin : ROWS, W = (H + 2 * K) * D,
            at = b * tokens + begin;
    const T *query = qkv + at * W + h * D, *dy = dout + at * H * D + h * D;
    const T *keys = qkv + b * tokens * W + (H + h * K / H) * D, *values = keys + K * D;

    real log_sum[ROWS / TEAMS], subtract[ROWS / TEAMS], dq[ROWS / TEAMS][N / LANES];
    for (int i = 0; i < ROWS / TEAMS; i++) {
        int r = tile_team() + TEAMS * i;
        log_sum[i] = r < rows ? lse[(at + r) * H + h] : 0;
        subtract[i] = r < rows ? delta[(at + r) * H + h] : 0;
        for (int j = 0; j < N / LANES; j++) dq[i][j] = 0;
    }
    for (int64_t key = 0; key < begin + rows; key += TILE) {
        int64_t there = begin + rows - key;
        real p[ROWS / TEAMS][TILE / LANES], ds[ROWS / TEAMS][TILE / LANES];
        dot_rows<ROWS, TILE>(query, W, rows, keys + key * W, W, there, D, pieces, p);
        dot_rows<ROWS, TILE>(dy, H * D, rows, values + key * W, W, there, D, pieces, ds);
        for (int i = 0; i < ROWS / TEAMS; i++)
            for (int j = 0; j < TILE / LANES; j++) {
                bool seen = key + tile_lane() + LANES * j <= begin + tile_team() + TEAMS * i;
                ds[i][j] = seen ? exp(p[i][j] * scale - log_sum[i]) * (ds[i][j] - subtract[i]) * scale : 0;
            }
        store_weights<ROWS>(ds, weights);
        sum_weighted<ROWS, N>(weights, keys + key * W, W, there, D, pieces, dq);
    }
    store_rows<ROWS, N>(dq, dqkv + at * W + h * D, W, rows, D);
}

extern "C" void cuda_attention_backward(Queue *q, const Tensor *dout, const Tensor *qkv, const Tensor *out,
                                        const Tensor *lse, int64_t H, int64_t K, Tensor *dqkv,
                                        Tensor *scratch) {
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], D = tensor_columns(qkv) / (H + 2 * K);
    if (!tensor_count(out)) return;
    real scale = (real)(1 / sqrt((double)D)), *delta = data<real>(scratch);
    int64_t rows = B * T * H;
    BY_TYPE(dqkv->type, E, {
        LAUNCH(attention_delta_kernel<E>, blocks_for(rows * WARP), THREADS, 0, q, data<E>(dout), data<E>(out),
               delta, rows, D);
        BY_WIDTH(D, N, {
            constexpr int KEYS = N > 64 ? TILE * 64 / N : TILE, /* dK and dV of these, */
                QUERIES = N > 128 ? TILE / 2 : TILE;            /* dQ of these are in registers */
            LAUNCH((attention_keys_kernel<E, KEYS, N>), (unsigned)(B * K * ceil_div(T, KEYS)), TILE_THREADS,
                   0, q, data<E>(qkv), data<E>(dout), data<real>(lse), delta, data<E>(dqkv), B, T, H, K, D,
                   scale);
            LAUNCH((attention_queries_kernel<E, QUERIES, N>), (unsigned)(B * H * ceil_div(T, QUERIES)),
                   TILE_THREADS, 0, q, data<E>(qkv), data<E>(dout), data<real>(lse), delta, data<E>(dqkv), B,
                   T, H, K, D, scale);
        });
    });
}
