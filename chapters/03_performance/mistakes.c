#include "chapters/03_performance/mistakes.h"

#include "common/base/interrupt.h"
#include "common/base/rng.h"
#include "common/cpu/device_cpu.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

/* ---- variants of one thing, in turn ---- */

enum { MOST_TIMES = 1000 };
typedef struct {
    char *what;
    void (*run)(void *context);
    void *context;
    double work; /* in the unit of the table */
    double seconds[MOST_TIMES];
} Variant;

static Variant variant(char *what, void (*run)(void *context), void *context, double work) {
    return (Variant){.what = what, .run = run, .context = context, .work = work};
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs all of them in turn, and prints the median time of each, its work per second, and its time relative
 * to the first. */
static void compare(const char *title, const char *unit, Variant *variants, int count, double seconds) {
    double began = now_seconds(), median[8];
    int times = 0;
    for (int v = 0; v < count; v++) variants[v].run(variants[v].context); /* warms up */
    do
        for (int v = 0; v < count; v++) {
            double start = now_seconds();
            variants[v].run(variants[v].context);
            variants[v].seconds[times] = now_seconds() - start;
        }
    while (++times < MOST_TIMES && now_seconds() - began < seconds * count && !interrupt_requested());
    printf("\n%-44s %9s %9s %7s\n", title, "ms", unit, "times");
    for (int v = 0; v < count; v++) {
        qsort(variants[v].seconds, (size_t)times, sizeof(double), ascending);
        median[v] = variants[v].seconds[times / 2];
        printf("  %-42s %9.3f %9.1f %7.2f\n", variants[v].what, 1e3 * median[v], variants[v].work / median[v],
               median[v] / median[0]);
        free(variants[v].what);
    }
    fflush(stdout);
}

/* (rows,columns) of random numbers between -1 and 1, each times `scale`, in the host's memory. */
static real *random_matrix(int64_t rows, int64_t columns, real scale) {
    real *values = xmalloc((size_t)(rows * columns) * sizeof *values);
    rng_fill_uniform(1, rng_stream("mistakes"), 0, rows * columns, -1, 1, values);
    for (int64_t i = 0; i < rows * columns; i++) values[i] *= scale;
    return values;
}

static Tensor scaled_matrix(Device *device, int64_t rows, int64_t columns, real scale) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, "matrix", TYPE_REAL, SHAPE(rows, columns));
    real *values = random_matrix(rows, columns, scale);
    tensor_write(&t, 0, rows * columns, values);
    free(values);
    return t;
}

static Tensor matrix(Device *device, int64_t rows, int64_t columns) {
    return scaled_matrix(device, rows, columns, 1);
}

/* ---- too many threads ---- */

typedef struct {
    Timed *timed;
    int threads;
} Threads;

static void step_with_threads(void *context) {
    const Threads *t = context;
    t->timed->subject->device->queue.threads = t->threads;
    omp_set_num_threads(t->threads);
    timed_step(t->timed);
}

static void too_many_threads(const Config *c, Dataset *data, double seconds) {
    enum { VARIANTS = 3 };
    Subject subject = subject_new(c, data);
    Timed timed = timed_new(&subject, c->micro_batch, c->num_microbatches);
    int all = subject.device->queue.threads;
    Threads threads[VARIANTS] = {{&timed, all}, {&timed, 2 * all}, {&timed, 4 * all}};
    Variant v[VARIANTS];
    for (int i = 0; i < VARIANTS; i++)
        v[i] = variant(xprintf("%s threads", i == 0   ? "as many"
                                             : i == 1 ? "twice as many"
                                                      : "four times as many"),
                       step_with_threads, &threads[i], (double)timed_tokens(&timed));
    char *title = xprintf("a training step; the machine gives %d threads", all);
    compare(title, "tokens/s", v, VARIANTS, seconds);
    free(title);
    omp_set_num_threads(all);
    timed_free(&timed);
    subject_free(&subject);
}

/* ---- a padded vocabulary ---- */

/* What head and loss do to one chunk of rows: x (R,C), head (V,C), logits (R,V). */
typedef struct {
    Device *device;
    Tensor x, head, logits, dx, dhead, targets, row_loss, loss;
} Head;

