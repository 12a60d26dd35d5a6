/* Functions between two products, each of one element, or of a gate and what it lets through. */
#include "common/cuda/gpu.h"

/* ---- relu ---- */

template <class T> __global__ void relu_kernel(const T *x, T *y, int64_t count) {
    FOR_EACH(i, count) {
        real v = wide(x[i]);
        y[i] = narrow<T>(v < 0 ? 0 : v); /* so that a NaN stays one */
    }
}

extern "C" void cuda_relu(Queue *q, const Tensor *x, Tensor *y) {
    LAUNCH_EACH(relu_kernel, y->type, q, tensor_count(y), data<T>(x), data<T>(y));
}

template <class T>
__global__ void relu_backward_kernel(const T *dy, const T *x, T *dx, bool add, int64_t count) {
    FOR_EACH(i, count) put(dx + i, wide(x[i]) > 0 ? wide(dy[i]) : 0, add);
}

extern "C" void cuda_relu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add) {
    LAUNCH_EACH(relu_backward_kernel, x->type, q, tensor_count(x), data<T>(dy), data<T>(x), data<T>(dx), add);
}

/* ---- gelu, the tanh form ---- */

__device__ static inline real sigmoid(real x) { return 1 / (1 + exp(-x)); }

/* 0.5 (1 + tanh u) = sigmoid(2u), and 2u = A x + B x^3 with A = sqrt(8 / pi), B = 0.044715 A */
static const real GELU_A = (real)1.5957691216057308, GELU_B = (real)0.07135481627260025;

__device__ static inline real gelu_gate(real x) { return sigmoid(x * (GELU_A + GELU_B * (x * x))); }

template <class T> __global__ void gelu_kernel(const T *x, T *y, int64_t count) {
    FOR_EACH(i, count) {
        real v = wide(x[i]);
        y[i] = narrow<T>(v * gelu_gate(v));
    }
}

extern "C" void cuda_gelu(Queue *q, const Tensor *x, Tensor *y) {
    LAUNCH_EACH(gelu_kernel, y->type, q, tensor_count(y), data<T>(x), data<T>(y));
}

template <class T>
__global__ void gelu_backward_kernel(const T *dy, const T *x, T *dx, bool add, int64_t count) {
    FOR_EACH(i, count) {
        real v = wide(x[i]), s = gelu_gate(v);
        real slope = s + s * (1 - s) * v * (GELU_A + 3 * GELU_B * (v * v));
        put(dx + i, wide(dy[i]) * slope, add);
    }
}

extern "C" void cuda_gelu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add) {
    LAUNCH_EACH(gelu_backward_kernel, x->type, q, tensor_count(x), data<T>(dy), data<T>(x), data<T>(dx), add);
}

/* ---- swiglu: row r of x is [gate | up], F each ---- */

template <class T> __global__ void swiglu_kernel(const T *x, T *y, int64_t F, int64_t count) {
    FOR_EACH(i, count) {
        int64_t at = i / F * 2 * F + i % F;
        real gate = wide(x[at]), up = wide(x[at + F]);
        y[i] = narrow<T>(gate * sigmoid(gate) * up);
    }
}

extern "C" void cuda_swiglu(Queue *q, const Tensor *x, Tensor *y) {
    LAUNCH_EACH(swiglu_kernel, y->type, q, tensor_count(y), data<T>(x), data<T>(y), tensor_columns(y));
}

template <class T>
__global__ void swiglu_backward_kernel(const T *dy, const T *x, T *dx, int64_t F, bool add, int64_t count) {
    FOR_EACH(i, count) {
        int64_t at = i / F * 2 * F + i % F;
        real gate = wide(x[at]), up = wide(x[at + F]), d = wide(dy[i]), s = sigmoid(gate);
        put(dx + at, d * up * (s + gate * s * (1 - s)), add);
        put(dx + at + F, d * gate * s, add);
    }
}

extern "C" void cuda_swiglu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add) {
    LAUNCH_EACH(swiglu_backward_kernel, dy->type, q, tensor_count(dy), data<T>(dy), data<T>(x), data<T>(dx),
                tensor_columns(dy), add);
}
