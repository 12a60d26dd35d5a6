/* TEST variants: float, all: asan
 * Each kernel on bf16 against itself on reals: the same numbers, widened before and rounded after. The same bits, as
 * all is summed in the same order; sizes that are multiples of nothing. One thread and two give the same bits. */
#include "common/base/bf16.h"
#include "common/cpu/device_cpu.h"
#include "tests/tap.h"
#include "tests/tensors.h"

/* What an operand is to its kernel: INPUT, OUTPUT and ADDED are bf16 in one of the two calls, the others are as they are
 * in both. A letter each, in a case's line. */
typedef enum {
    INPUT = 'x',
    OUTPUT = 'y',
    ADDED = 'z', /* read as well */
    REAL_INPUT = 'X',
    REAL_OUTPUT = 'Y',
    REAL_ADDED = 'Z',
    LOSS = 'L', /* a double, added to */
    WORDS = 'i' /* ids below VOCABULARY, some of them -1 */
} Kind;

enum {
    MOST = 8,
    B = 3,
    T = 37,
    H = 6,
    K = 2,
    D = 10,
    C = H * D,
    W = (H + 2 * K) * D,
    R = B * T,
    F = 70,
    VOCABULARY = 307
};

typedef struct {
    Kind kind;
    Shape shape;
} Operand;
#define IS(kind, ...)                                                                                        \
    {                                                                                                        \
        kind, {                                                                                              \
            (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), { __VA_ARGS__ }                       \
        }                                                                                                    \
    }

typedef struct {
    const char *name;
    void (*call)(const Kernels *k, Queue *q, Tensor *t);
    Operand operands[MOST];
} Case;

static Device *device;

static bool is_typed(Kind kind) { return kind == INPUT || kind == OUTPUT || kind == ADDED; }
static ElementType type_of(Kind kind, bool narrow) {
    return kind == LOSS               ? TYPE_F64
           : kind == WORDS            ? TYPE_I32
           : narrow && is_typed(kind) ? TYPE_BF16
                                      : TYPE_REAL;
}

/* Numbers that are bf16, as reals, or ids. */
static void fill(Tensor *t, Kind kind, uint64_t stream) {
    int64_t count = tensor_count(t);
    Tensor reals = tensor_new(device, MEMORY_ACTIVATIONS, "reals", TYPE_REAL, t->shape);
    if (kind == WORDS) {
        int32_t *ids = xmalloc((size_t)tensor_bytes(t));
        for (int64_t i = 0; i < count; i++)
            ids[i] = (int32_t)(rng_uniform(1, stream, (uint64_t)i) * (VOCABULARY + 8)) - 1;
        for (int64_t i = 0; i < count; i++) ids[i] = ids[i] >= VOCABULARY ? -1 : ids[i];
        tensor_write(t, 0, count, ids);
        free(ids);
    } else if (kind == LOSS) {
        tensor_write(t, 0, 1, &(double){1.5});
    } else {
        Tensor narrow = tensor_new(device, MEMORY_ACTIVATIONS, "narrow", TYPE_BF16, t->shape);
        fill_normal(&reals, 1, stream, 1);
        device->kernels->cast(&device->queue, &reals, &narrow);
        if (t->type == TYPE_BF16)
            device->kernels->copy(&device->queue, &narrow, t);
        else
            device->kernels->cast(&device->queue, &narrow, t);
        tensor_free(&narrow);
    }
    tensor_free(&reals);
}

static int run(const Case *c, bool narrow, int threads, Tensor *t) {
    int count = 0;
    device->queue.threads = threads;
    for (; count < MOST && c->operands[count].kind; count++) {
        const Operand *o = &c->operands[count];
        t[count] = tensor_new(device, MEMORY_ACTIVATIONS, c->name, type_of(o->kind, narrow), o->shape);
        fill(&t[count], o->kind, (uint64_t)count);
    }
    c->call(device->kernels, &device->queue, t);
    return count;
}

