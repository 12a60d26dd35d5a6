/* Rows of tables by id, and their gradients. */
#include "common/cuda/gpu.h"

/* i counts the elements of y (R,C) */
template <class T>
__global__ void embedding_kernel(const int32_t *ids, const T *token, int64_t first_id, int64_t V,
                                 const T *position, int64_t first, int64_t length, T *y, int64_t C,
                                 int64_t count) {
    FOR_EACH(i, count) {
        int64_t r = i / C, c = i % C, row = ids[r] - first_id;
        real word = row >= 0 && row < V ? wide(token[row * C + c]) : 0;
        y[i] = narrow<T>(position ? word + wide(position[(first + r % length) * C + c]) : word);
    }
}

extern "C" void cuda_embedding(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id,
                               const Tensor *position, int64_t first, Tensor *y) {
    int64_t C = tensor_columns(token);
    LAUNCH_EACH(embedding_kernel, token->type, q, tensor_count(ids) * C, data<int32_t>(ids), data<T>(token),
                first_id, tensor_rows(token), data<T>(position), first, tensor_columns(ids), data<T>(y), C);
}

/* ---- the gradient of the table of words ----
 *
 * A row of dy belongs to the block of the first row that has its id: this block adds up all of them in row order, as a CPU
 * does, to the same bits. Whose row is not the first finds that out in the rows before it, nearest first: soon for a word
 * that is frequent. So ids are read about R times for each different one, by whole warps; the table's size does not matter,
 * and no scratch is needed. */

enum { COLUMNS = 4 }; /* of a thread at a time */

/* Is there a row before r with this id? The lanes of a warp ask together. */
__device__ static inline bool has_predecessor(const int32_t *ids, int64_t r, int lane) {
    for (int64_t end = r; end > 0; end -= WARP) {
        int64_t i = end - WARP + lane;
        if (__ballot_sync(0xffffffffu, i >= 0 && ids[i] == ids[r])) return true;
    }
    return false;
}

template <class T>
__global__ void embedding_backward_kernel(const int32_t *ids, const T *dy, int64_t first_id, real *dtoken,
                                          int64_t R, int64_t V, int64_t C) {
    int lane = (int)threadIdx.x % WARP;
    for (int64_t r = blockIdx.x; r < R; r += gridDim.x) {
        int64_t row = ids[r] - first_id;
        if (row < 0 || row >= V || has_predecessor(ids, r, lane)) continue;
        for (int64_t begin = threadIdx.x; begin - lane < C; begin += COLUMNS * blockDim.x) {
            real sum[COLUMNS];
            for (int k = 0; k < COLUMNS; k++) {
                int64_t c = begin + k * blockDim.x;
                sum[k] = c < C ? dtoken[row * C + c] : 0;
            }
            for (int64_t from = r; from < R; from += WARP) {
                int64_t i = from + lane;
                unsigned same = __ballot_sync(0xffffffffu, i < R && ids[i] == ids[r]);
                for (; same; same &= same - 1) {
                    const T *dy_row = dy + (from + __ffs(same) - 1) * C;
                    for (int k = 0; k < COLUMNS; k++) {
                        int64_t c = begin + k * blockDim.x;
                        if (c < C) sum[k] += wide(dy_row[c]);
                    }
                }
            }
            for (int k = 0; k < COLUMNS; k++) {
                int64_t c = begin + k * blockDim.x;
                if (c < C) dtoken[row * C + c] = sum[k];
            }
        }
    }
}

extern "C" void cuda_embedding_backward(Queue *q, const Tensor *ids, const Tensor *dy, int64_t first_id,
                                        Tensor *dtoken) {
    int64_t R = tensor_count(ids), V = tensor_rows(dtoken), C = tensor_columns(dtoken);
    if (!R || !C) return;
    unsigned threads = (unsigned)(min64(ceil_div(C, COLUMNS * WARP), THREADS / WARP) * WARP);
    BY_TYPE(dy->type, T,
            LAUNCH(embedding_backward_kernel<T>, (unsigned)min64(R, MOST_BLOCKS), threads, 0, q,
                   data<int32_t>(ids), data<T>(dy), first_id, data<real>(dtoken), R, V, C));
}

/* ---- the gradient of the table of positions: dy (B,T,C) ---- */

/* i counts the elements of dposition; over the batch in its order */
template <class T>
__global__ void position_backward_kernel(const T *dy, int64_t first, real *dposition, int64_t batch,
                                         int64_t length, int64_t C, int64_t count) {
    FOR_EACH(i, count) {
        int64_t t = i / C - first;
        real sum = 0;
        if (t >= 0 && t < length)
            for (int64_t b = 0; b < batch; b++) sum += wide(dy[(b * length + t) * C + i % C]);
        dposition[i] = sum;
    }
}

extern "C" void cuda_position_backward(Queue *q, const Tensor *dy, int64_t first, Tensor *dposition) {
    LAUNCH_EACH(position_backward_kernel, dy->type, q, tensor_count(dposition), data<T>(dy), first,
                data<real>(dposition), dy->shape.size[0], dy->shape.size[1], tensor_columns(dy));
}
