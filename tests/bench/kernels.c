/* Every kernel of a training step against its floor, on the sizes that it has in a preset's step.
 *
 *   build/bench/kernels --preset tiny            a line of JSON for each kernel, read by tests/bench/bench.py
 *
 * What streams through memory is held against a copy of as many bytes, products against a large SGEMM, in the same round.
 * Rounds go over all kernels again and again, so that a machine that is slow for a while is so for all of them. */
#include "common/config/args.h"
#include "common/run/machine.h"
#include "tests/bench/products.h"
#include "tests/bench/training.h"
#include "tests/tensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 100 };

typedef struct {
    int64_t rounds;
    double seconds;
} Options;
static Options options = {.rounds = 7, .seconds = 0.01};

static const Flag own[] = {
    INT_FLAG(Options, 0, "rounds", rounds, 1, ROUNDS_MAX, "times that each kernel gets its turn"),
    REAL_FLAG(Options, 0, "seconds", seconds, 0, 60, ENDS_INCLUDED, "how long a turn is, at least one call"),
};

static const Program program = {
    .about = "measures every kernel of a training step",
    .example = "--preset minigpt --rounds 5",
    .groups = ARGS_MODEL | ARGS_BATCH | ARGS_TRAIN | ARGS_RUN,
    .own = own,
    .own_count = COUNT_OF(own),
    .values = &options,
};

/* ---- a kernel with its operands ---- */

enum { OPERANDS = 6, CASES_MAX = 128 };

typedef struct Case Case;
struct Case {
    const char *name;
    void (*run)(const Kernels *k, Queue *q, const Case *c);
    Tensor t[OPERANDS]; /* in the order in which `run` hands them on */
    int64_t H, K;       /* of attention */
    double bytes;       /* that must move, each input read and each output written once; 0 for a product */
    double flops;       /* of a product */
    Product product;    /* of a matmul or of the head with its loss ... */
    int64_t calls;      /* ... and how often a step calls it */
    double seconds[ROUNDS_MAX];       /* of a call */
    double floor_seconds[ROUNDS_MAX]; /* of copying as many bytes, or of as many FLOPs in a large SGEMM */
};

#define RUN(name) static void name(const Kernels *k, Queue *q, const Case *c)
#define T(i)      ((Tensor *)(uintptr_t)&c->t[i])
RUN(add) { k->add(q, T(0), T(1), T(2)); }
RUN(accumulate) { k->accumulate(q, T(0), T(1)); }
RUN(layernorm) { k->layernorm(q, T(0), T(1), T(2), 1e-5, T(3), T(4)); }
RUN(layernorm_backward) { k->layernorm_backward(q, T(0), T(1), T(2), T(3), T(4), false); }
RUN(norm_backward_param) { k->norm_backward_param(q, T(0), T(1), T(2), T(3), T(4)); }
RUN(relu) { k->relu(q, T(0), T(1)); }
RUN(relu_backward) { k->relu_backward(q, T(0), T(1), T(2), false); }
RUN(gelu) { k->gelu(q, T(0), T(1)); }
RUN(gelu_backward) { k->gelu_backward(q, T(0), T(1), T(2), false); }
RUN(swiglu) { k->swiglu(q, T(0), T(1)); }
RUN(swiglu_backward) { k->swiglu_backward(q, T(0), T(1), T(2), false); }
RUN(dropout) { k->dropout(q, T(0), 0.1, 1, 1, 0, 0, T(1), false); }
RUN(embedding) { k->embedding(q, T(0), T(1), 0, T(2), 0, T(3)); }
RUN(embedding_backward) { k->embedding_backward(q, T(0), T(1), 0, T(2)); }
RUN(rope) { k->rope(q, T(0), T(1), c->H, c->K, 0, false, T(2)); }
RUN(softmax_cross_entropy) { k->softmax_cross_entropy(q, T(0), T(1), 0, T(2), T(3)); }
RUN(squares) { k->squares(q, T(0), T(1)); }
RUN(adamw) { k->adamw(q, T(0), T(1), T(2), T(3), NULL, &(AdamwStep){1e-3, 0.9, 0.95, 1e-8, 0.1, 10}); }
RUN(attention) { k->attention(q, T(0), c->H, c->K, T(1), T(2), T(3)); }
RUN(attention_backward) { k->attention_backward(q, T(0), T(1), T(2), T(3), c->H, c->K, T(4), T(5)); }
RUN(matmul) {
    const Product *p = &c->product;
    k->matmul(q, &p->A, p->a_t, &p->B, p->b_t, p->has_bias ? &p->bias : NULL, (Tensor *)(uintptr_t)&p->C,
              p->add);
}
RUN(head_loss) {
    const Product *p = &c->product;
    k->head_loss(q, &p->A, &p->B, p->has_bias ? &p->bias : NULL, T(0), 0, (Tensor *)(uintptr_t)&p->dx,
                 (Tensor *)(uintptr_t)&p->dw, p->has_bias ? T(1) : NULL, p->add, T(2),
                 (Tensor *)(uintptr_t)&p->C);
}

