/* product: one linear layer that all ranks share along `tensor`, for the tests of chapter 08's products. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include "common/comm/clock.h"
#include "common/comm/mesh.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/tensors.h"

/* Everything that it reads and leaves. */
typedef struct {
    Device *device;
    Params params;
    Param *weight, *bias; /* bias NULL: there is none */
    Tape *tape;
    Tensor *x, *y, dy;
} Product;

static inline Param *product_param(Product *p, const char *name, Shape shape, int axis, const Comm *comm) {
    Param *param = params_add(&p->params, name, shape);
    param->data.place[MESH_TENSOR] = (Place){PLACE_SHARD, axis};
    fill_normal(&param->data, (uint64_t)comm->rank, rng_stream(name), 1);
    return param;
}

/* x (B, T, in) lies as x_place says: Replicate is the same on all ranks. weight (in, out) is cut along weight_axis: 1, by
 * columns, with dy (B, T', out) of each rank's own; 0, by rows, with the same dy on all. */
static inline Product *product_new(const Comm *comm, Shape x, Place x_place, Shape dy, int weight_axis,
                                   bool bias) {
    Product *p = xcalloc(1, sizeof *p);
    uint64_t rank = (uint64_t)comm->rank;
    p->device = p->params.device = device_new_cpu(0);
    p->weight = product_param(p, "weight", SHAPE(x.size[2], dy.size[2]), weight_axis, comm);
    if (bias) p->bias = product_param(p, "bias", SHAPE(dy.size[2]), 0, comm);
    p->tape = tape_new(p->device, true);
    p->x = tape_tensor(p->tape, "x", TYPE_REAL, x, NULL);
    p->x->place[MESH_TENSOR] = x_place;
    fill_normal(p->x, x_place.kind == PLACE_REPLICATE ? 0 : rank, rng_stream("x"), 1);
    p->dy = tensor_new(p->device, MEMORY_ACTIVATIONS, "dy", TYPE_REAL, dy);
    fill_normal(&p->dy, weight_axis == 1 ? rank : 0, rng_stream("dy"), 1);
    return p;
}

static inline void product_delete(Product *p) {
    tensor_free(&p->dy);
    tape_delete(p->tape);
    params_free(&p->params);
    device_delete(p->device);
    free(p);
}

/* x has another reader, whose gradient comes first. */
static inline void product_read_twice(Product *p) {
    bool first;
    fill_constant(tape_grad(p->tape, p->x, &first), 3);
}

/* ---- by the model clock ---- */

/* (rows, in) times (in, out), on one device. */
static inline double product_seconds(const DeviceModel *model, int64_t rows, int64_t in, int64_t out) {
    return clock_kernel_seconds(model,
                                (Cost){.product = 2 * rows * in * out,
                                       .bytes = (rows * (in + out) + in * out) * element_bytes(TYPE_REAL)});
}

/* What tape_backward takes for its copy of dy; the clock goes on by as much. */
static inline double product_seed_seconds(Product *p) {
    Queue *q = &p->device->queue;
    Tensor copy = tensor_new(p->device, MEMORY_ACTIVATIONS, "a copy of dy", TYPE_REAL, p->dy.shape);
    double begin = queue_now(q);
    p->device->kernels->copy(q, &p->dy, &copy);
    tensor_free(&copy);
    return queue_now(q) - begin;
}

#endif