static bool is_result(Kind kind) {
    return kind == OUTPUT || kind == ADDED || kind == REAL_OUTPUT || kind == REAL_ADDED || kind == LOSS;
}

static double number_at(const Tensor *t, int64_t i) {
    double wide = 0;
    real value = 0;
    Bf16 narrow = {0};
    if (t->type == TYPE_F64)
        tensor_read(t, i, 1, &wide);
    else
        tensor_read(t, i, 1, t->type == TYPE_BF16 ? (void *)&narrow : &value);
    return wide + (double)value + (double)bf16_to_float(narrow);
}

/* Off by at most a step of bf16 at the largest; for what is not rounded, a thousandth of that. */
static bool are_near(const Tensor *got, const Tensor *want) {
    double most = 0, off = 0;
    for (int64_t i = 0; i < tensor_count(want); i++) {
        most = worse(most, fabs(number_at(want, i)));
        off = worse(off, fabs(number_at(got, i) - number_at(want, i)));
    }
    return off <= most * (got->type == TYPE_BF16 ? 0x1p-7 : 0x1p-17);
}

static void test_case(const Case *c, bool near) {
    Tensor real_ones[MOST], one[MOST], two[MOST];
    run(c, false, 1, real_ones);
    run(c, true, 1, one);
    int count = run(c, true, 2, two);
    bool same = true, threads = true;
    for (int i = 0; i < count; i++) {
        Kind kind = c->operands[i].kind;
        if (is_result(kind)) threads &= same_elements(&one[i], &two[i]);
        if (!is_result(kind)) continue;
        Tensor want = tensor_new(device, MEMORY_ACTIVATIONS, "want", one[i].type, one[i].shape);
        if (is_typed(kind))
            device->kernels->cast(&device->queue, &real_ones[i], &want);
        else
            copy_elements(&real_ones[i], &want);
        same &= near ? are_near(&one[i], &want) : same_elements(&one[i], &want);
        tensor_free(&want);
    }
    for (int i = 0; i < count; i++) tensor_free(&one[i]), tensor_free(&two[i]), tensor_free(&real_ones[i]);
    ok(same, "%s: %s on reals, rounded once", c->name, near ? "nearly as" : "as");
    ok(threads, "%s: the same bits by two threads", c->name);
}

/* ---- the kernels ---- */

#define CALL(name, ...)                                                                                      \
    static void name(const Kernels *k, Queue *q, Tensor *t) { __VA_ARGS__; }

