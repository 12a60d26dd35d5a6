#include "common/comm/message_ops.h"

#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"

typedef struct Message Message;
struct Message {
    Transfer transfer; /* comes first: a tape's Transfer is one of these */
    Comm *comm;
    CommRequest *request; /* NULL: it is done */
    Message *answers;     /* of the gradient of something sent: that */
    Tensor term;          /* of a gradient that is added to another one: itself; otherwise no data */
};

static Message *message_new(Tape *tape, Comm *comm, Tensor *x, void (*finish)(Transfer *)) {
    Message *m = tape_alloc(tape, sizeof *m);
    *m = (Message){.transfer = {.tensor = x, .finish = finish}, .comm = comm};
    return m;
}

static void finish(Transfer *transfer) {
    Message *m = (Message *)transfer;
    comm_wait(m->comm, QUEUE(transfer->tape), m->request);
    m->request = NULL;
}

static Message *start_send(Tape *tape, Comm *comm, Tensor *x, int to) {
    Message *m = message_new(tape, comm, x, finish);
    m->request = comm_start_send(comm, QUEUE(tape), x->data, tensor_count(x), x->type, to);
    tape_begin_transfer(tape, &m->transfer, false);
    return m;
}

/* `into` is x, or a term that is then added to it. */
static void start_recv(Tape *tape, Message *m, const Tensor *into, int from) {
    m->request = comm_start_recv(m->comm, QUEUE(tape), into->data, tensor_count(into), into->type, from);
    tape_begin_transfer(tape, &m->transfer, true);
}

/* ---- the ops: a node keeps the other's coordinate ---- */

typedef struct {
    Comm *comm;
    int other;
    /* of op_send: */
    Message *sent;
    Tensor *expected; /* the gradient that is under way, or has come, ahead of the backward; NULL: none */
} Partner;

static void keep_partner(Tape *tape, Node *node, Partner partner) {
    if (!node) return;
    node->args = tape_alloc(tape, sizeof partner);
    *(Partner *)node->args = partner;
}

/* Where a gradient has come back, what was sent has arrived and need not be kept. */
static void finish_gradient(Transfer *transfer) {
    Message *m = (Message *)transfer;
    Tape *tape = transfer->tape;
    finish(transfer);
    if (m->term.data) {
        KERNELS(tape)->accumulate(QUEUE(tape), &m->term, transfer->tensor);
        tensor_free(&m->term);
    }
    if (m->answers->request) tape_end_transfer(&m->answers->transfer);
}

static Message *gradient_message(Tape *tape, const Partner *p, Tensor *gradient) {
    Message *m = message_new(tape, p->comm, gradient, finish_gradient);
    m->answers = p->sent;
    return m;
}

/* dx += what was expected: it stands on its own until here, so that terms are added in the order of the backward */
static void add_expected(Tape *tape, Tensor *x, Tensor *expected) {
    if (!x->grad) {
        x->grad = expected;
        return;
    }
    tape_await(x->grad);
    tape_await(expected);
    KERNELS(tape)->accumulate(QUEUE(tape), expected, x->grad);
    tape_drop(tape, expected);
}

static void send_backward(Tape *tape, Node *n) { /* dx += what the receiver sends back */
    Partner *p = n->args;
    if (p->expected) {
        add_expected(tape, n->in[0], p->expected);
        return;
    }
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (!dx) return;
    Message *m = gradient_message(tape, p, dx);
    if (add)
        m->term = tensor_new(tape->device, MEMORY_COMMUNICATION, "send.gradient", dx->type,
                             SHAPE(tensor_count(dx)));
    start_recv(tape, m, add ? &m->term : dx, p->other);
}

static const Op send_op = {"send", send_backward, NULL};

Tensor *op_send(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int to) {
    Comm *comm = mesh->axis[along];
    dist_check_place("send", along, x, PLACE_PRIVATE);
    tape_await(x);
    Message *m = start_send(tape, comm, x, to);
    Tensor *sent = tape_tensor(tape, "sent", TYPE_F64, SHAPE(1), NULL);
    sent->place[along] = (Place){PLACE_PARTIAL, 0};
    KERNELS(tape)->zero(QUEUE(tape), sent);
    keep_partner(tape, tape_node(tape, &send_op, x, NULL, sent),
                 (Partner){.comm = comm, .other = to, .sent = m});
    return sent;
}

Tensor *message_expect_gradient(Tape *tape, Tensor *sent) {
    int64_t i = tape->node_count - 1;
    while (i >= 0 && tape->nodes[i]->out != sent) i--;
    ASSERT(i >= 0 || !tape->recording);
    if (i < 0 || tape->nodes[i]->in[0]->constant) return NULL;
    ASSERT(tape->nodes[i]->op == &send_op);
    Partner *p = tape->nodes[i]->args;
    ASSERT(!p->expected);
    p->expected = tape_grad_apart(tape, tape->nodes[i]->in[0]);
    start_recv(tape, gradient_message(tape, p, p->expected), p->expected, p->other);
    return p->expected;
}

static void recv_backward(Tape *tape, Node *n) { /* sends dy back */
    const Partner *p = n->args;
    start_send(tape, p->comm, n->out->grad, p->other);
}

static const Op recv_op = {"recv", recv_backward, NULL};

Tensor *op_recv(Tape *tape, const Mesh *mesh, MeshAxis along, int from, const Tensor *like) {
    Comm *comm = mesh->axis[along];
    dist_check_place("recv", along, like, PLACE_PRIVATE);
    ElementType type = like->type == TYPE_BF16 ? TYPE_BF16 : TYPE_REAL;
    Tensor *y = tape_tensor(tape, like->name, type, like->shape, like);
    y->constant = like->constant;
    start_recv(tape, message_new(tape, comm, y, finish), y, from);
    keep_partner(tape, tape_node(tape, &recv_op, NULL, NULL, y), (Partner){.comm = comm, .other = from});
    return y;
}