static void head_and_loss(void *context) {
    Head *h = context;
    const Kernels *k = h->device->kernels;
    Queue *q = &h->device->queue;
    k->matmul(q, &h->x, false, &h->head, true, NULL, &h->logits, false);
    k->softmax_cross_entropy(q, &h->logits, &h->targets, 0, &h->row_loss, &h->loss);
    k->matmul(q, &h->logits, false, &h->head, false, NULL, &h->dx, false);
    k->matmul(q, &h->logits, true, &h->x, false, NULL, &h->dhead, false);
}

static Head head_new(Device *device, int64_t R, int64_t C, int64_t V) {
    Head h = {.device = device,
              .x = matrix(device, R, C),
              .head = matrix(device, V, C),
              .logits = matrix(device, R, V),
              .dx = matrix(device, R, C),
              .dhead = matrix(device, V, C),
              .targets = tensor_new(device, MEMORY_ACTIVATIONS, "targets", TYPE_I32, SHAPE(R)),
              .row_loss = matrix(device, 1, R),
              .loss = tensor_new(device, MEMORY_ACTIVATIONS, "loss", TYPE_F64, SHAPE(1))};
    int32_t *targets = xmalloc((size_t)R * sizeof *targets);
    for (int64_t r = 0; r < R; r++) targets[r] = (int32_t)r;
    tensor_write(&h.targets, 0, R, targets);
    tensor_write(&h.loss, 0, 1, &(double){0});
    free(targets);
    return h;
}

static void head_free(Head *h) {
    Tensor *const all[] = {&h->x,     &h->head,    &h->logits,   &h->dx,
                           &h->dhead, &h->targets, &h->row_loss, &h->loss};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
}

static void padded_vocabulary(Device *device, double seconds) {
    enum { ROWS = 256, WIDTH = 256, REAL_TOKENS = 50257, VARIANTS = 3 };
    static const int64_t sizes[VARIANTS] = {50257, 50304, 50432}; /* as it is; a multiple of 64; of 256 */
    Head heads[VARIANTS];
    Variant v[VARIANTS];
    for (int i = 0; i < VARIANTS; i++) {
        heads[i] = head_new(device, ROWS, WIDTH, sizes[i]);
        v[i] = variant(xprintf("vocabulary of %" PRId64, sizes[i]), head_and_loss, &heads[i],
                       6e-9 * ROWS * WIDTH * REAL_TOKENS);
    }
    compare("head and loss, 256 rows, 50257 real tokens", "GFLOP/s", v, VARIANTS, seconds);
    for (int i = 0; i < VARIANTS; i++) head_free(&heads[i]);
}

/* ---- transposed operands ---- */

typedef struct {
    Device *device;
    Tensor A, B, C;
    bool a_t, b_t;
} Product;

static void multiply(void *context) {
    Product *p = context;
    p->device->kernels->matmul(&p->device->queue, &p->A, p->a_t, &p->B, p->b_t, NULL, &p->C, false);
}

static void transposed_product(Device *device, bool openblas, double seconds) {
    enum { M = 1024, N = 512, K = 128, VARIANTS = 3 };
    static const char *const names[VARIANTS] = {"A B", "A B^T: B lies transposed",
                                                "A^T B: A lies transposed"};
    Product p[VARIANTS];
    Variant v[VARIANTS];
    for (int i = 0; i < VARIANTS; i++) {
        p[i] = (Product){.device = device,
                         .a_t = i == 2,
                         .b_t = i == 1,
                         .A = i == 2 ? matrix(device, K, M) : matrix(device, M, K),
                         .B = i == 1 ? matrix(device, N, K) : matrix(device, K, N),
                         .C = matrix(device, M, N)};
        v[i] = variant(xstrdup(names[i]), multiply, &p[i], 2e-9 * M * N * K);
    }
    device->queue.openblas = openblas;
    compare(openblas ? "the same by OpenBLAS" : "a product of 1024 x 512 x 128, our own", "GFLOP/s", v,
            VARIANTS, seconds);
    device->queue.openblas = false;
    for (int i = 0; i < VARIANTS; i++) {
        tensor_free(&p[i].A);
        tensor_free(&p[i].B);
        tensor_free(&p[i].C);
    }
}

