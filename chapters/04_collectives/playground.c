#include "chapters/04_collectives/playground.h"

#include "common/comm/clock.h"
#include "common/tensor/kernels.h"
#include "common/base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* The mesh has an axis for each of the three. Here nothing is cut into stages, so its middle axis shards weights. */
enum { MESH_FSDP = MESH_PIPE };

typedef struct {
    const Playground *p;
    Mesh mesh;
    Device *device;
    Queue *q;
    const Kernels *k;
    int d, f, t;     /* degrees */
    int64_t b, D, F; /* of this device: rows of the batch; D whole; columns of W1 and W2 */
    Tensor *w,
        *dw; /* W1 and W2 of each layer, (D/f,F) Shard(0) along fsdp, Shard(1) along tensor; gradients */
    Tensor *x,
        *h; /* x (b,D), layers + 1 of them, Shard(0) along data and fsdp; h = x W1 (b,F) Shard(1) along tensor */
    Tensor dx, dh; /* gradients of the layer at hand */
    Tensor whole,
        dwhole; /* (D,F): a gathered weight, and its gradient before it is scattered; only with fsdp > 1 */
} Stack;

/* ---- the pieces ---- */

static Tensor *tensors_new(Stack *s, MemoryClass class, const char *name, int64_t count, Shape shape) {
    Tensor *all = xcalloc((size_t)count, sizeof *all);
    for (int64_t i = 0; i < count; i++) all[i] = tensor_new(s->device, class, name, TYPE_REAL, shape);
    return all;
}

/* Rows and columns of a matrix of `columns` columns that this device has: element (i, j) of the whole is the same number,
 * however it is cut. */
static void fill(Tensor *t, uint64_t seed, const char *name, int64_t number, int64_t row, int64_t column,
                 int64_t columns, double deviation) {
    char *full = xprintf("playground.%s.%" PRId64, name, number);
    int64_t mine = tensor_columns(t);
    real *values = xmalloc((size_t)mine * sizeof *values);
    for (int64_t i = 0; i < tensor_rows(t); i++) {
        rng_fill_normal(seed, rng_stream(full), (uint64_t)((row + i) * columns + column), mine, deviation,
                        values);
        tensor_write(t, i * mine, mine, values);
    }
    free(values);
    free(full);
}

/* The lesson's device once more: by the same clock, with an account of memory of its own, and a queue for what lies there. */
static Device *lesson_device(const Lesson *lesson, int64_t budget) {
    Device *device = device_new(lesson->device->kernels, lesson->device->backend, budget);
    void *stream = device->queue.stream;
    device->queue = lesson->device->queue;
    device->queue.device = device;
    device->queue.stream = stream;
    return device;
}

static Stack stack_new(const Lesson *lesson, const Playground *p, const int degree[MESH_AXES]) {
    Stack s = {.p = p,
               .mesh = mesh_new(lesson->world, degree),
               .device = lesson_device(lesson, p->run->device_memory)};
    const int *at = s.mesh.coordinate;
    s.q = &s.device->queue;
    s.k = s.device->kernels;
    s.d = degree[MESH_DATA], s.f = degree[MESH_FSDP], s.t = degree[MESH_TENSOR];
    s.b = p->batch / (s.d * s.f), s.D = p->D, s.F = p->F / s.t;
    Shape shard = SHAPE(s.D / s.f, s.F), inputs = SHAPE(s.b, s.D), inner = SHAPE(s.b, s.F),
          full = SHAPE(s.D, s.F);
    s.w = tensors_new(&s, MEMORY_PARAMETERS, "weight", 2 * p->layers, shard);
    s.dw = tensors_new(&s, MEMORY_GRADIENTS, "gradient", 2 * p->layers, shard);
    s.x = tensors_new(&s, MEMORY_ACTIVATIONS, "x", p->layers + 1, inputs);
    s.h = tensors_new(&s, MEMORY_ACTIVATIONS, "h", p->layers, inner);
    s.dx = tensor_new(s.device, MEMORY_ACTIVATIONS, "dx", TYPE_REAL, inputs);
    s.dh = tensor_new(s.device, MEMORY_ACTIVATIONS, "dh", TYPE_REAL, inner);
    if (s.f > 1) {
        s.whole = tensor_new(s.device, MEMORY_COMMUNICATION, "gathered weight", TYPE_REAL, full);
        s.dwhole = tensor_new(s.device, MEMORY_COMMUNICATION, "its gradient", TYPE_REAL, full);
    }
    for (int64_t i = 0; i < 2 * p->layers; i++) /* an output is as large as an input, roughly */
        fill(&s.w[i], p->run->seed, "w", i, at[MESH_FSDP] * (s.D / s.f), at[MESH_TENSOR] * s.F, p->F,
             1 / sqrt((double)(i % 2 ? p->F : p->D)));
    fill(&s.x[0], p->run->seed, "x", 0, (at[MESH_DATA] * s.f + at[MESH_FSDP]) * s.b, 0, p->D, 1);
    return s;
}

