/* Rotary positions and attention of a GPU against the CPU's, at awkward sizes: one token, tiles that are not full, heads
 * that no width fits, key heads that serve several. TEST variants: double-emulated, all: emulated */
#include "tests/both.h"
#include "tests/counts.h"

#include <string.h>

typedef struct {
    int64_t B, T, H, K, D;
    double large; /* queries and keys are so much larger than 1: then few weights are far above the others */
} Case;

/* x in this type, instead of x; reals stay. */
static Both in_type(Both x, ElementType type) {
    if (x.on[0].type == type) return x;
    Both y = both_new(x.on[0].name, type, x.on[0].shape);
    ON_BOTH(k->cast(q, &x.on[d], &y.on[d]));
    both_free(&x);
    return y;
}

/* Frees x. bf16 may be rounded to another neighbour: by 2^-8 of itself. */
static void close_and_free(Both x, const char *what) {
    double tolerance = x.on[0].type == TYPE_BF16 ? 0x1p-8 : BOTH_TOLERANCE;
    x = in_type(x, TYPE_REAL);
    both_close(&x, tolerance, what);
    both_free(&x);
}

static Both random_new(const char *name, ElementType type, Shape shape) {
    return in_type(both_new(name, TYPE_REAL, shape), type);
}

static Both qkv_new(Case c, ElementType type) {
    int64_t W = (c.H + 2 * c.K) * c.D, large = (c.H + c.K) * c.D;
    Both qkv = both_new("qkv", TYPE_REAL, SHAPE(c.B, c.T, W));
    real *x = tensor_to_host(&qkv.on[0]);
    for (int64_t i = 0; i < c.B * c.T * W; i++)
        if (i % W < large) x[i] *= (real)c.large;
    both_write(&qkv, x);
    free(x);
    return in_type(qkv, type);
}

static Tensor scratch_new(int d, int64_t B, int64_t T, int64_t H, int64_t D) {
    const Device *device = both_device[d];
    int64_t count = device->kernels->attention_scratch(&device->queue, B, T, H, D);
    return tensor_new(both_device[d], MEMORY_ACTIVATIONS, "scratch", TYPE_REAL, SHAPE(count));
}

static void test_attention(Case c, ElementType type) {
    Both qkv = qkv_new(c, type), dqkv = random_new("dqkv", type, qkv.on[0].shape),
         again = random_new("again", type, qkv.on[0].shape);
    Both out = random_new("out", type, SHAPE(c.B, c.T, c.H * c.D)),
         dout = random_new("dout", type, out.on[0].shape);
    Both lse = both_new("lse", TYPE_REAL, SHAPE(c.B, c.T, c.H));
    printf("# %d query heads, %d key heads, of %d elements, %s\n", (int)c.H, (int)c.K, (int)c.D,
           type == TYPE_BF16 ? "bf16" : "reals");
    ON_BOTH({
        Tensor scratch = scratch_new(d, c.B, c.T, c.H, c.D);
        k->attention(q, &qkv.on[d], c.H, c.K, &out.on[d], &lse.on[d], &scratch);
        k->attention_backward(q, &dout.on[d], &qkv.on[d], &out.on[d], &lse.on[d], c.H, c.K, &dqkv.on[d],
                              &scratch);
        if (d)
            k->attention_backward(q, &dout.on[d], &qkv.on[d], &out.on[d], &lse.on[d], c.H, c.K, &again.on[d],
                                  &scratch);
        tensor_free(&scratch);
    });
    char *first = tensor_to_host(&dqkv.on[1]), *second = tensor_to_host(&again.on[1]);
    ok(!memcmp(first, second, (size_t)tensor_bytes(&dqkv.on[1])), "the same bits twice");
    free(first);
    free(second);
    close_and_free(out, "attention");
    close_and_free(lse, "log-sum-exp");
    close_and_free(dqkv, "attention_backward");
    both_free(&qkv);
    both_free(&again);
    both_free(&dout);
}

/* A prompt, a few tokens, then one. */
static void test_cached(int64_t H, int64_t K, int64_t D, ElementType type) {
    const int64_t fresh[] = {37, 9, 8, 1}, rows = 60;
    Both keys = random_new("keys", type, SHAPE(rows, K * D)),
         values = random_new("values", type, SHAPE(rows, K * D));
    int64_t first = 0;
    for (int i = 0; i < COUNT_OF(fresh); first += fresh[i++]) {
        Both qkv = qkv_new((Case){1, fresh[i], H, K, D, 2}, type);
        Both out = random_new("out", type, SHAPE(1, fresh[i], H * D));
        ON_BOTH({
            Tensor scratch = scratch_new(d, 1, rows, H, D);
            k->attention_cached(q, &qkv.on[d], H, K, first, &keys.on[d], &values.on[d], &out.on[d], &scratch);
            tensor_free(&scratch);
        });
        close_and_free(out, "attention_cached");
        both_free(&qkv);
    }
    keys = in_type(keys, TYPE_REAL), values = in_type(values, TYPE_REAL);
    both_close(&keys, 0, "cached keys");
    both_close(&values, 0, "cached values");
    both_free(&keys);
    both_free(&values);
}

static void test_rope(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D, int64_t first,
                      ElementType type) {
    Both qkv = random_new("qkv", type, SHAPE(B, T, (H + 2 * K) * D)),
         table = both_new("table", TYPE_REAL, SHAPE(first + T, D));
    for (int inverse = 0; inverse < 2; inverse++) {
        Both y = random_new("y", type, qkv.on[0].shape);
        ON_BOTH(k->rope(q, &qkv.on[d], &table.on[d], H, K, first, inverse, &y.on[d]));
        close_and_free(y, inverse ? "rope, inverse" : "rope");
    }
    both_free(&qkv);
    both_free(&table);
}

static void test_type(ElementType type) {
    test_rope(1, 1, 1, 1, 2, 0, type);
    test_rope(2, 5, 4, 2, 80, 3, type);
    test_rope(3, 7, 6, 2, 6, 0, type);
    test_rope(0, 7, 1, 1, 4, 0, type);
    const Case cases[] = {
        {0, 5, 2, 1, 8, 1},    {1, 1, 1, 1, 1, 1},    {2, 3, 2, 1, 5, 1},    {1, 31, 2, 2, 8, 1},
        {3, 33, 4, 2, 16, 2},  {1, 64, 2, 1, 32, 4},  {1, 65, 4, 2, 33, 1},  {1, 100, 2, 2, 64, 4},
        {1, 130, 1, 1, 80, 1}, {1, 33, 2, 1, 128, 1}, {1, 40, 1, 1, 200, 2}, {1, 66, 1, 1, 256, 1},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) test_attention(cases[i], type);
    test_cached(4, 2, 16, type);
    test_cached(3, 1, 72, type);
}

int main(void) {
    both_start();
    test_type(TYPE_REAL);
    const char *const kernels[] = {
        "rope_kernel",           "attention_kernel",         "cache_kernel",
        "attention_keys_kernel", "attention_queries_kernel", "attention_delta_kernel"};
    for (int i = 0; i < COUNT_OF(kernels); i++) memory_used_well(kernels[i]);
#ifndef REAL_DOUBLE
    test_type(TYPE_BF16);
#endif
    return tap_done();
}
