/* Matrix products of a GPU against the CPU's: transposes, bias, sums into what is there, awkward sizes, views at odd
 * addresses, bf16. TEST variants: double-emulated, all: emulated */
#include "common/cpu/kernels_cpu.h"
#include "common/cuda/kernels_cuda.h"
#include "tests/both.h"
#include "tests/tensors.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    bool a_t, b_t, bias, add;
} Form;

static const char *form_text(Form f) {
    static char text[64];
    snprintf(text, sizeof text, "C %s A%s B%s%s", f.add ? "+=" : "=", f.a_t ? "^T" : "", f.b_t ? "^T" : "",
             f.bias ? " + bias" : "");
    return text;
}

static void compare(int64_t M, int64_t N, int64_t K, Form f) {
    Both a = both_new("a", TYPE_REAL, f.a_t ? SHAPE(K, M) : SHAPE(M, K)),
         b = both_new("b", TYPE_REAL, f.b_t ? SHAPE(N, K) : SHAPE(K, N)),
         bias = both_new("bias", TYPE_REAL, SHAPE(N)), c = both_new("c", TYPE_REAL, SHAPE(M, N));
    ON_BOTH(k->matmul(q, &a.on[d], f.a_t, &b.on[d], f.b_t, f.bias ? &bias.on[d] : NULL, &c.on[d], f.add));
    char what[96];
    snprintf(what, sizeof what, "%s, K %lld,", form_text(f), (long long)K);
    both_close(&c, BOTH_TOLERANCE, what);
    both_free(&a);
    both_free(&b);
    both_free(&bias);
    both_free(&c);
}

static void forms(int64_t M, int64_t N, int64_t K) {
    for (int i = 0; i < 8; i++) compare(M, N, K, (Form){.a_t = i & 1, .b_t = i & 2, .add = i & 4});
    compare(M, N, K, (Form){.bias = true});
    compare(M, N, K, (Form){.b_t = true, .bias = true});
}

/* Rows of larger matrices, as a chunk of tokens is; two elements behind an address that a GPU likes. */
static void views(void) {
    Both a = both_new("a", TYPE_REAL, SHAPE(40, 18)), b = both_new("b", TYPE_REAL, SHAPE(18, 22)),
         c = both_new("c", TYPE_REAL, SHAPE(41, 22));
    for (int d = 0; d < 2; d++) {
        Tensor rows = tensor_view(&a.on[d], 1 * 18, SHAPE(13, 18)),
               to = tensor_view(&c.on[d], 22, SHAPE(13, 22));
        both_device[d]->kernels->matmul(&both_device[d]->queue, &rows, false, &b.on[d], false, NULL, &to,
                                        true);
    }
    both_close(&c, BOTH_TOLERANCE, "views, and nothing around them");
    both_free(&a);
    both_free(&b);
    both_free(&c);
}

/* The same product again has the same bits, whatever was formed between. */
static void same_bits(void) {
    Both a = both_new("a", TYPE_REAL, SHAPE(70, 900)), b = both_new("b", TYPE_REAL, SHAPE(50, 900)),
         c = both_new("c", TYPE_REAL, SHAPE(70, 50)), again = both_new("c", TYPE_REAL, SHAPE(70, 50));
    Queue *q = &both_device[1]->queue;
    kernels_cuda.matmul(q, &a.on[1], false, &b.on[1], true, NULL, &c.on[1], false);
    compare(33, 65, 129, (Form){0});
    kernels_cuda.matmul(q, &a.on[1], false, &b.on[1], true, NULL, &again.on[1], false);
    void *first = tensor_to_host(&c.on[1]), *second = tensor_to_host(&again.on[1]);
    ok(memcmp(first, second, sizeof(real[70 * 50])) == 0, "the same bits again");
    free(first);
    free(second);
    both_free(&a);
    both_free(&b);
    both_free(&c);
    both_free(&again);
}

/* A plan is kept, its operands are each call's own. */
static void other_bias(void) {
    Both a = both_new("a", TYPE_REAL, SHAPE(6, 5)), b = both_new("b", TYPE_REAL, SHAPE(5, 7)),
         c = both_new("c", TYPE_REAL, SHAPE(6, 7)), first = both_new("first", TYPE_REAL, SHAPE(7)),
         second = both_new("second", TYPE_REAL, SHAPE(7));
    ON_BOTH(k->matmul(q, &a.on[d], false, &b.on[d], false, &first.on[d], &c.on[d], false));
    ON_BOTH(k->matmul(q, &a.on[d], false, &b.on[d], false, &second.on[d], &c.on[d], false));
    both_close(&c, BOTH_TOLERANCE, "the bias of this call");
    both_free(&a);
    both_free(&b);
    both_free(&c);
    both_free(&first);
    both_free(&second);
}

