/* tile: products of tiles in shared memory, of which attention is made.
 *
 * A block is TILE_THREADS threads: TEAMS teams of LANES lanes. Of a tile of ROWS x COLUMNS results a thread has rows
 * team, team + TEAMS, ... and columns lane, lane + LANES, ..., and keeps them in registers, so that a number read from
 * shared memory serves several multiplications. A team is half a warp: what belongs to a row is summed by lanes_sum.
 *
 * Shared memory: `weights` [ROWS * WEIGHTS_STEP], a tile of ROWS x TILE that all threads read; `pieces`
 * [(ROWS + COLUMNS) * CHUNK_STEP], into which pieces of matrices are loaded. */
#ifndef TILE_H
#define TILE_H

#include "common/cuda/gpu.h"

constexpr int LANES = 16, TEAMS = 8, TILE_THREADS = LANES * TEAMS;
/* queries, or keys, of a tile: what 48 KB of shared memory hold */
constexpr int TILE = sizeof(real) == 4 ? 64 : 32;
/* Columns of a matrix that are in shared memory at once, where neighbouring rows begin in different banks. */
constexpr int CHUNK = 32, CHUNK_STEP = CHUNK + 1;
/* The two teams of a warp write to different banks. */
constexpr int WEIGHTS_STEP = TILE + (sizeof(real) == 4 ? 16 : 0);

__device__ static __forceinline__ int tile_lane() { return (int)threadIdx.x % LANES; }
__device__ static __forceinline__ int tile_team() { return (int)threadIdx.x / LANES; }

/* Over the lanes of a team, each of which gets the result. */
__device__ static __forceinline__ real lanes_sum(real x) {
    for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
__device__ static __forceinline__ real lanes_max(real x) {
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
        real other = __shfl_xor_sync(0xffffffffu, x, offset);
        x = other > x ? other : x;
    }
    return x;
}

/* piece (ROWS,COLUMNS), rows STEP apart, = the beginning of a matrix (rows,columns) whose rows are `step` apart. What the
 * matrix does not have is 0: it adds nothing to a product. */
template <int ROWS, int COLUMNS, int STEP, class T>
__device__ static __forceinline__ void load_piece(const T *from, int64_t step, int64_t rows, int64_t columns,
                                                  real *piece) {
    for (int e = (int)threadIdx.x; e < ROWS * COLUMNS; e += TILE_THREADS) {
        int r = e / COLUMNS, c = e % COLUMNS;
        piece[r * STEP + c] = r < rows && c < columns ? wide(from[r * step + c]) : 0;
    }
}

/* s = a b^T for ROWS rows of a and COLUMNS of b, of D elements each; a has a_rows rows, b b_rows, and the results of others
 * are 0. Its first barrier lets `pieces`, and weights of the tile before, be written anew. */
template <int ROWS, int COLUMNS, class T>
__device__ static __forceinline__ void dot_rows(const T *a, int64_t a_step, int64_t a_rows, const T *b,
                                                int64_t b_step, int64_t b_rows, int64_t D, real *pieces,
                                                real (&s)[ROWS / TEAMS][COLUMNS / LANES]) {
    real *a_piece = pieces, *b_piece = pieces + ROWS * CHUNK_STEP;
    const real *a_own = a_piece + tile_team() * CHUNK_STEP, *b_own = b_piece + tile_lane() * CHUNK_STEP;
    for (int i = 0; i < ROWS / TEAMS; i++)
        for (int j = 0; j < COLUMNS / LANES; j++) s[i][j] = 0;
    for (int64_t first = 0; first < D; first += CHUNK) {
        __syncthreads();
        load_piece<ROWS, CHUNK, CHUNK_STEP>(a + first, a_step, a_rows, D - first, a_piece);
        load_piece<COLUMNS, CHUNK, CHUNK_STEP>(b + first, b_step, b_rows, D - first, b_piece);
        __syncthreads();
        int columns = (int)(D - first < CHUNK ? D - first : CHUNK);
        for (int d = 0; d < columns; d++) {
            real x[ROWS / TEAMS], y[COLUMNS / LANES];
            for (int i = 0; i < ROWS / TEAMS; i++) x[i] = a_own[TEAMS * i * CHUNK_STEP + d];
            for (int j = 0; j < COLUMNS / LANES; j++) y[j] = b_own[LANES * j * CHUNK_STEP + d];
            for (int i = 0; i < ROWS / TEAMS; i++)
                for (int j = 0; j < COLUMNS / LANES; j++) s[i][j] += x[i] * y[j];
        }
    }
}

