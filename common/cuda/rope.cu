#include "common/cuda/gpu.h"

/* A block turns a row: (a, b) of halves i and i + D/2 of a head by the angle of (position, i), table row = [cos | sin]. */
template <class T>
__global__ void rope_kernel(const T *x, const real *table, T *y, int64_t rows, int64_t tokens, int64_t first,
                            int turned, int kept, int D, real sign) {
    int half = D / 2;
    int64_t W = (int64_t)(turned + kept) * D;
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const real *c = table + (first + r % tokens) * D, *s = c + half;
        for (int e = (int)threadIdx.x; e < turned * half; e += (int)blockDim.x) {
            int i = e % half;
            int64_t at = r * W + e / half * D + i;
            real a = wide(x[at]), b = wide(x[at + half]), cosine = c[i], sine = sign * s[i];
            y[at] = narrow<T>(a * cosine - b * sine);
            y[at + half] = narrow<T>(b * cosine + a * sine);
        }
        for (int64_t at = r * W + turned * D + threadIdx.x; at < (r + 1) * W; at += blockDim.x)
            y[at] = x[at]; /* values stay */
    }
}

extern "C" void cuda_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K,
                          int64_t first, bool inverse, Tensor *y) {
    int64_t rows = tensor_rows(qkv), D = tensor_columns(qkv) / (H + 2 * K);
    if (!tensor_count(qkv)) return;
    BY_TYPE(y->type, T,
            LAUNCH(rope_kernel<T>, (unsigned)min64(rows, MOST_BLOCKS), THREADS, 0, q, data<T>(qkv),
                   data<real>(table), data<T>(y), rows, qkv->shape.size[1], first, (int)(H + K), (int)K,
                   (int)D, inverse ? (real)-1 : (real)1));
}