static void tensors_free(Tensor *all, int64_t count) {
    for (int64_t i = 0; i < count; i++) tensor_free(&all[i]);
    free(all);
}

static void stack_free(Stack *s) {
    int64_t layers = s->p->layers;
    tensors_free(s->w, 2 * layers);
    tensors_free(s->dw, 2 * layers);
    tensors_free(s->x, layers + 1);
    tensors_free(s->h, layers);
    tensor_free(&s->dx);
    tensor_free(&s->dh);
    if (s->f > 1) {
        tensor_free(&s->whole);
        tensor_free(&s->dwhole);
    }
    device_delete(s->device);
    mesh_close(&s->mesh);
}

/* ---- a step ---- */

/* The whole weight, (D,F), for as long as no other one is gathered. */
static const Tensor *gathered(Stack *s, int64_t i) {
    if (s->f == 1) return &s->w[i];
    comm_all_gather(s->mesh.axis[MESH_FSDP], s->q, s->w[i].data, s->whole.data, tensor_count(&s->w[i]),
                    TYPE_REAL);
    return &s->whole;
}

static void sum_over(Stack *s, int axis, Tensor *t) {
    if (s->mesh.size[axis] > 1)
        comm_all_reduce(s->mesh.axis[axis], s->q, t->data, t->data, tensor_count(t), TYPE_REAL, REDUCE_SUM);
}

/* dW_i (D,F) = a^T c, from the rows of this device: added up over those that have other rows. */
static void weight_gradient(Stack *s, int64_t i, const Tensor *a, const Tensor *c) {
    Tensor *dw = s->f > 1 ? &s->dwhole : &s->dw[i];
    s->k->matmul(s->q, a, true, c, false, NULL, dw, false);
    if (s->f > 1)
        comm_reduce_scatter(s->mesh.axis[MESH_FSDP], s->q, dw->data, s->dw[i].data, tensor_count(&s->dw[i]),
                            TYPE_REAL, REDUCE_SUM);
    sum_over(s, MESH_DATA, &s->dw[i]);
}

static void forward(Stack *s) {
    for (int64_t l = 0; l < s->p->layers; l++) {
        s->k->matmul(s->q, &s->x[l], false, gathered(s, 2 * l), false, NULL, &s->h[l], false);
        s->k->matmul(s->q, &s->h[l], false, gathered(s, 2 * l + 1), true, NULL, &s->x[l + 1], false);
        sum_over(s, MESH_TENSOR, &s->x[l + 1]); /* each had its own columns of h */
    }
}

static void backward(Stack *s) {
    s->k->copy(s->q, &s->x[s->p->layers], &s->dx); /* of half the sum of squares */
    for (int64_t l = s->p->layers; l-- > 0;) {
        s->k->matmul(s->q, &s->dx, false, gathered(s, 2 * l + 1), false, NULL, &s->dh, false);
        weight_gradient(s, 2 * l + 1, &s->dx, &s->h[l]);
        weight_gradient(s, 2 * l, &s->x[l], &s->dh);
        if (l == 0) break; /* nobody asks for the gradient of the input */
        s->k->matmul(s->q, &s->dh, false, gathered(s, 2 * l), true, NULL, &s->dx, false);
        sum_over(s, MESH_TENSOR, &s->dx);
    }
}

/* ---- predicted ---- */