CALL(add, k->add(q, t, t + 1, t + 2))
CALL(accumulate, k->accumulate(q, t, t + 1))
CALL(copy, k->copy(q, t, t + 1))
CALL(zero, k->zero(q, t))
CALL(slice, k->copy_slice(q, t, 5, t + 1, 7, 2, 31, false))
CALL(slice_added, k->copy_slice(q, t, 3, t + 1, 0, 1, 20, true))
CALL(scale, k->scale(q, t, t + 1, t + 2, false))
CALL(scale_added, k->scale(q, t, t + 1, t + 2, true))
CALL(scale_in_place, k->scale(q, t, t + 1, t + 1, false))
CALL(product, k->matmul(q, t, false, t + 1, false, t + 2, t + 3, false))
CALL(product_added, k->matmul(q, t, false, t + 1, false, NULL, t + 2, true))
CALL(product_a_t, k->matmul(q, t, true, t + 1, false, NULL, t + 2, false))
CALL(product_b_t, k->matmul(q, t, false, t + 1, true, NULL, t + 2, false))
CALL(add_row, k->add_row(q, t, t + 1, t + 2))
CALL(sum_rows, k->sum_rows(q, t, t + 1, false))
CALL(look_up, k->embedding(q, t, t + 1, 0, t + 2, 4, t + 3))
CALL(look_up_part, k->embedding(q, t, t + 1, 100, NULL, 0, t + 2))
CALL(look_up_backward, k->embedding_backward(q, t, t + 1, 0, t + 2))
CALL(position_backward, k->position_backward(q, t, 4, t + 1))
CALL(layernorm, k->layernorm(q, t, t + 1, t + 2, 1e-5, t + 3, t + 4))
CALL(layernorm_backward, k->layernorm_backward(q, t, t + 1, t + 2, t + 3, t + 4, true))
CALL(norm_backward_param, k->norm_backward_param(q, t, t + 1, t + 2, t + 3, t + 4))
CALL(rmsnorm, k->rmsnorm(q, t, t + 1, 1e-5, t + 2, t + 3))
CALL(rmsnorm_backward, k->rmsnorm_backward(q, t, t + 1, t + 2, t + 3, t + 4, false))
CALL(relu, k->relu(q, t, t + 1))
CALL(relu_backward, k->relu_backward(q, t, t + 1, t + 2, false))
CALL(gelu, k->gelu(q, t, t + 1))
CALL(gelu_backward, k->gelu_backward(q, t, t + 1, t + 2, true))
CALL(swiglu, k->swiglu(q, t, t + 1))
CALL(swiglu_backward, k->swiglu_backward(q, t, t + 1, t + 2, true))
CALL(dropout, k->dropout(q, t, 0.3, 5, 6, 17, 0, t + 1, false))
CALL(dropout_windows, k->dropout(q, t, 0.3, 5, 6, 17, 5000, t + 1, true))
CALL(rope, k->rope(q, t, t + 1, H, K, 3, false, t + 2))
CALL(rope_backward, k->rope(q, t, t + 1, H, K, 0, true, t + 2))

/* What a kernel takes as scratch, given back behind it. */
static Tensor scratch_of(int64_t count) {
    return tensor_new(device, MEMORY_ACTIVATIONS, "scratch", TYPE_REAL, SHAPE(count));
}
#define CALL_WITH(name, count, ...)                                                                          \
    CALL(name, Tensor scratch = scratch_of(count); __VA_ARGS__; tensor_free(&scratch))

CALL_WITH(attention, k->attention_scratch(q, B, T, H, D), k->attention(q, t, H, K, t + 1, t + 2, &scratch))
CALL_WITH(attention_backward, k->attention_scratch(q, B, T, H, D),
          k->attention_backward(q, t, t + 1, t + 2, t + 3, H, K, t + 4, &scratch))
CALL_WITH(attention_cached, k->attention_scratch(q, 1, T, H, D),
          k->attention_cached(q, t, H, K, 9, t + 1, t + 2, t + 3, &scratch))
CALL_WITH(head, k->head_loss_scratch(q, R, C, VOCABULARY, true),
          k->head_loss(q, t, t + 1, t + 2, t + 3, 0, t + 4, t + 5, t + 6, true, t + 7, &scratch))
CALL_WITH(head_alone, k->head_loss_scratch(q, R, C, VOCABULARY, false),
          k->head_loss(q, t, t + 1, NULL, t + 2, 0, NULL, NULL, NULL, false, t + 3, &scratch))
CALL(squared_error, k->squared_error(q, t, t + 1, t + 2, t + 3))

#define WHOLE B, T, C