typedef struct {
    Training training;
    Products products; /* of one step */
    Case *cases;
    int count;
} Bench;

static Case *case_new(Bench *b, const char *name, void (*run)(const Kernels *, Queue *, const Case *)) {
    ASSERT(b->count < CASES_MAX);
    Case *c = &b->cases[b->count++];
    *c = (Case){.name = name, .run = run, .H = b->training.config.model.H, .K = b->training.config.model.K};
    return c;
}

/* A kernel that moves so many elements, with operands of these shapes, filled with numbers in [-1, 1). */
static Case *streaming_case(Bench *b, const char *name, void (*run)(const Kernels *, Queue *, const Case *),
                            double elements, const Shape *shapes, int operands) {
    Case *c = case_new(b, name, run);
    c->bytes = elements * sizeof(real);
    for (int i = 0; i < operands; i++) {
        c->t[i] = tensor_new(b->training.device, MEMORY_ACTIVATIONS, name, TYPE_REAL, shapes[i]);
        fill_uniform(&c->t[i], 1, (uint64_t)i, -1, 1);
    }
    return c;
}
#define STREAMING(kernel, elements, ...)                                                                     \
    streaming_case(b, #kernel, kernel, elements, (Shape[]){__VA_ARGS__},                                     \
                   (int)(sizeof((Shape[]){__VA_ARGS__}) / sizeof(Shape)))

static void use_instead(Case *c, int operand, Tensor t) {
    tensor_free(&c->t[operand]);
    c->t[operand] = t;
}

static void clear(Bench *b, Tensor *t) { b->training.device->kernels->zero(&b->training.device->queue, t); }

/* ---- what a step calls ---- */

static void add_activation_cases(Bench *b) {
    const ModelConfig *m = &b->training.config.model;
    int64_t R = b->training.config.micro_batch * m->T, C = m->C, F = m->F;
    double x = (double)(R * C), h = (double)(R * F);
    Shape X = SHAPE(R, C), H = SHAPE(R, F), gate_up = SHAPE(R, 2 * F), gain = SHAPE(C), stats = SHAPE(R, 2);
    STREAMING(add, 3 * x, X, X, X);
    STREAMING(accumulate, 3 * x, X, X);
    STREAMING(layernorm, 2 * x, X, gain, gain, X, stats);
    STREAMING(layernorm_backward, 3 * x, X, X, gain, stats, X);
    STREAMING(norm_backward_param, 2 * x, X, X, stats, gain, gain);
    STREAMING(dropout, 2 * x, X, X);
    STREAMING(gelu, 2 * h, H, H);
    STREAMING(gelu_backward, 3 * h, H, H, H);
    STREAMING(relu, 2 * h, H, H);
    STREAMING(relu_backward, 3 * h, H, H, H);
    STREAMING(swiglu, 3 * h, gate_up, H);
    STREAMING(swiglu_backward, 5 * h, H, gate_up, gate_up);
    Shape qkv = SHAPE(b->training.config.micro_batch, m->T, (m->H + 2 * m->K) * C / m->H);
    STREAMING(rope, 2 * (double)shape_count(qkv), qkv, SHAPE(m->T, C / m->H), qkv);
}

/* How many rows of the table a micro-batch reads. */
static int64_t distinct(const Tensor *ids, int64_t V) {
    bool *seen = xcalloc((size_t)V, sizeof *seen);
    int64_t count = 0;
    int32_t *id = tensor_to_host(ids);
    for (int64_t i = 0; i < tensor_count(ids); i++) {
        count += !seen[id[i]];
        seen[id[i]] = true;
    }
    free(id);
    free(seen);
    return count;
}