static int64_t predicted_memory(const Stack *s, int64_t bytes[MEMORY_CLASSES]) {
    int64_t L = s->p->layers, e = element_bytes(TYPE_REAL), sum = 0;
    for (int c = 0; c < MEMORY_CLASSES; c++) bytes[c] = 0;
    bytes[MEMORY_PARAMETERS] = bytes[MEMORY_GRADIENTS] = 2 * L * s->D * s->F / s->f * e;
    bytes[MEMORY_ACTIVATIONS] = ((L + 2) * s->b * s->D + (L + 1) * s->b * s->F) * e;
    bytes[MEMORY_COMMUNICATION] = s->f > 1 ? 2 * s->D * s->F * e : 0;
    for (int c = 0; c < MEMORY_CLASSES; c++) sum += bytes[c];
    return sum;
}

/* Of all devices in a step. */
static int64_t predicted_bytes(const Stack *s) {
    int64_t L = s->p->layers, e = element_bytes(TYPE_REAL), n = s->d * s->f * s->t;
    int64_t weight = s->D * s->F * e, rows = s->b * s->D * e;
    int64_t gathers = n / s->f * (s->f - 1) * weight;           /* one weight, all groups along fsdp */
    int64_t sums = n / s->d * 2 * (s->d - 1) * (weight / s->f); /* its gradient, along data */
    int64_t outputs = n / s->t * 2 * (s->t - 1) * rows;         /* of one layer, along tensor */
    return (4 * L + 2 * L - 1) * gathers + 2 * L * sums + (2 * L - 1) * outputs;
}

/* ---- one sharding ---- */

static double sum_of_squares(const Tensor *t) {
    double sum = 0;
    real *values = tensor_to_host(t);
    for (int64_t i = 0; i < tensor_count(t); i++) sum += (double)values[i] * (double)values[i];
    free(values);
    return sum;
}

typedef struct {
    double outputs, gradients; /* sums of squares over all devices, each number once */
} Fingerprint;

static Fingerprint fingerprint(const Lesson *lesson, const Stack *s) {
    double mine[2] = {sum_of_squares(&s->x[s->p->layers]) / s->t, 0};
    for (int64_t i = 0; i < 2 * s->p->layers; i++) mine[1] += sum_of_squares(&s->dw[i]) / s->d;
    Queue host = queue_of_host(s->q);
    comm_all_reduce(lesson->console, &host, mine, mine, 2, TYPE_F64, REDUCE_SUM);
    return (Fingerprint){mine[0], mine[1]};
}

static double relative(double a, double b) { return fabs(a - b) / fabs(b); }

/* What all shardings have in common: what the first one computed, and how far another one was from it at most. */
typedef struct {
    Fingerprint first; /* outputs 0: there was none yet */
    double apart;
} Agreement;

/* The most bytes that a product holds while it runs: on a CPU a transposed weight, on a GPU pieces of a sum. */
static int64_t product_bytes(const Stack *s) {
    int64_t h = s->k->matmul_scratch(s->q, s->b, s->F, s->D, false),
            x = s->k->matmul_scratch(s->q, s->b, s->D, s->F, true),
            dw = s->k->matmul_scratch(s->q, s->D, s->F, s->b, false);
    return max64(max64(h, x), dw) * element_bytes(TYPE_REAL);
}

/* Memory that is held is what was predicted, class by class; beyond that a product's own while it runs. */
static bool memory_is_right(const Stack *s, const int64_t predicted[MEMORY_CLASSES], int64_t all) {
    const MemoryUse *use = &s->device->memory;
    bool right = use->joint_peak == all + product_bytes(s);
    for (int c = 0; c < MEMORY_CLASSES; c++) right &= use->now[c] == predicted[c];
    return right;
}

static double in_mb(int64_t bytes) { return 1e-6 * (double)bytes; }

