/* both: the same tensors on a CPU and on a GPU (or its emulator), so that a kernel of one can be held against the other's.
 *
 *   Both a = both_new("a", TYPE_REAL, SHAPE(3, 5)), y = ...;     random elements, the same on both
 *   ON_BOTH(k->add(q, &a.on[d], &b.on[d], &y.on[d]));            once on each
 *   both_close(&y, 1e-12, "add");                                relative to the largest element */
#ifndef BOTH_H
#define BOTH_H

#include "common/base/bf16.h"
#include "common/base/rng.h"
#include "common/cpu/device_cpu.h"
#include "common/cuda/device_cuda.h"
#include "common/tensor/kernels.h"
#include "tests/tap.h"

#include <stdlib.h>

#ifdef REAL_DOUBLE
#    define BOTH_TOLERANCE 1e-12
#else
#    define BOTH_TOLERANCE 2e-5
#endif

/* Of what is written as bf16: rounding may take two numbers that are almost the same to neighbours, which differ by 2^-7 of
 * the largest at most. */
static inline double both_tolerance(ElementType type) { return type == TYPE_BF16 ? 0x1p-7 : BOTH_TOLERANCE; }

/* The types of activations that this build has. */
static const ElementType both_types[] = {
    TYPE_REAL,
#ifndef REAL_DOUBLE
    TYPE_BF16,
#endif
};

typedef struct {
    Tensor on[2]; /* the CPU's, the GPU's */
} Both;

static Device *both_device[2];

#define ON_BOTH(call)                                                                                        \
    for (int d = 0; d < 2; d++) {                                                                            \
        const Kernels *k = both_device[d]->kernels;                                                          \
        Queue *q = &both_device[d]->queue;                                                                   \
        call;                                                                                                \
    }

static inline void both_start(void) {
    both_device[0] = device_new_cpu(0);
    both_device[1] = device_new_cuda(0, 0);
}

static inline void both_write(Both *b, const void *elements) {
    for (int d = 0; d < 2; d++) tensor_write(&b->on[d], 0, tensor_count(&b->on[d]), elements);
}

/* TYPE_REAL, TYPE_BF16: uniform between -1 and 1. TYPE_F64: zeros. TYPE_I32: not set. */
static inline Both both_new(const char *name, ElementType type, Shape shape) {
    static uint64_t stream;
    Both b;
    for (int d = 0; d < 2; d++) b.on[d] = tensor_new(both_device[d], MEMORY_ACTIVATIONS, name, type, shape);
    void *elements = xcalloc((size_t)max64(1, shape_count(shape)), 8);
    if (type == TYPE_REAL || type == TYPE_BF16)
        rng_fill_uniform(5, ++stream, 0, shape_count(shape), -1, 1, elements);
    for (int64_t i = 0; type == TYPE_BF16 && i < shape_count(shape); i++)
        ((Bf16 *)elements)[i] = bf16_from_float((float)((real *)elements)[i]);
    if (type != TYPE_I32) both_write(&b, elements);
    free(elements);
    return b;
}

static inline void both_free(Both *b) {
    for (int d = 0; d < 2; d++) tensor_free(&b->on[d]);
}

/* The largest difference of the two, over the CPU's largest element. */
static inline double both_difference(const Both *b) {
    int64_t count = tensor_count(&b->on[0]);
    void *x[2] = {tensor_to_host(&b->on[0]), tensor_to_host(&b->on[1])};
    double largest = 0, most = 0;
    for (int64_t i = 0; i < count; i++) {
        double v[2];
        for (int d = 0; d < 2; d++)
            v[d] = b->on[0].type == TYPE_F64    ? ((double *)x[d])[i]
                   : b->on[0].type == TYPE_I32  ? ((int32_t *)x[d])[i]
                   : b->on[0].type == TYPE_BF16 ? bf16_to_float(((Bf16 *)x[d])[i])
                                                : ((real *)x[d])[i];
        largest = worse(largest, fabs(v[0]));
        if (v[0] != v[1]) most = worse(most, fabs(v[0] - v[1])); /* equal infinities differ by nothing */
    }
    free(x[0]);
    free(x[1]);
    return most == 0 ? 0 : most / largest;
}

static inline void both_close(const Both *b, double tolerance, const char *what) {
    double difference = both_difference(b);
    ok(difference <= tolerance, "%s %s: differs by %.2g of the largest, tolerance %.1g", what,
       shape_text(b->on[0].shape).text, difference, tolerance);
}

#endif