static void add_vocabulary_cases(Bench *b) {
    const Config *config = &b->training.config;
    const ModelConfig *m = &config->model;
    Batch part = batch_rows(&b->training.batch, 0, config->micro_batch);
    int64_t R = tensor_count(&part.ids), C = m->C, V = m->V, chunk = R;
    for (int64_t i = 0; i < b->products.count; i++) /* logits are formed for some rows at a time */
        if (product_size(&b->products.items[i]).N == V)
            chunk = min64(chunk, product_size(&b->products.items[i]).M);
    double x = (double)(R * C), rows = (double)(distinct(&part.ids, V) * C), table = (double)(V * C);
    Shape X = SHAPE(config->micro_batch, m->T, C), whole = SHAPE(V, C), ids = SHAPE(1);
    Case *c = STREAMING(embedding, rows + x, ids, whole, SHAPE(m->T, C), X);
    use_instead(c, 0, part.ids);
    c = STREAMING(embedding_backward, x + 2 * rows, ids, X, whole);
    use_instead(c, 0, part.ids);
    c = STREAMING(softmax_cross_entropy, 2 * (double)(chunk * V), SHAPE(chunk, V), ids, SHAPE(chunk),
                  SHAPE(2));
    use_instead(c, 1, part.targets);
    clear(b, &c->t[3]);
    STREAMING(squares, table, whole, SHAPE(2 * ceil_div(V * C, 1024)));
    c = STREAMING(adamw, 7 * table, whole, whole, whole, whole);
    clear(b, &c->t[3]); /* the second moment is no negative number */
}

static void add_attention_cases(Bench *b) {
    const ModelConfig *m = &b->training.config.model;
    int64_t B = b->training.config.micro_batch, T = m->T, C = m->C, D = C / m->H;
    const Kernels *k = b->training.device->kernels;
    Shape qkv = SHAPE(B, T, (m->H + 2 * m->K) * D), out = SHAPE(B, T, C), lse = SHAPE(B, T, m->H);
    Shape scratch = SHAPE(k->attention_scratch(&b->training.device->queue, B, T, m->H, D));
    Case *forward = STREAMING(attention, 0, qkv, out, lse, scratch);
    Case *backward = STREAMING(attention_backward, 0, out, qkv, out, lse, qkv, scratch);
    for (int i = 0; i < 3; i++) use_instead(backward, 1 + i, forward->t[i]); /* that belong together */
    forward->flops =
        product_flops(&(Product){.kind = PRODUCT_ATTENTION, .A = forward->t[0], .H = m->H, .K = m->K});
    backward->flops = 2.5 * forward->flops;
}

static bool same_product(const Product *a, const Product *b) {
    ProductSize x = product_size(a), y = product_size(b);
    return a->kind == b->kind && x.M == y.M && x.N == y.N && x.K == y.K && a->a_t == b->a_t &&
           a->b_t == b->b_t && a->has_bias == b->has_bias && a->add == b->add;
}

/* Head and loss of some rows, which form their logits and all three gradients. */
static void add_head_case(Bench *b) {
    const Config *config = &b->training.config;
    Case *c = STREAMING(head_loss, 0, SHAPE(1), SHAPE(config->model.V), SHAPE(2));
    use_instead(c, 0, batch_rows(&b->training.batch, 0, config->micro_batch).targets);
    clear(b, &c->t[2]);
    for (int64_t i = 0; i < b->products.count; i++) {
        if (b->products.items[i].kind != PRODUCT_HEAD) continue;
        c->product = b->products.items[i];
        c->product.b_t = true; /* how it reads its weight */
        c->calls++;
    }
    c->flops = product_flops(&c->product);
}

static void add_matmul_cases(Bench *b) {
    int first = b->count;
    for (int64_t i = 0; i < b->products.count; i++) {
        const Product *p = &b->products.items[i];
        if (p->kind != PRODUCT_MATMUL) continue;
        int at = first;
        while (at < b->count && !same_product(&b->cases[at].product, p)) at++;
        if (at == b->count) {
            Case *c = case_new(b, "matmul", matmul);
            c->product = *p;
            c->flops = product_flops(p);
        }
        b->cases[at].calls++;
    }
}

/* ---- measuring ---- */