/* y[i][j] += x[i][j], or x[j][i]: a loop of one's own over matrices of (n,n). */
typedef struct {
    real *x, *y;
    int64_t n;
} Square;

static void add_straight(void *context) {
    const Square *s = context;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < s->n; j++) s->y[i * s->n + j] += s->x[i * s->n + j];
}

static void add_transposed(void *context) {
    const Square *s = context;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < s->n; j++) s->y[i * s->n + j] += s->x[j * s->n + i];
}

static void transposed_loop(double seconds) {
    enum { N = 2048 };
    real *x = random_matrix(N, N, 1), *y = random_matrix(N, N, 1);
    Square even = {x, y, N}, odd = {x, y, N - 1};
    double gigabytes = 3e-9 * N * N * sizeof(real);
    Variant v[] = {
        variant(xstrdup("y[i][j] += x[i][j]"), add_straight, &even, gigabytes),
        variant(xstrdup("y[i][j] += x[j][i]"), add_transposed, &even, gigabytes),
        variant(xstrdup("the same with 2047 x 2047"), add_transposed, &odd, gigabytes),
    };
    compare("a loop of one's own, 2048 x 2048, one thread", "GB/s", v, COUNT_OF(v), seconds);
    free(x);
    free(y);
}

/* ---- denormals: numbers below the smallest that has all its digits, 1e-38 in single precision ---- */

typedef struct {
    Device *device;
    Tensor w, g, m, v;
} Small;

static Small small_new(Device *device, real size) {
    enum { N = 512 };
    Small s = {device, matrix(device, N, N), scaled_matrix(device, N, N, size), matrix(device, N, N),
               matrix(device, N, N)};
    real *moments = xmalloc(N * N * sizeof *moments);
    for (int64_t i = 0; i < N * N; i++) moments[i] = size;
    tensor_write(&s.m, 0, N * N, moments);
    tensor_write(&s.v, 0, N * N, moments);
    free(moments);
    return s;
}

static void small_free(Small *s) {
    tensor_free(&s->w);
    tensor_free(&s->g);
    tensor_free(&s->m);
    tensor_free(&s->v);
}

/* The moments as they are, for ever: like those of a token that never occurs. */
static void small_update(void *context) {
    Small *s = context;
    AdamwStep step = {.beta1 = 0.9999999, .beta2 = 0.9999999, .eps = 1e-8, .step = 1};
    s->device->kernels->adamw(&s->device->queue, &s->w, &s->g, &s->m, &s->v, NULL, &step);
}

static void small_product(void *context) {
    Small *s = context;
    s->device->kernels->matmul(&s->device->queue, &s->w, false, &s->g, false, NULL, &s->m, false);
}

static void denormals(Device *device, double seconds) {
    const real tiny = sizeof(real) == sizeof(float) ? (real)1e-40 : (real)1e-310, usual = (real)1e-3;
    enum { VARIANTS = 2 };
    static void (*const runs[])(void *) = {small_update, small_product};
    static const char *const titles[] = {"AdamW on 512 x 512", "a product of 512 x 512 x 512"};
    static const char *const units[] = {"GB/s", "GFLOP/s"};
    double work[] = {7e-9 * 512 * 512 * sizeof(real), 2e-9 * 512 * 512 * 512};
    for (int r = 0; r < COUNT_OF(runs); r++) {
        Small small[VARIANTS] = {small_new(device, usual), small_new(device, tiny)};
        Variant v[VARIANTS];
        for (int i = 0; i < VARIANTS; i++)
            v[i] = variant(xstrdup(i ? "of denormals" : "of usual numbers"), runs[r], &small[i], work[r]);
        compare(titles[r], units[r], v, VARIANTS, seconds);
        for (int i = 0; i < VARIANTS; i++) small_free(&small[i]);
    }
}

void mistakes_measure(const Config *c, Dataset *data, double seconds) {
    Device *device = device_new_cpu(0);
    too_many_threads(c, data, seconds);
    padded_vocabulary(device, seconds);
    transposed_product(device, false, seconds);
    transposed_product(device, true, seconds);
    transposed_loop(seconds);
    denormals(device, seconds);
    device_delete(device);
}