#ifndef REAL_DOUBLE
static uint16_t to_bf16(float x) {
    uint32_t wide;
    memcpy(&wide, &x, sizeof wide);
    return (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
}
static float from_bf16(uint16_t x) {
    uint32_t wide = (uint32_t)x << 16;
    float y;
    memcpy(&y, &wide, sizeof y);
    return y;
}

/* On the GPU in bf16 what `from` holds; in f32 the same numbers. */
static Tensor in_bf16(Tensor *from) {
    int64_t count = tensor_count(from);
    float *wide = tensor_to_host(from);
    uint16_t *narrow = xmalloc((size_t)count * 2);
    for (int64_t i = 0; i < count; i++) wide[i] = from_bf16(narrow[i] = to_bf16(wide[i]));
    Tensor t = tensor_new(both_device[1], MEMORY_ACTIVATIONS, "bf16", TYPE_BF16, from->shape);
    tensor_write(&t, 0, count, narrow);
    tensor_write(from, 0, count, wide);
    free(wide);
    free(narrow);
    return t;
}

static void bf16(int64_t M, int64_t N, int64_t K, ElementType out, bool with_bias, bool add) {
    Both a = both_new("a", TYPE_REAL, SHAPE(M, K)), b = both_new("b", TYPE_REAL, SHAPE(N, K)),
         bias = both_new("bias", TYPE_REAL, SHAPE(N)), c = both_new("c", TYPE_REAL, SHAPE(M, N));
    Tensor a16 = in_bf16(&a.on[0]), b16 = in_bf16(&b.on[0]), c16 = in_bf16(&c.on[0]);
    copy_elements(&c.on[0], &c.on[1]);
    Tensor *result = out == TYPE_BF16 ? &c16 : &c.on[1];
    Queue *q = &both_device[1]->queue;
    kernels_cpu.matmul(&both_device[0]->queue, &a.on[0], false, &b.on[0], true,
                       with_bias ? &bias.on[0] : NULL, &c.on[0], add);
    kernels_cuda.matmul(q, &a16, false, &b16, true, with_bias ? &bias.on[1] : NULL, result, add);
    float *want = tensor_to_host(&c.on[0]);
    void *got = tensor_to_host(result);
    double largest = 0, most = 0;
    for (int64_t i = 0; i < M * N; i++) {
        double x = out == TYPE_BF16 ? from_bf16(((uint16_t *)got)[i]) : ((float *)got)[i];
        largest = worse(largest, fabs((double)want[i]));
        most = worse(most, fabs(x - want[i]));
    }
    /* sums in f32; then, in bf16, rounded to 8 bits, once more with a bias */
    double tolerance = out == TYPE_BF16 ? (with_bias ? 1 / 128.0 : 1 / 256.0) : BOTH_TOLERANCE;
    ok(most <= tolerance * largest, "bf16 to %s%s%s (%lld,%lld) from %lld: differs by %.2g of the largest",
       out == TYPE_BF16 ? "bf16" : "f32", with_bias ? ", bias" : "", add ? ", added" : "", (long long)M,
       (long long)N, (long long)K, most / largest);
    free(want);
    free(got);
    tensor_free(&a16);
    tensor_free(&b16);
    tensor_free(&c16);
    both_free(&a);
    both_free(&b);
    both_free(&bias);
    both_free(&c);
}
#endif

int main(void) {
    both_start();
    forms(1, 1, 1);
    forms(1, 65, 33);
    forms(67, 1, 130);
    forms(33, 129, 7);
    forms(64, 96, 512);
    compare(3, 50257, 20, (Form){.b_t = true});
    compare(20, 50257, 3, (Form){.a_t = true, .add = true});
    forms(0, 5, 3);
    forms(5, 3, 0);
    views();
    same_bits();
    other_bias();
    ok(cuda_matmul_scratch(NULL, 4096, 4096, 512, false) == 0, "a large result needs no scratch");
    ok(cuda_matmul_scratch(NULL, 128, 128, 8192, false) == 64 * 128 * 128, "a long sum is cut into pieces");
#ifndef REAL_DOUBLE
    for (int i = 0; i < 8; i++) {
        if ((i & 3) == 3) continue; /* no bias where C is added to */
        bf16(35, 70, 600, i & 4 ? TYPE_BF16 : TYPE_REAL, i & 1, i & 2);
    }
    bf16(1, 1, 1, TYPE_BF16, false, false);
#endif
    return tap_done();
}