/* Two buffers of bytes / 2, each thread with its share. */
static void copy(char *to, const char *from, int64_t bytes, int threads) {
#pragma omp parallel num_threads(threads)
    {
        int64_t share = ceil_div(ceil_div(bytes, omp_get_num_threads()), 64) * 64;
        int64_t begin = min64(bytes, share * omp_get_thread_num()), end = min64(bytes, begin + share);
        memcpy(to + begin, from + begin, (size_t)(end - begin));
    }
}

typedef struct {
    Tensor from, to;
} CopyBuffers;

/* The fastest call in a turn. */
static double copy_seconds(Bench *b, const CopyBuffers *buffers, double bytes) {
    double best = INFINITY, began = now_seconds(), last = began;
    do {
        copy(buffers->to.data, buffers->from.data, (int64_t)(bytes / 2), b->training.device->queue.threads);
        double now = now_seconds();
        best = fmin(best, now - last);
        last = now;
    } while (last - began < options.seconds);
    return best;
}

static double case_seconds(Bench *b, const Case *c) {
    Device *device = b->training.device;
    double best = INFINITY, began = now_seconds(), last = began;
    do {
        c->run(device->kernels, &device->queue, c);
        double now = now_seconds();
        best = fmin(best, now - last);
        last = now;
    } while (last - began < options.seconds);
    return best;
}

static void measure(Bench *b) {
    double most = 0;
    for (int i = 0; i < b->count; i++) most = b->cases[i].bytes > most ? b->cases[i].bytes : most;
    Shape half = SHAPE((int64_t)(most / 2 / sizeof(real)) + 1);
    Device *device = b->training.device;
    CopyBuffers buffers = {tensor_new(device, MEMORY_ACTIVATIONS, "copy", TYPE_REAL, half),
                           tensor_new(device, MEMORY_ACTIVATIONS, "copy", TYPE_REAL, half)};
    clear(b, &buffers.from);
    clear(b, &buffers.to);
    for (int64_t round = 0; round < options.rounds; round++) {
        double peak = 1e9 * machine_peak_gflops(device, TYPE_REAL);
        for (int i = 0; i < b->count; i++) {
            Case *c = &b->cases[i];
            c->floor_seconds[round] = c->bytes > 0 ? copy_seconds(b, &buffers, c->bytes) : c->flops / peak;
            c->seconds[round] = case_seconds(b, c);
        }
    }
    tensor_free(&buffers.from);
    tensor_free(&buffers.to);
}

/* ---- the answer ---- */

static json_t *numbers(const double *values) {
    json_t *list = json_array();
    for (int64_t i = 0; i < options.rounds; i++) json_array_append_new(list, json_real(values[i]));
    return list;
}

/* "1024 x 384 x 128 A B' + bias": M, N and K, and which operands are transposed. */
static char *matmul_text(const Product *p) {
    ProductSize size = product_size(p);
    return xprintf("%" PRId64 " x %" PRId64 " x %" PRId64 " %s %s%s%s", size.M, size.N, size.K,
                   p->a_t ? "A'" : "A", p->b_t ? "B'" : "B", p->has_bias ? " + bias" : "",
                   p->add ? ", added" : "");
}

static void print_case(const Case *c) {
    char *shape = c->product.A.data ? matmul_text(&c->product)
                                    : xstrdup(shape_text(c->t[c->run == embedding ? 3 : 0].shape).text);
    json_t *json = json_pack("{s:s, s:s, s:f, s:f, s:I, s:o, s:o}", "name", c->name, "shape", shape, "bytes",
                             c->bytes, "flops", c->flops, "calls", (json_int_t)c->calls, "seconds",
                             numbers(c->seconds), "floor", numbers(c->floor_seconds));
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("%s\n", text);
    free(text);
    free(shape);
    json_decref(json);
}

int main(int argc, char **argv) {
    Config config = args_parse(argc, argv, &program);
    Bench b = {.training = bench_training(&config), .cases = xcalloc(CASES_MAX, sizeof(Case))};
    products_record(b.training.device, &b.products);
    training_gradient(&b.training, 0);
    products_record(b.training.device, NULL);

    add_activation_cases(&b);
    add_vocabulary_cases(&b);
    add_attention_cases(&b);
    add_head_case(&b);
    add_matmul_cases(&b);
    measure(&b);
    for (int i = 0; i < b.count; i++) print_case(&b.cases[i]);
    return 0;
}
