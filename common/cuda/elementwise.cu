/* Kernels that move elements, or add them: a thread takes one after the other, far apart, so that neighbouring threads
 * read neighbouring elements. */
#include "common/cuda/gpu.h"

/* LAUNCH_EACH where x and y each have a type of their own. */
#define LAUNCH_EACH_TYPES(kernel, x, y, q, ...)                                                              \
    do {                                                                                                     \
        int64_t count = tensor_count(y);                                                                     \
        if (count > 0)                                                                                       \
            BY_TYPE((x)->type, X,                                                                            \
                    BY_TYPE((y)->type, Y,                                                                    \
                            LAUNCH((kernel<X, Y>), blocks_for(count), THREADS, 0, q, __VA_ARGS__, count)));  \
    } while (0)

/* ---- memory ---- */

extern "C" void cuda_zero(Queue *q, Tensor *y) {
    if (!tensor_count(y)) return;
    CUDA((int)cudaMemsetAsync(y->data, 0, (size_t)tensor_bytes(y), (cudaStream_t)q->stream));
}

extern "C" void cuda_copy(Queue *q, const Tensor *x, Tensor *y) {
    ASSERT(tensor_bytes(x) == tensor_bytes(y));
    if (!tensor_count(y)) return;
    CUDA((int)cudaMemcpyAsync(y->data, x->data, (size_t)tensor_bytes(y), cudaMemcpyDeviceToDevice,
                              (cudaStream_t)q->stream));
}

template <class X, class Y> __global__ void cast_kernel(const X *x, Y *y, int64_t count) {
    FOR_EACH(i, count) y[i] = narrow<Y>(wide(x[i]));
}

extern "C" void cuda_cast(Queue *q, const Tensor *x, Tensor *y) {
    LAUNCH_EACH_TYPES(cast_kernel, x, y, q, data<X>(x), data<Y>(y));
}

/* i counts the elements that are copied; `block` of them lie side by side, at steps of x_step and y_step */
template <class T>
__global__ void copy_slice_kernel(const T *x, int64_t x_step, T *y, int64_t y_step, int64_t block, bool add,
                                  int64_t count) {
    FOR_EACH(i, count) {
        int64_t o = i / block, k = i % block;
        put(y + o * y_step + k, wide(x[o * x_step + k]), add);
    }
}

extern "C" void cuda_copy_slice(Queue *q, const Tensor *x, int64_t x_first, Tensor *y, int64_t y_first,
                                int axis, int64_t count, bool add) {
    int64_t outer = 1, inner = 1; /* elements in front of the axis and behind it */
    for (int i = 0; i < axis; i++) outer *= y->shape.size[i];
    for (int i = axis + 1; i < y->shape.rank; i++) inner *= y->shape.size[i];
    ASSERT(x->type == y->type);
    LAUNCH_EACH(copy_slice_kernel, y->type, q, outer * count * inner, data<T>(x) + x_first * inner,
                x->shape.size[axis] * inner, data<T>(y) + y_first * inner, y->shape.size[axis] * inner,
                count * inner, add);
}

/* ---- sums ---- */

template <class T> __global__ void add_kernel(const T *a, const T *b, T *y, int64_t count) {
    FOR_EACH(i, count) y[i] = narrow<T>(wide(a[i]) + wide(b[i]));
}

extern "C" void cuda_add(Queue *q, const Tensor *a, const Tensor *b, Tensor *y) {
    LAUNCH_EACH(add_kernel, y->type, q, tensor_count(y), data<T>(a), data<T>(b), data<T>(y));
}

template <class X, class Y> __global__ void accumulate_kernel(const X *x, Y *y, int64_t count) {
    FOR_EACH(i, count) put(y + i, wide(x[i]), true);
}

extern "C" void cuda_accumulate(Queue *q, const Tensor *x, Tensor *y) {
    LAUNCH_EACH_TYPES(accumulate_kernel, x, y, q, data<X>(x), data<Y>(y));
}

template <class T>
__global__ void add_row_kernel(const T *x, const real *row, T *y, int64_t N, int64_t count) {
    FOR_EACH(i, count) y[i] = narrow<T>(wide(x[i]) + row[i % N]);
}

extern "C" void cuda_add_row(Queue *q, const Tensor *x, const Tensor *row, Tensor *y) {
    LAUNCH_EACH(add_row_kernel, y->type, q, tensor_count(y), data<T>(x), data<real>(row), data<T>(y),
                tensor_columns(y));
}

template <class T> __global__ void scale_kernel(const real *s, const T *x, T *y, bool add, int64_t count) {
    FOR_EACH(i, count) put(y + i, *s * wide(x[i]), add);
}

extern "C" void cuda_scale(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add) {
    LAUNCH_EACH(scale_kernel, y->type, q, tensor_count(y), data<real>(s), data<T>(x), data<T>(y), add);
}