/* What a thread has of a tile of weights (ROWS,TILE) goes to shared memory; sum_weighted's first barrier is behind it. */
template <int ROWS>
__device__ static __forceinline__ void store_weights(const real (&s)[ROWS / TEAMS][TILE / LANES],
                                                     real *weights) {
    for (int i = 0; i < ROWS / TEAMS; i++)
        for (int j = 0; j < TILE / LANES; j++)
            weights[(tile_team() + TEAMS * i) * WEIGHTS_STEP + tile_lane() + LANES * j] = s[i][j];
}

/* sum (ROWS,N) += weights (ROWS,TILE) m, of which m (rows,D) has `rows` rows, and D <= N columns. */
template <int ROWS, int N, class T>
__device__ static __forceinline__ void sum_weighted(const real *weights, const T *m, int64_t step,
                                                    int64_t rows, int64_t D, real *pieces,
                                                    real (&sum)[ROWS / TEAMS][N / LANES]) {
    constexpr int FIT = (ROWS + TILE) * CHUNK_STEP / N, AT_ONCE = FIT < TILE ? FIT : TILE;
    const real *own = weights + tile_team() * WEIGHTS_STEP, *columns = pieces + tile_lane();
    int count = (int)(rows < TILE ? rows : TILE);
    for (int first = 0; first < count; first += AT_ONCE) {
        __syncthreads();
        load_piece<AT_ONCE, N, N>(m + first * step, step, rows - first, D, pieces);
        __syncthreads();
        int end = count - first < AT_ONCE ? count - first : AT_ONCE;
        for (int k = 0; k < end; k++) {
            real x[ROWS / TEAMS], y[N / LANES];
            for (int i = 0; i < ROWS / TEAMS; i++) x[i] = own[TEAMS * i * WEIGHTS_STEP + first + k];
            for (int j = 0; j < N / LANES; j++) y[j] = columns[k * N + LANES * j];
            for (int i = 0; i < ROWS / TEAMS; i++)
                for (int j = 0; j < N / LANES; j++) sum[i][j] += x[i] * y[j];
        }
    }
}

/* Rows of a tile go, each times its factor, to a matrix of `rows` rows and D columns, `step` apart. */
template <int ROWS, int N, class T>
__device__ static __forceinline__ void store_rows(const real (&sum)[ROWS / TEAMS][N / LANES], T *to,
                                                  int64_t step, int64_t rows, int64_t D) {
    for (int i = 0; i < ROWS / TEAMS; i++)
        for (int j = 0; j < N / LANES; j++) {
            int r = tile_team() + TEAMS * i, c = tile_lane() + LANES * j;
            if (r < rows && c < D) to[r * step + c] = narrow<T>(sum[i][j]);
        }
}

constexpr int WIDEST_HEAD = 256;
/* BY_WIDTH(D, N, statement): the statement with the constant N, the least of 16 .. WIDEST_HEAD that is at least D. */
#define BY_WIDTH(D, N, ...)                                                                                  \
    do {                                                                                                     \
        if ((D) <= 16) {                                                                                     \
            constexpr int N = 16;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((D) <= 32) {                                                                              \
            constexpr int N = 32;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((D) <= 64) {                                                                              \
            constexpr int N = 64;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((D) <= 128) {                                                                             \
            constexpr int N = 128;                                                                           \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            constexpr int N = WIDEST_HEAD;                                                                   \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

#endif
