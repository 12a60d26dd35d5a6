#include "chapters/08_tensor_parallel/vocabulary.h"

#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"
#include "common/tensor/ops_parts.h"
#include "common/tensor/places.h"

/* ---- positions ---- */

static void add_position_backward_input(Tape *tape, Node *n) { /* dx += dy */
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (dx) (add ? KERNELS(tape)->accumulate : KERNELS(tape)->copy)(QUEUE(tape), n->out->grad, dx);
}

static void add_position_backward_param(Tape *tape,
                                        Node *n) { /* dposition[first + t] = the sum over windows of dy */
    Tensor dposition = param_grad_begin(n->param[0], 0, tape->microbatch);
    KERNELS(tape)->position_backward(QUEUE(tape), n->out->grad, *(const int64_t *)n->args, &dposition);
    param_grad_end(n->param[0], 0, tape->microbatch, dposition, NULL);
}

static const Op add_position_op = {"add_position", add_position_backward_input, add_position_backward_param};

Tensor *op_add_position(Tape *tape, Tensor *x, Param *position, int64_t first) {
    tensor_check_not_partial(x, "op_add_position");
    tape_await(x);
    int64_t B = x->shape.size[0], T = x->shape.size[1], C = x->shape.size[2];
    const Tensor *table = param_acquire(position), rows = tensor_view(table, first * C, SHAPE(T, C));
    places_check_whole("op_add_position", x, 2, "op_gather puts the slices together");
    places_check_replicate("op_add_position", table, "every device adds rows of the same table");
    Tensor *y = tape_tensor(tape, position->name, x->type, x->shape, x);
    for (int64_t b = 0; b < B; b++) {
        Tensor from = tensor_view(x, b * T * C, SHAPE(T, C)), to = tensor_view(y, b * T * C, SHAPE(T, C));
        KERNELS(tape)->add(QUEUE(tape), &from, &rows, &to);
    }
    param_release(position);
    Node *n = tape_node(tape, &add_position_op, x, NULL, y);
    if (!n) return y;
    n->param[0] = position;
    n->args = tape_alloc(tape, sizeof first);
    *(int64_t *)n->args = first;
    return y;
}

/* ---- head and loss ---- */

static const Op head_loss_op = {"vocabulary_head_loss", head_loss_backward_input, head_loss_backward_param};

/* logits (R,V'), of which the first `words` columns exist, become their gradient; loss (1) gets what these rows add. */
static void cross_entropy(Tape *tape, Comm *comm, Tensor *logits, int64_t words, const Tensor *targets,
                          int64_t first_row, int64_t first_id, Tensor *loss) {
    const Kernels *k = KERNELS(tape);
    Queue *q = QUEUE(tape);
    int64_t R = tensor_rows(logits);
    Tensor *top = tape_tensor(tape, "largest logits", TYPE_REAL, SHAPE(R), NULL),
           *sums = tape_tensor(tape, "sums and targets", TYPE_REAL, SHAPE(R, 2), NULL);
    k->row_max(q, logits, words, top);
    comm_all_reduce(comm, q, top->data, top->data, R, TYPE_REAL, REDUCE_MAX);
    k->exp_sums(q, logits, words, top, targets, first_row, first_id, sums);
    comm_all_reduce(comm, q, sums->data, sums->data, 2 * R, TYPE_REAL, REDUCE_SUM);
    k->split_cross_entropy(q, logits, words, top, sums, targets, first_row, first_id, loss);
    tape_drop(tape, top);
    tape_drop(tape, sums);
}

/* A device has an n-th of the words, so n devices hold n times as many rows at once. */
static int64_t chunk_rows(int64_t rows, int devices) { return min64(rows, LOSS_CHUNK * devices); }

int64_t vocabulary_chunks(int64_t rows, int devices) { return ceil_div(rows, chunk_rows(rows, devices)); }

Tensor *op_vocabulary_head_loss(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, Param *head,
                                Param *bias, int use, const Tensor *targets) {
    dist_check_place("vocabulary_head_loss", along, x, PLACE_PRIVATE);
    tape_await(x);
    const Kernels *k = KERNELS(tape);
    Queue *q = QUEUE(tape);
    Comm *comm = mesh->axis[along];
    const Tensor *w = param_acquire(head), *b = bias ? param_acquire(bias) : NULL;
    int64_t rows = tensor_rows(x), chunk = chunk_rows(rows, comm->size);
    int64_t first_id = head->slice.first[0], words = head->slice.count[0];

    HeadLoss formed = head_loss_begin(tape, x, head, bias, use);
    Tensor *logits = tape_tensor(tape, "logits", TYPE_REAL, SHAPE(chunk, tensor_rows(w)), NULL);
    places_of_product("op_vocabulary_head_loss", x, w, 1, b, logits);
    /* a product reads operands of one type: where x is bf16, so is a copy of the logits' gradient */
    bool narrows = formed.dx && x->type == TYPE_BF16;
    Tensor *narrow = narrows ? tape_tensor(tape, "logits.narrow", TYPE_BF16, logits->shape, NULL) : NULL;
    for (int64_t row = 0; row < rows; row += chunk) {
        int64_t part = min64(chunk, rows - row);
        Tensor x_rows = tensor_rows_view(x, row, part), p = tensor_rows_view(logits, 0, part);
        k->matmul(q, &x_rows, false, w, true, b, &p, false);
        cross_entropy(tape, comm, &p, words, targets, row, first_id, formed.loss);
        if (!formed.dx) continue;
        if (bias) k->sum_rows(q, &p, &formed.dbias, row > 0);
        Tensor dx_rows = tensor_rows_view(formed.dx, row, part);
        if (narrow) {
            Tensor narrow_p = tensor_rows_view(narrow, 0, part);
            k->cast(q, &p, &narrow_p);
            p = narrow_p;
        }
        k->matmul(q, &p, false, w, false, NULL, &dx_rows, false);
        k->matmul(q, &p, true, &x_rows, false, NULL, &formed.dhead, row > 0);
    }
    tape_drop(tape, logits);
    if (narrow) tape_drop(tape, narrow);
    param_release(head);
    if (bias) param_release(bias);
    return head_loss_end(tape, &head_loss_op, x, head, bias, use, &formed);
}
