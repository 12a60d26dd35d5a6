/* tensors: elements of a device's tensors, for tests that look at or set them one by one. */
#ifndef TENSORS_H
#define TENSORS_H

#include "common/base/rng.h"
#include "common/tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

/* Element i, in the order of memory, of a TYPE_REAL tensor. */
static inline real real_at(const Tensor *t, int64_t i) {
    real value;
    tensor_read(t, i, 1, &value);
    return value;
}

static inline void set_real_at(Tensor *t, int64_t i, real value) { tensor_write(t, i, 1, &value); }

/* Sets all to one value. */
static inline void fill_constant(Tensor *t, real value) {
    real *values = xmalloc((size_t)tensor_bytes(t));
    for (int64_t i = 0; i < tensor_count(t); i++) values[i] = value;
    tensor_write(t, 0, tensor_count(t), values);
    free(values);
}

/* Elements 0, 1, 2 .. of a stream of random numbers: uniform in [low, high); of a normal distribution. */
static inline void fill_uniform(Tensor *t, uint64_t seed, uint64_t stream, double low, double high) {
    real *values = xmalloc((size_t)tensor_bytes(t));
    rng_fill_uniform(seed, stream, 0, tensor_count(t), low, high, values);
    tensor_write(t, 0, tensor_count(t), values);
    free(values);
}
static inline void fill_normal(Tensor *t, uint64_t seed, uint64_t stream, double deviation) {
    real *values = xmalloc((size_t)tensor_bytes(t));
    rng_fill_normal(seed, stream, 0, tensor_count(t), deviation, values);
    tensor_write(t, 0, tensor_count(t), values);
    free(values);
}

static inline void copy_elements(const Tensor *from, Tensor *to) {
    void *elements = tensor_to_host(from);
    tensor_write(to, 0, tensor_count(to), elements);
    free(elements);
}

/* Both have the same bytes. */
static inline bool same_elements(const Tensor *a, const Tensor *b) {
    void *x = tensor_to_host(a), *y = tensor_to_host(b);
    bool same = tensor_bytes(a) == tensor_bytes(b) && memcmp(x, y, (size_t)tensor_bytes(a)) == 0;
    free(x);
    free(y);
    return same;
}

#endif
