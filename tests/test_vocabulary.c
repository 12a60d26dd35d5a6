/* TEST variants: float double, all: asan
 * A vocabulary over several devices, each with some of its rows, by hand in one process: the look-up of all parts
 * together is that of the whole table, and each part's gradient is the whole one's slice. */
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/tap.h"
#include "tests/tensors.h"

enum { B = 3, T = 7, C = 70, V = 23 };

static Device *device;
static const Kernels *k;
static Queue *q;

static Tensor zeros(ElementType type, Shape shape) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, "t", type, shape);
    k->zero(q, &t);
    return t;
}

static Tensor random_tensor(Shape shape, const char *stream) {
    Tensor t = zeros(TYPE_REAL, shape);
    fill_normal(&t, 3, rng_stream(stream), 1);
    return t;
}

static Tensor random_ids(Shape shape, int32_t lowest, int32_t below) {
    Tensor t = zeros(TYPE_I32, shape);
    Rng rng = {3, rng_stream("ids"), 0};
    for (int64_t i = 0; i < tensor_count(&t); i++) {
        int32_t id = lowest + (int32_t)rng_below(&rng, (uint32_t)(below - lowest));
        tensor_write(&t, i, 1, &id);
    }
    return t;
}

static Tensor rows_of(const Tensor *t, int64_t first, int64_t count) {
    int64_t columns = tensor_columns(t);
    return tensor_view(t, first * columns, SHAPE(count, columns));
}

/* ---- the look-up ---- */

/* Of `parts` devices each has so many rows, the last what is left. */
static void embedding(int parts, int64_t rows) {
    Tensor ids = random_ids(SHAPE(B, T), 0, V), table = random_tensor(SHAPE(V, C), "table");
    Tensor position = random_tensor(SHAPE(T + 2, C), "position"), dy = random_tensor(SHAPE(B, T, C), "dy");
    Tensor whole = zeros(TYPE_REAL, SHAPE(B, T, C)), sum = zeros(TYPE_REAL, SHAPE(B, T, C)),
           part = zeros(TYPE_REAL, SHAPE(B, T, C)), gradient = zeros(TYPE_REAL, SHAPE(V, C)),
           gradients = zeros(TYPE_REAL, SHAPE(V, C));
    k->embedding(q, &ids, &table, 0, &position, 2, &whole);
    k->embedding_backward(q, &ids, &dy, 0, &gradient);
    for (int i = 0; i < parts; i++) {
        int64_t first = min64(V, i * rows);
        Tensor mine = rows_of(&table, first, min64(rows, V - first)),
               gradient_of_mine = rows_of(&gradients, first, min64(rows, V - first));
        fill_constant(&part, (real)NAN);
        k->embedding(q, &ids, &mine, first, i == 1 ? &position : NULL, 2, &part);
        k->accumulate(q, &part, &sum);
        k->embedding_backward(q, &ids, &dy, first, &gradient_of_mine);
    }
    ok(same_elements(&whole, &sum), "embedding on %d devices with %d rows each: the parts add up", parts,
       (int)rows);
    ok(same_elements(&gradient, &gradients), "... and each has its slice of the gradient");
    Tensor *all[] = {&ids, &table, &position, &dy, &whole, &sum, &part, &gradient, &gradients};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
}

int main(void) {
    device = device_new_cpu(0);
    k = device->kernels, q = &device->queue;
    embedding(2, 12);
    embedding(3, 8);
    embedding(5, 6); /* the last has no row */
    device_delete(device);
    return tap_done();
}
