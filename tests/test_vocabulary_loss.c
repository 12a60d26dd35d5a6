/* The head with its loss, its words cut over the devices: against op_head_loss of one device with all of them. Loss, and the
 * gradients of x, head and bias; several chunks of rows; masked targets; logits that overflow an exponential; words that
 * the devices do not divide, and devices without any. What is padding has no say and no gradient.
 *
 * TEST np: 1 2 4, all: 3 8
 * TEST variants: float double */
#include "chapters/08_tensor_parallel/vocabulary.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;
static Mesh mesh;
static const double rounding = sizeof(real) == 8 ? 1e-13 : 3e-5;

enum { C = 20 };

/* One head and what its loss leaves. */
typedef struct {
    Device *device;
    Params params;
    Param *head, *bias;
    Tape *tape;
    Tensor *x, *loss;
} Head;

/* Rows first .. of a table of V words, `rows` of them with padding. */
static Param *table(Head *h, const char *name, Shape whole, int64_t first, int64_t rows, double size) {
    Shape shape = whole;
    shape.size[0] = rows;
    int64_t V = whole.size[0];
    Param *p = params_add(&h->params, name, shape);
    p->slice.whole = whole;
    p->slice.first[0] = min64(first, V);
    p->slice.count[0] = max64(min64(V - first, rows), 0);
    p->slice.size = rows;
    param_start(p, (Start){START_NORMAL, size, 3});
    return p;
}

/* The first rows are so large that their logits are in the thousands. */
static void fill_x(Tensor *x) {
    real *values = xmalloc((size_t)tensor_bytes(x));
    rng_fill_normal(3, rng_stream("x"), 0, tensor_count(x), 1, values);
    for (int i = 0; i < 2 * C; i++) values[i] *= 300;
    tensor_write(x, 0, tensor_count(x), values);
    free(values);
}

static Head *head_new(int64_t rows, int64_t V, bool bias, bool cut) {
    Head *h = xcalloc(1, sizeof *h);
    int64_t share = cut ? ceil_div(V, world->size) : V, first = cut ? world->rank * share : 0;
    h->device = h->params.device = device_new_cpu(0);
    h->head = table(h, "head.weight", SHAPE(V, C), first, share, 1);
    if (bias) h->bias = table(h, "head.bias", SHAPE(V), first, share, 1);
    if (cut) h->head->data.place[MESH_TENSOR] = (Place){PLACE_SHARD, 0};
    if (cut && bias) h->bias->data.place[MESH_TENSOR] = (Place){PLACE_SHARD, 0};
    h->tape = tape_new(h->device, true);
    h->x = tape_tensor(h->tape, "x", TYPE_REAL, SHAPE(rows, C), NULL);
    if (cut) h->x->place[MESH_TENSOR] = (Place){PLACE_PRIVATE, 0};
    fill_x(h->x);
    return h;
}

static void head_delete(Head *h) {
    tape_delete(h->tape);
    params_free(&h->params);
    device_delete(h->device);
    free(h);
}

static Tensor random_targets(Device *device, int64_t rows, int64_t V) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, "targets", TYPE_I32, SHAPE(rows));
    Rng rng = {3, rng_stream("targets"), 0};
    for (int64_t i = 0; i < rows; i++) {
        int32_t id = rng_below(&rng, 5) == 0 ? -1 : (int32_t)rng_below(&rng, (uint32_t)V);
        tensor_write(&t, i, 1, &id);
    }
    return t;
}

/* The largest difference, relative to the largest of b. part: a's elements are those from `first` on of b, and zeros. */
static double off(const real *a, int64_t count, const real *b, int64_t first, int64_t real_count,
                  int64_t whole) {
    double error = 0, largest = 0;
    for (int64_t i = 0; i < whole; i++) largest = worse(largest, fabs((double)b[i]));
    for (int64_t i = 0; i < count; i++)
        error = worse(error, fabs((double)a[i] - (i < real_count ? (double)b[first + i] : 0)));
    return largest > 0 ? error / largest : error;
}

static double off_slice(const Param *slice, const Param *whole) {
    int64_t columns = tensor_count(&whole->data) / whole->data.shape.size[0];
    real *a = tensor_to_host(&slice->grad[0]), *b = tensor_to_host(&whole->grad[0]);
    double error = off(a, tensor_count(&slice->data), b, slice->slice.first[0] * columns,
                       slice->slice.count[0] * columns, tensor_count(&whole->data));
    free(a);
    free(b);
    return error;
}

static void test_loss(int64_t rows, int64_t V, bool bias) {
    Head *one = head_new(rows, V, bias, false), *cut = head_new(rows, V, bias, true);
    Tensor targets = random_targets(one->device, rows, V), same = random_targets(cut->device, rows, V),
           seed = tensor_new(one->device, MEMORY_ACTIVATIONS, "seed", TYPE_REAL, SHAPE(1)),
           seed_too = tensor_new(cut->device, MEMORY_ACTIVATIONS, "seed", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&seed, 0.25);
    tensor_set_scalar(&seed_too, 0.25);
    Comm *comm = mesh.axis[MESH_TENSOR];
    one->loss = op_head_loss(one->tape, one->x, one->head, one->bias, 0, &targets);
    double want = tensor_scalar(one->loss);
    tape_backward(one->tape, one->loss, &seed);
    int64_t before = comm->counts[COMM_ALL_REDUCE].bytes;
    cut->loss =
        op_vocabulary_head_loss(cut->tape, &mesh, MESH_TENSOR, cut->x, cut->head, cut->bias, 0, &same);
    double bytes = (double)(comm->counts[COMM_ALL_REDUCE].bytes - before), got = tensor_scalar(cut->loss);
    tape_backward(cut->tape, cut->loss, &seed_too);
    comm_all_reduce(world, NULL, &bytes, &bytes, 1, TYPE_F64, REDUCE_SUM);
    char name[64];
    snprintf(name, sizeof name, "%d rows, %d words%s", (int)rows, (int)V, bias ? ", bias" : "");
    ok_on_all(world, fabs(got / want - 1) <= rounding, "%s: loss %.10g of %.10g", name, got, want);
    ok_on_all(world, bytes == 2.0 * (world->size - 1) * 3 * (double)rows * (double)sizeof(real),
              "%s: three numbers a row", name);
    real *dx = tensor_to_host(cut->x->grad), *whole = tensor_to_host(one->x->grad);
    comm_all_reduce(world, NULL, dx, dx, rows * C, TYPE_REAL, REDUCE_SUM);
    double errors[] = {off(dx, rows * C, whole, 0, rows * C, rows * C), off_slice(cut->head, one->head),
                       bias ? off_slice(cut->bias, one->bias) : 0};
    ok_on_all(world, errors[0] <= rounding && errors[1] <= rounding && errors[2] <= rounding,
              "%s: the gradients of x, head and bias are off by %.1g, %.1g, %.1g", name, errors[0], errors[1],
              errors[2]);
    free(dx);
    free(whole);
    tensor_free(&targets);
    tensor_free(&seed);
    tensor_free(&same);
    tensor_free(&seed_too);
    head_delete(one);
    head_delete(cut);
}

int main(void) {
    world = ranks_world();
    mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    test_loss(30, 67, true);
    test_loss(256 * world->size + 101, 307, false); /* chunks of rows, the last a short one */
    test_loss(17, 2 * world->size + 1, true);       /* from 4 devices on the last has no word */
    test_loss(2, 3, true);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
