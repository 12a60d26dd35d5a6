#include "chapters/08_tensor_parallel/row_overlap.h"

#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"
#include "common/tensor/ops_parts.h"
#include "common/tensor/places.h"

#include <math.h>
#include <stdlib.h>

/* ---- rows: the sum over the devices in chunks; backward has nothing to send ---- */

static int64_t chunk_rows(int64_t rows, int64_t chunks) { return max64(ceil_div(rows, chunks), 1); }

/* dy is Replicate, and so is the gradient of each term: backward is that of op_linear */
static const Op linear_reduce_op = {"linear_reduce", linear_backward_input, linear_backward_param};

Tensor *op_linear_reduce(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *weight,
                         int64_t chunks) {
    dist_check_place("linear_reduce", along, x, PLACE_SHARD);
    tape_await(x);
    Comm *comm = mesh->axis[along];
    const Tensor *w = param_acquire(weight);
    Shape shape = shape_with_columns(x->shape, tensor_columns(w));
    Tensor *y = tape_tensor(tape, weight->name, x->type, shape, x);
    places_of_product("op_linear_reduce", x, w, 0, NULL, y);
    y->place[along] = (Place){PLACE_REPLICATE, 0}; /* the terms are summed below */
    int64_t rows = tensor_rows(x), chunk = chunk_rows(rows, chunks), begun = 0;
    CommRequest **requests = xcalloc((size_t)ceil_div(rows, chunk), sizeof *requests);
    for (int64_t row = 0; row < rows; row += chunk) {
        int64_t count = min64(chunk, rows - row);
        Tensor from = tensor_rows_view(x, row, count), to = tensor_rows_view(y, row, count);
        KERNELS(tape)->matmul(QUEUE(tape), &from, false, w, false, NULL, &to, false);
        requests[begun++] = comm_start_all_reduce(comm, QUEUE(tape), to.data, to.data, tensor_count(&to),
                                                  to.type, REDUCE_SUM);
    }
    for (int64_t i = 0; i < begun; i++) comm_wait(comm, QUEUE(tape), requests[i]);
    free(requests);
    param_release(weight);
    linear_node(tape, &linear_reduce_op, x, weight, NULL, y);
    return y;
}

double row_overlap_seconds(const DeviceModel *model, const Comm *comm, ElementType type, int64_t rows,
                           int64_t in, int64_t out, int64_t chunks) {
    int64_t chunk = chunk_rows(rows, chunks);
    double formed = 0, end = 0;
    for (int64_t row = 0; row < rows; row += chunk) {
        int64_t count = min64(chunk, rows - row), numbers = count * in + in * out + count * out;
        formed += clock_kernel_seconds(
            model, (Cost){.product = 2 * count * in * out, .bytes = numbers * element_bytes(type)});
        CommCall call = {.kind = COMM_ALL_REDUCE, .type = type, .count = count * out};
        end = fmax(formed, end) + clock_collective_seconds(model, comm, &call);
    }
    return end;
}

/* ---- columns: the sum of dx is under way while dW is formed ---- */

typedef struct {
    Transfer transfer; /* comes first: a tape's Transfer is one of these */
    Comm *comm;
    CommRequest *request;
    Tensor term; /* of a gradient that has other terms: this one; otherwise no data */
} GradSum;

static void finish_sum(Transfer *transfer) {
    GradSum *s = (GradSum *)transfer;
    Tape *tape = transfer->tape;
    comm_wait(s->comm, QUEUE(tape), s->request);
    if (!s->term.data) return;
    KERNELS(tape)->accumulate(QUEUE(tape), &s->term, transfer->tensor);
    tensor_free(&s->term);
}

static void copy_linear_backward_input(Tape *tape, Node *n) { /* dx += the sum over the devices of dy W^T */
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (!dx) return;
    GradSum *s = tape_alloc(tape, sizeof *s);
    *s = (GradSum){.transfer = {.tensor = dx, .finish = finish_sum}, .comm = *(Comm **)n->args};
    if (add) s->term = tensor_new(tape->device, MEMORY_COMMUNICATION, "gradient to sum", dx->type, dx->shape);
    Tensor *own = add ? &s->term : dx;
    const Tensor *w = param_acquire(n->param[0]);
    KERNELS(tape)->matmul(QUEUE(tape), n->out->grad, false, w, true, NULL, own, false);
    param_release(n->param[0]);
    s->request = comm_start_all_reduce(s->comm, QUEUE(tape), own->data, own->data, tensor_count(own),
                                       own->type, REDUCE_SUM);
    tape_begin_transfer(tape, &s->transfer, true); /* whoever reads dx waits for it */
}

static const Op copy_linear_op = {"copy_linear", copy_linear_backward_input, linear_backward_param};

Tensor *op_copy_linear(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *weight, Param *bias) {
    dist_check_place("copy_linear", along, x, PLACE_REPLICATE);
    tape_await(x);
    Tensor own = *x; /* as op_copy leaves it */
    own.place[along] = (Place){PLACE_PRIVATE, 0};
    Tensor *y = linear_product(tape, "op_copy_linear", &own, weight, bias);
    Node *n = linear_node(tape, &copy_linear_op, x, weight, bias, y);
    if (!n) return y;
    n->args = tape_alloc(tape, sizeof(Comm *));
    *(Comm **)n->args = mesh->axis[along];
    return y;
}
