#include "chapters/08_tensor_parallel/sequence.h"

#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"
#include "common/tensor/ops_parts.h"

#include <math.h>
#include <string.h>

enum { SEQUENCE = 1 }; /* which axis of x is in slices */

typedef struct {
    Comm *comm;
    Tensor whole; /* x, gathered again for dW; otherwise no data */
} GatherArgs;

/* Like x, with all slices; elements not set. */
static Tensor whole_new(Tape *tape, const Comm *comm, const Tensor *x) {
    Shape shape = x->shape;
    shape.size[SEQUENCE] *= comm->size;
    return tensor_new(tape->device, MEMORY_COMMUNICATION, x->name, x->type, shape);
}

static void gather_linear_backward_input(Tape *tape, Node *n) { /* dx += the reduce-scatter of dy W^T */
    GatherArgs *a = n->args;
    a->whole = whole_new(tape, a->comm, n->saved[0]);
    Gather again = dist_gather_start(tape, a->comm, n->saved[0], SEQUENCE, &a->whole);
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add), own = {0};
    if (dx) {
        own = whole_new(tape, a->comm, dx);
        const Tensor *w = param_acquire(n->param[0]);
        KERNELS(tape)->matmul(QUEUE(tape), n->out->grad, false, w, true, NULL, &own, false);
        param_release(n->param[0]);
    }
    dist_gather_wait(tape, &again, &a->whole);
    if (!dx) return;
    dist_reduce_scatter(tape, a->comm, &own, SEQUENCE, dx, add);
    tensor_free(&own);
}

static void gather_linear_backward_param(Tape *tape, Node *n) {
    GatherArgs *a = n->args;
    linear_backward_param_of(tape, n, &a->whole);
    tensor_free(&a->whole);
}

static const Op gather_linear_op = {"gather_linear", gather_linear_backward_input,
                                    gather_linear_backward_param};

Tensor *op_gather_linear(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *weight,
                         Param *bias) {
    dist_check_place("gather_linear", along, x, PLACE_SHARD);
    ASSERT(x->place[along].axis == SEQUENCE);
    tape_await(x);
    Comm *comm = mesh->axis[along];
    Tensor whole = whole_new(tape, comm, x);
    memcpy(whole.place, x->place, sizeof whole.place);
    whole.place[along] = (Place){PLACE_PRIVATE, 0}; /* as op_all_gather leaves it */
    Gather gather = dist_gather_start(tape, comm, x, SEQUENCE, &whole);
    dist_gather_wait(tape, &gather, &whole);
    Tensor *y = linear_product(tape, "op_gather_linear", &whole, weight, bias);
    tensor_free(&whole);
    Node *n = linear_node(tape, &gather_linear_op, x, weight, bias, y);
    if (!n) return y;
    GatherArgs *a = n->args = tape_alloc(tape, sizeof *a);
    a->comm = comm;
    return y;
}

double gather_again_seconds(const DeviceModel *model, const Comm *comm, ElementType type, int64_t rows,
                            int64_t in, int64_t out) {
    int64_t bytes = (rows * out + in * out + rows * in) * element_bytes(type);
    double product = clock_kernel_seconds(model, (Cost){.product = 2 * rows * in * out, .bytes = bytes});
    CommCall call = {.kind = COMM_ALL_GATHER, .type = type, .count = rows * in / comm->size};
    return fmax(clock_collective_seconds(model, comm, &call) - product, 0);
}
