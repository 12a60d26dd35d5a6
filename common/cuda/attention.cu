/* Attention on GPUs: no matrix of queries x keys is in memory (Dao et al. 2022, FlashAttention). A block has a tile of
 * queries of one head and goes over the keys tile by tile; each tile's scores become weights under the largest score so
 * far, and what was summed before shrinks when that grows. attention_backward.cu is the other half. */
#include "common/cuda/tile.h"

/* Of each window: queries (count, H heads of D), rows query_step apart, key head k's keys and values, rows key_step
 * apart. Query i stands at position first + i and sees the keys of positions up to its own. out (count,H D) of each
 * window; lse (count,H) or NULL. */
template <class T, int ROWS, int N>
__global__ void __launch_bounds__(TILE_THREADS, 1)
    attention_kernel(const T *queries, int64_t query_step, const T *keys, const T *values, int64_t key_step,
                     T *out, real *lse, int64_t B, int64_t count, int64_t first, int64_t H, int64_t K,
                     int64_t D, real scale) {
    SHARED(real, pieces, [(ROWS + TILE) * CHUNK_STEP]);
    SHARED(real, weights, [ROWS * WEIGHTS_STEP]);
    int64_t h = blockIdx.x % H, b = blockIdx.x / H % B;
    int64_t begin =
        (gridDim.x / (H * B) - 1 - blockIdx.x / (H * B)) * ROWS; /* those that see most begin first */
    int64_t rows = count - begin < ROWS ? count - begin : ROWS, position = first + begin;
    queries += (b * count + begin) * query_step + h * D;
    keys += b * count * key_step + h * K / H * D;
    values += b * count * key_step + h * K / H * D;

    real top[ROWS / TEAMS], total[ROWS / TEAMS], sum[ROWS / TEAMS][N / LANES];
    for (int i = 0; i < ROWS / TEAMS; i++) {
        top[i] = -(real)INFINITY, total[i] = 0;
        for (int j = 0; j < N / LANES; j++) sum[i][j] = 0;
    }
    for (int64_t key = 0; key < position + rows; key += TILE) {
        int64_t there = position + rows - key;
        real s[ROWS / TEAMS][TILE / LANES];
        dot_rows<ROWS, TILE>(queries, query_step, rows, keys + key * key_step, key_step, there, D, pieces, s);
        for (int i = 0; i < ROWS / TEAMS; i++) {
            int64_t last = position + tile_team() + TEAMS * i - key; /* that this query sees */
            real most = top[i], part = 0;
            for (int j = 0; j < TILE / LANES; j++) {
                s[i][j] = tile_lane() + LANES * j <= last ? s[i][j] * scale : -(real)INFINITY;
                most = s[i][j] > most ? s[i][j] : most;
            }
            most = lanes_max(most); /* finite: every query sees key 0 */
            real shrink = exp(top[i] - most);
            for (int j = 0; j < TILE / LANES; j++) {
                s[i][j] = exp(s[i][j] - most);
                part += s[i][j];
            }
            top[i] = most, total[i] = total[i] * shrink + part;
            for (int j = 0; j < N / LANES; j++) sum[i][j] *= shrink;
        }
        store_weights<ROWS>(s, weights);
        sum_weighted<ROWS, N>(weights, values + key * key_step, key_step, there, D, pieces, sum);
    }
    for (int i = 0; i < ROWS / TEAMS; i++) {
        int r = tile_team() + TEAMS * i;
        real all = lanes_sum(total[i]), inverse = 1 / all; /* a lane's total is of its own keys */
        for (int j = 0; j < N / LANES; j++) sum[i][j] *= inverse;
        if (lse && tile_lane() == 0 && r < rows) lse[(b * count + begin + r) * H + h] = top[i] + log(all);
    }
    store_rows<ROWS, N>(sum, out + (b * count + begin) * H * D + h * D, H * D, rows, D);
}

static real score_scale(int64_t D) {
    if (D > WIDEST_HEAD)
        fail(2, "more heads, of at most 256 elements each", "attention on a GPU: a head of %lld elements",
             (long long)D);
    return (real)(1 / sqrt((double)D));
}

extern "C" void cuda_attention(Queue *q, const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse,
                               Tensor *scratch) {
    (void)scratch;
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K);
    if (!tensor_count(out)) return;
    real scale = score_scale(D);
    unsigned blocks = (unsigned)(B * H * ceil_div(T, TILE));
    BY_TYPE(out->type, E, BY_WIDTH(D, N, {
                const E *queries = data<E>(qkv), *keys = queries + H * D, *values = keys + K * D;
                LAUNCH((attention_kernel<E, TILE, N>), blocks, TILE_THREADS, 0, q, queries, W, keys, values,
                       W, data<E>(out), data<real>(lse), B, T, (int64_t)0, H, K, D, scale);
            }));
}

/* delta of each query, for the backward */
extern "C" int64_t cuda_attention_scratch(const Queue *q, int64_t B, int64_t T, int64_t H, int64_t D) {
    (void)q, (void)D;
    return B * T * H;
}

/* ---- over a cache ---- */

/* A row's keys and values, `columns` each, which stand one behind the other. */
template <class T>
__global__ void cache_kernel(const T *from, int64_t step, T *keys, T *values, int64_t rows, int64_t columns) {
    FOR_EACH(i, rows * columns) {
        const T *x = from + i / columns * step + i % columns;
        keys[i] = x[0];
        values[i] = x[columns];
    }
}

extern "C" void cuda_attention_cached(Queue *q, const Tensor *qkv, int64_t H, int64_t K, int64_t first,
                                      Tensor *keys, Tensor *values, Tensor *out, Tensor *scratch) {
    (void)scratch;
    int64_t fresh = qkv->shape.size[1], W = tensor_columns(qkv), D = W / (H + 2 * K), C = K * D;
    if (!tensor_count(out)) return;
    real scale = score_scale(D);
    constexpr int FEW = TEAMS; /* a token at a time: most of a whole tile would be nobody's */
    int rows = fresh <= FEW ? FEW : TILE;
    unsigned blocks = (unsigned)(H * ceil_div(fresh, rows));
    BY_TYPE(out->type, E, {
        const E *x = data<E>(qkv);
        LAUNCH(cache_kernel<E>, blocks_for(fresh * C), THREADS, 0, q, x + H * D, W, data<E>(keys) + first * C,
               data<E>(values) + first * C, fresh, C);
        BY_WIDTH(D, N, {
            if (rows == FEW)
                LAUNCH((attention_kernel<E, FEW, N>), blocks, TILE_THREADS, 0, q, x, W, data<E>(keys),
                       data<E>(values), C, data<E>(out), (real *)NULL, (int64_t)1, fresh, first, H, K, D,
                       scale);
            else
                LAUNCH((attention_kernel<E, TILE, N>), blocks, TILE_THREADS, 0, q, x, W, data<E>(keys),
                       data<E>(values), C, data<E>(out), (real *)NULL, (int64_t)1, fresh, first, H, K, D,
                       scale);
        });
    });
}