/* Runs it and prints its line. */
static bool run(const Lesson *lesson, const Playground *p, const int degree[MESH_AXES], Agreement *agreement,
                json_t *results) {
    Stack s = stack_new(lesson, p, degree);
    double *seconds = xmalloc((size_t)p->tries * sizeof *seconds);
    int64_t bytes = 0, memory[MEMORY_CLASSES], held = 0;
    for (int64_t i = -1; i < p->tries; i++) { /* the first one warms up */
        bytes = lesson_bytes(lesson);
        comm_barrier(lesson->console, s.q);
        double began = queue_now(s.q);
        forward(&s);
        backward(&s);
        device_sync(s.device, s.q);
        double mine = lesson_largest(lesson, queue_now(s.q) - began);
        if (i >= 0) seconds[i] = mine;
        bytes = lesson_total(lesson, lesson_bytes(lesson) - bytes);
    }
    Fingerprint print = fingerprint(lesson, &s);
    if (agreement->first.outputs == 0) agreement->first = print;
    agreement->apart = lesson_worse(agreement->apart, relative(print.outputs, agreement->first.outputs));
    agreement->apart = lesson_worse(agreement->apart, relative(print.gradients, agreement->first.gradients));

    int64_t predicted = predicted_memory(&s, memory), moves = predicted_bytes(&s);
    for (int c = 0; c < MEMORY_CLASSES; c++) held += s.device->memory.now[c];
    double flops = (double)(12 * p->layers - 2) * (double)(s.b * s.D * s.F);
    double time = lesson_median(seconds, (int)p->tries);
    printf("%4d %4d %6d %9.3f %8.3f %8.3f %8.3f %6.4g %8.3f %10.3f %6.4g %9.3f %8.1f\n", s.d, s.f, s.t,
           in_mb(memory[MEMORY_PARAMETERS] + memory[MEMORY_GRADIENTS]), in_mb(memory[MEMORY_ACTIVATIONS]),
           in_mb(memory[MEMORY_COMMUNICATION]), in_mb(predicted), (double)held / (double)predicted,
           in_mb(s.device->memory.joint_peak), in_mb(bytes), moves ? (double)bytes / (double)moves : 1,
           1e3 * time, 1e-9 * flops / time);
    bool right = memory_is_right(&s, memory, predicted) && bytes == moves;
    json_array_append_new(results, json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:f}", "data", s.d, "fsdp", s.f,
                                             "tensor", s.t, "held_bytes", (json_int_t)held, "peak_bytes",
                                             (json_int_t)s.device->memory.joint_peak, "moved_bytes",
                                             (json_int_t)bytes, "step_s", time));
    free(seconds);
    stack_free(&s);
    return lesson_largest(lesson, !right) == 0;
}

/* ---- all that the degrees leave ---- */

static bool fits(const Playground *p, int n, int64_t d, int64_t f, int64_t t) {
    return d * f * t == n && (!p->data || d == p->data) && (!p->fsdp || f == p->fsdp) &&
           (!p->tensor || t == p->tensor) && p->batch % (d * f) == 0 && p->D % f == 0 && p->F % t == 0;
}

int playground_count(const Playground *p, int n) {
    int count = 0;
    for (int t = 1; t <= n; t++)
        for (int f = 1; f <= n; f++)
            for (int d = 1; d <= n; d++) count += fits(p, n, d, f, t);
    return count;
}

bool playground_run(const Lesson *lesson, const Playground *p, json_t *results) {
    const double rounding = 1e-4; /* of sums in another order, in single precision, squared and added up */
    Agreement agreement = {{0, 0}, 0};
    if (!playground_count(p, lesson->world->size)) {
        printf("these sizes cannot be cut for %d devices in any way\n", lesson->world->size);
        return true;
    }
    bool right = true;
    int n = lesson->world->size;
    printf("%" PRId64 " layers of x W1 W2^T, W1 and W2 (%" PRId64 ", %" PRId64
           "): %.3f M weights; batch %" PRId64 "\n",
           p->layers, p->D, p->F, 1e-6 * (double)(2 * p->layers * p->D * p->F), p->batch);
    printf("    degrees       MB on each device, predicted                    at its   MB moved\n"
           "data fsdp tensor   weights  x and h gathered      all  ratio     peak     a step  ratio        "
           "ms  GFLOP/s\n");
    for (int t = 1; t <= n; t++)
        for (int f = 1; f <= n; f++)
            for (int d = 1; d <= n; d++)
                if (fits(p, n, d, f, t))
                    right &= run(lesson, p, (const int[MESH_AXES]){d, f, t}, &agreement, results);
    printf("sums of squares of outputs and gradients: %.5g, %.5g; shardings are apart by %.0e at most\n",
           agreement.first.outputs, agreement.first.gradients, agreement.apart);
    return right && agreement.apart <= rounding;
}
