/* A product whose input is gathered for it alone (--gather-again): the bits of op_all_gather and op_linear, forward and
 * backward, in one pass or with its halves apart; what is kept between them; and by the model clock a second all-gather that
 * runs beside a product.
 *
 * TEST np: 2 4, all: 1 3
 * TEST variants: double */
#include "chapters/08_tensor_parallel/sequence.h"
#include "common/comm/dist_ops.h"
#include "tests/product.h"
#include "tests/ranks.h"

static Comm *world;
static Mesh mesh;

typedef struct {
    int64_t B, T, in, out; /* T: of one device */
} Sizes;

static Product *new_product(Sizes s, bool bias) {
    return product_new(world, SHAPE(s.B, s.T, s.in), (Place){PLACE_SHARD, 1},
                       SHAPE(s.B, s.T * world->size, s.out), 1, bias);
}

static int64_t now(const Product *p, MemoryClass kind) { return p->device->memory.now[kind]; }

static void forward(Product *p, bool again) {
    if (again) {
        p->y = op_gather_linear(p->tape, &mesh, MESH_TENSOR, p->x, p->weight, p->bias);
    } else {
        Tensor *whole = op_all_gather(p->tape, &mesh, MESH_TENSOR, p->x);
        p->y = op_linear(p->tape, whole, p->weight, p->bias);
        tape_drop(p->tape, whole);
    }
    p->y->readers++; /* it is looked at behind backward */
    tape_drop(p->tape, p->x);
}

/* twice: x has another reader, whose gradient comes first. */
static void backward(Product *p, bool twice, bool apart) {
    if (twice) product_read_twice(p);
    if (apart) {
        tape_backward_inputs(p->tape, p->y, &p->dy);
        tape_backward_params(p->tape);
    } else {
        tape_backward(p->tape, p->y, &p->dy);
    }
}

static bool same(const Tensor *a, const Tensor *b) { return tensor_hash(a, 0) == tensor_hash(b, 0); }

static void test_numbers(Sizes s, bool twice, bool apart) {
    Product *plain = new_product(s, true), *again = new_product(s, true);
    int64_t before = now(again, MEMORY_ACTIVATIONS), x = s.B * s.T * s.in * element_bytes(TYPE_REAL),
            y = s.B * s.T * world->size * s.out * element_bytes(TYPE_REAL);
    forward(plain, false);
    forward(again, true);
    bool slice = now(again, MEMORY_ACTIVATIONS) == before + y &&
                 now(plain, MEMORY_ACTIVATIONS) == before + y + (world->size - 1) * x;
    bool freed = now(again, MEMORY_COMMUNICATION) == 0;
    backward(plain, twice, false);
    backward(again, twice, apart);
    freed &= now(again, MEMORY_COMMUNICATION) == 0;
    ok_on_all(world,
              same(plain->y, again->y) && same(plain->x->grad, again->x->grad) &&
                  same(&plain->weight->grad[0], &again->weight->grad[0]) &&
                  same(&plain->bias->grad[0], &again->bias->grad[0]),
              "%d windows%s%s: y, dx, dW and db have the bits of the plain ops", (int)s.B,
              twice ? ", x read twice" : "", apart ? ", halves apart" : "");
    ok_on_all(world, slice && freed, "... x is kept in slices, and nothing else");
    product_delete(plain);
    product_delete(again);
}

/* ---- the model clock ---- */

/* One window: slices are blocks of memory, and nothing is copied. */
static void test_times(const char *name, Sizes s, bool hidden) {
    const DeviceModel *model = device_model(name);
    Product *p = new_product(s, false);
    Clock clock;
    Queue *q = &p->device->queue;
    Comm *comm = mesh.axis[MESH_TENSOR];
    clock_attach(p->device, &clock, model);
    forward(p, true);
    double seed = product_seed_seconds(p), begin = queue_now(q);
    backward(p, false, false);
    double taken = queue_now(q) - begin;
    CommCall scatter = {.kind = COMM_REDUCE_SCATTER, .type = TYPE_REAL, .count = s.T * s.in};
    double waited = gather_again_seconds(model, comm, TYPE_REAL, s.T * comm->size, s.in, s.out),
           predicted = seed + 2 * product_seconds(model, s.T * comm->size, s.in, s.out) + waited +
                       clock_collective_seconds(model, comm, &scatter);
    ok_on_all(world, fabs(taken / predicted - 1) <= 1e-6 && (waited == 0) == (hidden || comm->size == 1),
              "%s: backward %.4g us of %.4g, of which it waits %.4g for x", name, taken * 1e6,
              predicted * 1e6, waited * 1e6);
    clock_detach(&clock);
    product_delete(p);
}

int main(void) {
    world = ranks_world();
    mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    for (int which = 0; which < 4; which++) {
        test_numbers((Sizes){3, 7, 40, 24}, which % 2, which / 2);
        test_numbers((Sizes){1, 7, 40, 24}, which % 2, which / 2);
    }
    test_times("laptop-core", (Sizes){1, 50, 64, 300}, true);
    test_times("h100", (Sizes){1, 50, 64, 300}, false);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
