/* Products whose all-reduce runs meanwhile (--overlap-tensor): the numbers of the plain ops, forward and backward, for
 * chunks that divide nothing; and by the model clock the times of the recurrence.
 *
 * TEST np: 2 4, all: 1 3
 * TEST variants: double */
#include "chapters/08_tensor_parallel/row_overlap.h"
#include "common/comm/dist_ops.h"
#include "tests/product.h"
#include "tests/ranks.h"

static Comm *world;
static Mesh mesh;

enum { B = 3, T = 37, IN = 40, OUT = 24 }; /* 111 rows */

/* columns: by columns, x the same everywhere; otherwise by rows. */
static Product *new_product(bool columns) {
    Place x = columns ? (Place){0} : (Place){PLACE_SHARD, 2};
    return product_new(world, SHAPE(B, T, IN), x, SHAPE(B, T, OUT), columns, columns);
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
    if (twice) product_read_twice(p);
    tape_backward(p->tape, p->y, &p->dy);
    tape_finish(p->tape);
}

static void test_numbers(int64_t chunks, bool twice) {
    Product *plain = new_product(!chunks), *overlapped = new_product(!chunks);
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

static void test_times(const char *name, int64_t chunks) {
    const DeviceModel *model = device_model(name);
    Product *p = new_product(!chunks);
    Clock clock;
    Queue *q = &p->device->queue;
    Comm *comm = mesh.axis[MESH_TENSOR];
    clock_attach(p->device, &clock, model);
    if (chunks) {
        p->y = op_linear_reduce(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, chunks);
        double predicted = row_overlap_seconds(model, comm, TYPE_REAL, B * T, IN, OUT, chunks),
               taken = queue_now(q);
        ok_on_all(world, fabs(taken / predicted - 1) <= 1e-6, "%s, %d chunks: %.4g us of %.4g", name,
                  (int)chunks, taken * 1e6, predicted * 1e6);
    } else {
        p->y = op_copy_linear(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, NULL);
        double seed = product_seed_seconds(p), begin = queue_now(q);
        tape_backward(p->tape, p->y, &p->dy);
        tape_await(p->x->grad);
        double taken = queue_now(q) - begin, product = product_seconds(model, B * T, IN, OUT);
        CommCall call = {.kind = COMM_ALL_REDUCE, .type = TYPE_REAL, .count = B * T * IN};
        double predicted = seed + product + fmax(product, clock_collective_seconds(model, comm, &call));
        ok_on_all(world, fabs(taken / predicted - 1) <= 1e-6, "%s, columns: backward %.4g us of %.4g", name,
                  taken * 1e6, predicted * 1e6);
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