static const Case cases[] = {
    {"zero", zero, {IS(OUTPUT, WHOLE)}},
    {"copy", copy, {IS(INPUT, WHOLE), IS(OUTPUT, WHOLE)}},
    {"add", add, {IS(INPUT, WHOLE), IS(INPUT, WHOLE), IS(OUTPUT, WHOLE)}},
    {"accumulate", accumulate, {IS(INPUT, WHOLE), IS(ADDED, WHOLE)}},
    {"accumulate many", accumulate, {IS(INPUT, 300, 1001), IS(ADDED, 300, 1001)}},
    {"accumulate into reals", accumulate, {IS(INPUT, WHOLE), IS(REAL_ADDED, WHOLE)}},
    {"copy_slice", slice, {IS(INPUT, B, T, 40), IS(ADDED, B, T, 50)}},
    {"copy_slice, added", slice_added, {IS(INPUT, B, 29, C), IS(ADDED, B, 21, C)}},
    {"scale", scale, {IS(REAL_INPUT, 1), IS(INPUT, WHOLE), IS(OUTPUT, WHOLE)}},
    {"scale, added", scale_added, {IS(REAL_INPUT, 1), IS(INPUT, WHOLE), IS(ADDED, WHOLE)}},
    {"scale in place", scale_in_place, {IS(REAL_INPUT, 1), IS(ADDED, WHOLE)}},
    {"matmul with bias",
     product,
     {IS(INPUT, 517, 401), IS(INPUT, 401, 330), IS(REAL_INPUT, 330), IS(OUTPUT, 517, 330)}},
    {"matmul, few rows",
     product,
     {IS(INPUT, 5, 401), IS(INPUT, 401, 67), IS(REAL_INPUT, 67), IS(OUTPUT, 5, 67)}},
    {"matmul, added", product_added, {IS(INPUT, R, C), IS(INPUT, C, F), IS(ADDED, R, F)}},
    {"matmul, nothing to sum",
     product,
     {IS(INPUT, 5, 0), IS(INPUT, 0, 67), IS(REAL_INPUT, 67), IS(OUTPUT, 5, 67)}},
    {"matmul of the transpose into reals",
     product_a_t,
     {IS(INPUT, 600, 300), IS(INPUT, 600, 290), IS(REAL_OUTPUT, 300, 290)}},
    {"matmul by the transpose", product_b_t, {IS(INPUT, R, F), IS(INPUT, C, F), IS(OUTPUT, R, C)}},
    {"matmul by the transpose, many rows",
     product_b_t,
     {IS(INPUT, 300, 210), IS(INPUT, 77, 210), IS(OUTPUT, 300, 77)}},
    {"matmul by the transpose, into reals",
     product_b_t,
     {IS(INPUT, 300, 210), IS(INPUT, 77, 210), IS(REAL_OUTPUT, 300, 77)}},
    {"add_row", add_row, {IS(INPUT, WHOLE), IS(REAL_INPUT, C), IS(OUTPUT, WHOLE)}},
    {"sum_rows", sum_rows, {IS(INPUT, 700, 131), IS(REAL_OUTPUT, 131)}},
    {"embedding",
     look_up,
     {IS(WORDS, 12, T), IS(INPUT, VOCABULARY, C), IS(INPUT, T + 4, C), IS(OUTPUT, 12, T, C)}},
    {"embedding, some of the words", look_up_part, {IS(WORDS, B, T), IS(INPUT, 90, C), IS(OUTPUT, WHOLE)}},
    {"embedding_backward",
     look_up_backward,
     {IS(WORDS, B, T), IS(INPUT, WHOLE), IS(REAL_ADDED, VOCABULARY, C)}},
    {"position_backward", position_backward, {IS(INPUT, WHOLE), IS(REAL_OUTPUT, T + 9, C)}},
    {"layernorm",
     layernorm,
     {IS(INPUT, WHOLE), IS(REAL_INPUT, C), IS(REAL_INPUT, C), IS(OUTPUT, WHOLE), IS(REAL_OUTPUT, R, 2)}},
    {"layernorm_backward",
     layernorm_backward,
     {IS(INPUT, WHOLE), IS(INPUT, WHOLE), IS(REAL_INPUT, C), IS(REAL_INPUT, R, 2), IS(ADDED, WHOLE)}},
    {"norm_backward_param",
     norm_backward_param,
     {IS(INPUT, WHOLE), IS(INPUT, WHOLE), IS(REAL_INPUT, R, 2), IS(REAL_OUTPUT, C), IS(REAL_OUTPUT, C)}},
    {"rmsnorm",
     rmsnorm,
     {IS(INPUT, 700, 131), IS(REAL_INPUT, 131), IS(OUTPUT, 700, 131), IS(REAL_OUTPUT, 700, 2)}},
    {"rmsnorm_backward",
     rmsnorm_backward,
     {IS(INPUT, WHOLE), IS(INPUT, WHOLE), IS(REAL_INPUT, C), IS(REAL_INPUT, R, 2), IS(OUTPUT, WHOLE)}},
    {"relu", relu, {IS(INPUT, WHOLE), IS(OUTPUT, WHOLE)}},
    {"relu_backward", relu_backward, {IS(INPUT, WHOLE), IS(INPUT, WHOLE), IS(OUTPUT, WHOLE)}},
    {"gelu", gelu, {IS(INPUT, 300, 1001), IS(OUTPUT, 300, 1001)}},
    {"gelu_backward", gelu_backward, {IS(INPUT, WHOLE), IS(INPUT, WHOLE), IS(ADDED, WHOLE)}},
    {"swiglu", swiglu, {IS(INPUT, R, 2 * F), IS(OUTPUT, R, F)}},
    {"swiglu_backward", swiglu_backward, {IS(INPUT, R, F), IS(INPUT, R, 2 * F), IS(ADDED, R, 2 * F)}},
    {"dropout", dropout, {IS(INPUT, 300, 1001), IS(OUTPUT, 300, 1001)}},
    {"dropout on slices of windows", dropout_windows, {IS(INPUT, WHOLE), IS(ADDED, WHOLE)}},
    {"rope", rope, {IS(INPUT, B, T, W), IS(REAL_INPUT, T + 3, D), IS(OUTPUT, B, T, W)}},
    {"rope on a long window", rope, {IS(INPUT, 2, 300, W), IS(REAL_INPUT, 303, D), IS(OUTPUT, 2, 300, W)}},
    {"rope, backward", rope_backward, {IS(INPUT, B, T, W), IS(REAL_INPUT, T, D), IS(OUTPUT, B, T, W)}},
    {"attention", attention, {IS(INPUT, B, T, W), IS(OUTPUT, WHOLE), IS(REAL_OUTPUT, B, T, H)}},
    {"attention_backward",
     attention_backward,
     {IS(INPUT, WHOLE), IS(INPUT, B, T, W), IS(INPUT, WHOLE), IS(REAL_INPUT, B, T, H), IS(OUTPUT, B, T, W)}},
    {"attention_cached",
     attention_cached,
     {IS(INPUT, 1, 4, W), IS(ADDED, T, K *D), IS(ADDED, T, K *D), IS(OUTPUT, 1, 4, C)}},
    {"head_loss",
     head,
     {IS(INPUT, R, C), IS(INPUT, VOCABULARY, C), IS(REAL_INPUT, VOCABULARY), IS(WORDS, R), IS(OUTPUT, R, C),
      IS(REAL_ADDED, VOCABULARY, C), IS(REAL_ADDED, VOCABULARY), IS(LOSS, 1)}},
    {"head_loss, the loss alone",
     head_alone,
     {IS(INPUT, R, C), IS(INPUT, VOCABULARY, C), IS(WORDS, R), IS(LOSS, 1)}},
};
/* ... which sum in another order, and are off by at most a step of the largest. */
static const Case near_cases[] = {
    {"squared_error",
     squared_error,
     {IS(INPUT, 300, 1001), IS(REAL_INPUT, 300, 1001), IS(OUTPUT, 300, 1001), IS(LOSS, 1)}},
    {"matmul, one row by the transpose",
     product_b_t,
     {IS(INPUT, 1, 401), IS(INPUT, 67, 401), IS(OUTPUT, 1, 67)}},
};

int main(void) {
    device = device_new_cpu(0);
    for (int i = 0; i < COUNT_OF(cases); i++) test_case(&cases[i], false);
    for (int i = 0; i < COUNT_OF(near_cases); i++) test_case(&near_cases[i], true);
    device_delete(device);
    return tap_done();
}
