/* Dropout: the mask is a function of (seed, stream, place), the same as on a CPU, so it is drawn again in backward. */
#include "common/cuda/gpu.h"

#include "common/base/philox.h"

/* A block of random words serves four elements that follow each other. A warp draws one for each of its lanes, and takes
 * the 128 elements in four rounds of 32 neighbours; the words change lanes in shared memory, in rows of STRIDE: lanes that
 * read words 0 to 3 of 8 blocks meet 32 different banks. */
enum { WORDS = 4, PIECE = WORDS * WARP, STRIDE = WARP + 8 };

/* x: runs of `count` elements; run i begins at place first + i window of the stream, and is cut into `pieces`, the first of
 * which begins at a multiple of four, in front of the run's first element. */
template <class T>
__global__ void dropout_kernel(const T *x, real grow, uint64_t threshold, uint64_t seed, uint64_t stream,
                               int64_t first, int64_t window, int64_t runs, int64_t pieces, int64_t count,
                               T *y, bool add) {
    SHARED(uint32_t, drawn, [THREADS / WARP][WORDS][STRIDE]);
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    for (int64_t piece = blockIdx.x * (int64_t)(THREADS / WARP) + warp; piece < runs * pieces;
         piece += gridDim.x * (int64_t)(THREADS / WARP)) {
        int64_t run = piece / pieces, place = first + run * window;
        int64_t block = place / WORDS + piece % pieces * WARP;
        uint32_t words[WORDS];
        philox(seed, stream, (uint64_t)(block + lane), words);
        for (int i = 0; i < WORDS; i++) drawn[warp][i][lane] = words[i];
        __syncwarp();
        for (int k = lane; k < PIECE; k += WARP) {
            int64_t i = block * WORDS + k - place;
            if (i < 0 || i >= count) continue;
            real kept = drawn[warp][k % WORDS][k / WORDS] >= threshold ? wide(x[run * count + i]) * grow : 0;
            put(y + run * count + i, kept, add);
        }
        __syncwarp();
    }
}

extern "C" void cuda_dropout(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream,
                             int64_t first, int64_t window, Tensor *y, bool add) {
    if (!tensor_count(y)) return;
    int64_t runs = window ? x->shape.size[0] : 1, count = tensor_count(x) / runs;
    int64_t pieces = ceil_div(count + WORDS - 1, PIECE);
    BY_TYPE(y->type, T,
            LAUNCH(dropout_kernel<T>, blocks_for(runs * pieces * WARP), THREADS, 0, q, data<T>(x),
                   (real)(1 / (1 - rate)), (uint64_t)(rate * 0x1p32), seed, stream, first, window, runs,
                   pieces, count, data<T>(y), add));
}
