#include "chapters/08_tensor_parallel/vocabulary.h"

#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"

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
    Tensor *y = tape_tensor(tape, position->name, TYPE_REAL, x->shape, x);
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

enum { LOSS_CHUNK = 256 }; /* rows of logits that one device would hold at once: n hold n times as many */

typedef struct {
    Tensor dhead, dbias; /* this micro-batch's gradients for a seed of 1 */
} HeadLossArgs;

static void head_loss_backward_input(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (dx) KERNELS(tape)->scale(QUEUE(tape), n->out->grad, n->saved[0], dx, add);
}

static void head_loss_backward_param(Tape *tape, Node *n) {
    HeadLossArgs *a = n->args;
    param_grad_end(n->param[0], n->use[0], tape->microbatch, a->dhead, n->out->grad);
    if (n->param[1]) param_grad_end(n->param[1], 0, tape->microbatch, a->dbias, n->out->grad);
}

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

static Tensor rows_of(const Tensor *t, int64_t first, int64_t count) {
    int64_t columns = tensor_columns(t);
    return tensor_view(t, first * columns, SHAPE(count, columns));
}

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

    Tensor *loss = tape_tensor(tape, "loss", TYPE_F64, SHAPE(1), NULL);
    Tensor *logits = tape_tensor(tape, "logits", TYPE_REAL, SHAPE(chunk, tensor_rows(w)), NULL);
    k->zero(q, loss);
    Tensor *dx = NULL;
    HeadLossArgs *a = NULL;
    if (tape->recording) {
        a = tape_alloc(tape, sizeof *a);
        a->dhead = param_grad_begin(head, use, tape->microbatch);
        if (bias) a->dbias = param_grad_begin(bias, 0, tape->microbatch);
        dx = tape_tensor(tape, "loss.dx", TYPE_REAL, x->shape, x);
    }
    for (int64_t row = 0; row < rows; row += chunk) {
        int64_t part = min64(chunk, rows - row);
        Tensor x_rows = rows_of(x, row, part), p = rows_of(logits, 0, part);
        k->matmul(q, &x_rows, false, w, true, b, &p, false);
        cross_entropy(tape, comm, &p, words, targets, row, first_id, loss);
        if (!a) continue;
        Tensor dx_rows = rows_of(dx, row, part);
        k->matmul(q, &p, false, w, false, NULL, &dx_rows, false);
        k->matmul(q, &p, true, &x_rows, false, NULL, &a->dhead, row > 0);
        if (bias) k->sum_rows(q, &p, &a->dbias, row > 0);
    }
    tape_drop(tape, logits);
    param_release(head);
    if (bias) param_release(bias);
    Node *n = tape_node(tape, &head_loss_op, x, NULL, loss);
    if (!n) return loss;
    n->args = a;
    n->param[0] = head;
    n->param[1] = bias;
    n->use[0] = use;
    node_save(n, 0, dx);
    tape_drop(tape, dx);
    return loss;
}
