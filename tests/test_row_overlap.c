/* Products whose all-reduce runs meanwhile (--overlap-tensor): the numbers of the plain ops, forward and backward, for
 * chunks that divide nothing; and by the model clock the times of the recurrence.
 *
 * TEST np: 2 4, all: 1 3
 * TEST variants: double */
#include "chapters/08_tensor_parallel/row_overlap.h"
#include "common/comm/dist_ops.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

#include <stdlib.h>

static Comm *world;
static Mesh mesh;

enum { B = 3, T = 37, IN = 40, OUT = 24 }; /* 111 rows */

/* One product, and everything that it reads and leaves. */
typedef struct {
    Device *device;
    Params params;
    Param *weight, *bias;
    Tape *tape;
    Tensor *x, *y, dy;
} Product;

static Param *add(Product *p, const char *name, Shape shape, int axis) {
    Param *param = params_add(&p->params, name, shape);
    param->data.place[MESH_TENSOR] = (Place){PLACE_SHARD, axis};
    fill_normal(&param->data, (uint64_t)world->rank, rng_stream(name), 1);
    return param;
}

/* columns: by columns, x the same everywhere; otherwise by rows. */
static Product *product_new(bool columns) {
    Product *p = xcalloc(1, sizeof *p);
    p->device = p->params.device = device_new_cpu(0);
    p->weight = add(p, "weight", SHAPE(IN, OUT), columns);
    if (columns) p->bias = add(p, "bias", SHAPE(OUT), 0);
    p->tape = tape_new(p->device, true);
    p->x = tape_tensor(p->tape, "x", TYPE_REAL, SHAPE(B, T, IN), NULL);
    if (!columns) p->x->place[MESH_TENSOR] = (Place){PLACE_SHARD, 2};
    fill_normal(p->x, columns ? 0 : (uint64_t)world->rank, rng_stream("x"), 1);
    p->dy = tensor_new(p->device, MEMORY_ACTIVATIONS, "dy", TYPE_REAL, SHAPE(B, T, OUT));
    fill_normal(&p->dy, columns ? (uint64_t)world->rank : 0, rng_stream("dy"), 1);
    return p;
}

static void product_delete(Product *p) {
    tensor_free(&p->dy);
    tape_delete(p->tape);
    params_free(&p->params);
    device_delete(p->device);
    free(p);
}

static double difference(const Tensor *a, const Tensor *b) {
    real *x = tensor_to_host(a), *y = tensor_to_host(b);
    double error = 0;
    for (int64_t i = 0; i < tensor_count(a); i++) error = worse(error, fabs((double)x[i] - (double)y[i]));
    free(x);
    free(y);
    return error;
}

/* chunks 0: by columns. twice: x has another reader, whose gradient comes first. */
static void run(Product *p, int64_t chunks, bool overlap, bool twice) {
    if (chunks && overlap) p->y = op_linear_reduce(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, chunks);
    if (chunks && !overlap)
        p->y = op_reduce(p->tape, &mesh, MESH_TENSOR, op_linear(p->tape, p->x, p->weight, NULL));
    if (!chunks && overlap) p->y = op_copy_linear(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, p->bias);
    if (!chunks && !overlap)
        p->y = op_linear(p->tape, op_copy(p->tape, &mesh, MESH_TENSOR, p->x), p->weight, p->bias);
    p->y->readers++; /* it is looked at behind backward */
    if (twice) {
        bool first;
        Tensor *dx = tape_grad(p->tape, p->x, &first);
        fill_constant(dx, 3);
    }
    tape_backward(p->tape, p->y, &p->dy);
    tape_finish(p->tape);
}

static void test_numbers(int64_t chunks, bool twice) {
    Product *plain = product_new(!chunks), *overlapped = product_new(!chunks);
    run(plain, chunks, false, twice);
    run(overlapped, chunks, true, twice);
    double error = difference(plain->y, overlapped->y);
    error = worse(error, difference(plain->x->grad, overlapped->x->grad));
    error = worse(error, difference(&plain->weight->grad[0], &overlapped->weight->grad[0]));
    if (plain->bias) error = worse(error, difference(&plain->bias->grad[0], &overlapped->bias->grad[0]));
    ok_on_all(world, error <= 1e-11, "%s, %d chunks%s: off by %.1g", chunks ? "rows" : "columns", (int)chunks,
              twice ? ", x read twice" : "", error);
    product_delete(plain);
    product_delete(overlapped);
}

/* ---- the model clock ---- */

static double product_seconds(const DeviceModel *model, int64_t numbers, bool bias) {
    return clock_kernel_seconds(model, (Cost){.product = (int64_t)2 * B * T * IN * OUT,
                                              .other = bias ? B * T * OUT : 0,
                                              .bytes = numbers * element_bytes(TYPE_REAL)});
}

static void test_times(const char *name, int64_t chunks) {
    const DeviceModel *model = device_model(name);
    Product *p = product_new(!chunks);
    Clock clock;
    Queue *q = &p->device->queue;
    Comm *comm = mesh.axis[MESH_TENSOR];
    clock_attach(p->device, &clock, model);
    if (chunks) {
        p->y = op_linear_reduce(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, chunks);
        double predicted = row_overlap_seconds(model, comm, B * T, IN, OUT, chunks), taken = queue_now(q);
        ok_on_all(world, fabs(taken / predicted - 1) <= 1e-6, "%s, %d chunks: %.4g us of %.4g", name,
                  (int)chunks, taken * 1e6, predicted * 1e6);
    } else {
        int64_t x = B * T * IN, w = IN * OUT, y = B * T * OUT;
        Tensor *dx, loose = tensor_new(p->device, MEMORY_ACTIVATIONS, "y", TYPE_REAL, SHAPE(B, T, OUT));
        p->y = op_copy_linear(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, NULL);
        double begin = queue_now(q);
        p->device->kernels->copy(q, &p->dy, &loose); /* as tape_backward takes its seed */
        double seed = queue_now(q) - begin;
        begin = queue_now(q);
        tape_backward(p->tape, p->y, &p->dy);
        dx = p->x->grad;
        tape_await(dx);
        double taken = queue_now(q) - begin;
        CommCall call = {.kind = COMM_ALL_REDUCE, .type = TYPE_REAL, .count = x};
        double predicted =
            seed + product_seconds(model, x + w + y, false) +
            fmax(product_seconds(model, x + w + y, false), clock_collective_seconds(model, comm, &call));
        ok_on_all(world, fabs(taken / predicted - 1) <= 1e-6, "%s, columns: backward %.4g us of %.4g", name,
                  taken * 1e6, predicted * 1e6);
        tensor_free(&loose);
    }
    clock_detach(&clock);
    product_delete(p);
}

int main(void) {
    world = ranks_world();
    mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    static const int64_t chunks[] = {0, 1, 2, 4, 7, 111, 500};
    for (int i = 0; i < COUNT_OF(chunks); i++) {
        test_numbers(chunks[i], false);
        test_numbers(chunks[i], true);
        test_times("laptop-core", chunks[i]);
        test_times("h100", chunks[i]);
    }
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
