/* A two-layer network behind an embedding, cut over devices (Shoeybi et al. 2019, section 3): some rows of the table, some
 * columns of the first weight, some rows of the second on each. Output and gradients are those of one device.
 *
 * TEST np: 1 2 4, all: 3
 * TEST variants: double */
#include "common/comm/dist_ops.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "common/tensor/ops.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

enum { B = 2, T = 3, C = 5, V = 12, F = 24, PARAMS = 5 };

static Comm *world;
static Device *device;

/* Each parameter and the axis of its shape that is cut; WHOLE: none. */
enum { WHOLE = -1 };
static const struct {
    const char *name;
    Shape shape;
    int cut;
} table[PARAMS] = {{"token", {2, {V, C}}, 0},
                   {"up", {2, {C, F}}, 1},
                   {"up.bias", {1, {F}}, 0},
                   {"down", {2, {F, C}}, 0},
                   {"down.bias", {1, {C}}, WHOLE}};

/* This device's slice of t, the number `rank` of n. */
static Tensor slice_of(const Tensor *t, int cut, int n, int rank) {
    Shape shape = t->shape;
    if (cut != WHOLE) shape.size[cut] /= n;
    Tensor slice = tensor_new(device, MEMORY_PARAMETERS, t->name, TYPE_REAL, shape);
    if (cut == WHOLE)
        device->kernels->copy(&device->queue, t, &slice);
    else
        device->kernels->copy_slice(&device->queue, t, rank * shape.size[cut], &slice, 0, cut,
                                    shape.size[cut], false);
    return slice;
}

/* Cut over the devices, or whole. */
static void add_params(Params *params, Param *p[PARAMS], bool cut) {
    for (int i = 0; i < PARAMS; i++) {
        Tensor whole = tensor_new(device, MEMORY_PARAMETERS, table[i].name, TYPE_REAL, table[i].shape);
        fill_normal(&whole, 4, rng_stream(table[i].name), 0.5);
        int axis = cut ? table[i].cut : WHOLE;
        Tensor slice = slice_of(&whole, axis, world->size, world->rank);
        p[i] = params_add(params, table[i].name, slice.shape);
        copy_elements(&slice, &p[i]->data);
        if (axis != WHOLE) p[i]->data.place[MESH_TENSOR] = (Place){PLACE_SHARD, axis};
        tensor_free(&whole);
        tensor_free(&slice);
    }
}

static Tensor *forward_whole(Tape *tape, Tensor *ids, Param *p[PARAMS]) {
    Tensor *x = op_embedding(tape, ids, p[0], 0, NULL, 0);
    Tensor *h = op_gelu(tape, op_linear(tape, x, p[1], p[2]));
    return op_add(tape, x, op_linear(tape, h, p[3], p[4]));
}

static Tensor *forward_cut(Tape *tape, const Mesh *mesh, Tensor *ids, Param *p[PARAMS]) {
    int64_t first_id = world->rank * p[0]->data.shape.size[0];
    Tensor *x = op_reduce(tape, mesh, MESH_TENSOR, op_embedding(tape, ids, p[0], first_id, NULL, 0));
    Tensor *h = op_gelu(tape, op_linear(tape, op_copy(tape, mesh, MESH_TENSOR, x), p[1], p[2]));
    Tensor *y = op_reduce(tape, mesh, MESH_TENSOR, op_linear(tape, h, p[3], NULL));
    return op_add(tape, x, op_add_bias(tape, y, p[4]));
}

/* The largest difference, as a share of the largest element of b. */
static double apart(const Tensor *a, const Tensor *b) {
    double difference = 0, largest = 0;
    for (int64_t i = 0; i < tensor_count(b); i++) {
        difference = worse(difference, fabs((double)real_at(a, i) - (double)real_at(b, i)));
        largest = worse(largest, fabs((double)real_at(b, i)));
    }
    return difference / largest;
}

int main(void) {
    base_set_program("test");
    world = ranks_world();
    device = device_new_cpu(0);
    Mesh mesh = mesh_new(world, (const int[MESH_AXES]){1, 1, world->size});
    Tensor ids = tensor_new(device, MEMORY_ACTIVATIONS, "ids", TYPE_I32, SHAPE(B, T));
    for (int32_t i = 0; i < B * T; i++) tensor_write(&ids, i, 1, &(int32_t){i * 5 % V});
    Tensor dy = tensor_new(device, MEMORY_ACTIVATIONS, "dy", TYPE_REAL, SHAPE(B, T, C));
    fill_normal(&dy, 4, rng_stream("dy"), 1);

    Param *whole[PARAMS], *cut[PARAMS];
    Params all = {.device = device}, own = {.device = device};
    add_params(&all, whole, false);
    add_params(&own, cut, true);
    Tape *tape = tape_new(device, true), *tape_cut = tape_new(device, true);
    Tensor *y = forward_whole(tape, &ids, whole), *y_cut = forward_cut(tape_cut, &mesh, &ids, cut);
    double error = apart(y_cut, y);
    ok_on_all(world, error <= 1e-12 && y_cut->place[MESH_TENSOR].kind == PLACE_REPLICATE,
              "the output is Replicate, and that of one device: off by %.1e", error);
    tape_backward(tape, y, &dy);
    tape_backward(tape_cut, y_cut, &dy);
    for (int i = 0; i < PARAMS; i++) {
        Tensor want = slice_of(&whole[i]->grad[0], table[i].cut, world->size, world->rank);
        error = apart(&cut[i]->grad[0], &want);
        ok_on_all(world, error <= 1e-12, "the gradient of '%s': off by %.1e", table[i].name, error);
        tensor_free(&want);
    }
    tape_delete(tape);
    tape_delete(tape_cut);
    params_free(&all);
    params_free(&own);
    tensor_free(&ids);
    tensor_free(&dy);
    device_delete(device);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
