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
    m->request = comm_start_send(comm, QUEUE(tape), x->data, tensor_count(x), TYPE_REAL, to);
    tape_begin_transfer(tape, &m->transfer, false);
    return m;
}

/* `into` is x, or a term that is then added to it. */
static void start_recv(Tape *tape, Message *m, const Tensor *into, int from) {
    m->request = comm_start_recv(m->comm, QUEUE(tape), into->data, tensor_count(into), TYPE_REAL, from);
    tape_begin_transfer(tape, &m->transfer, true);
}

/* ---- the ops: a node keeps the other's coordinate ---- */

typedef struct {
    Comm *comm;
    int other;
    Message *sent; /* of op_send */
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

static void send_backward(Tape *tape, Node *n) { /* dx += what the receiver sends back */
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    const Partner *p = n->args;
    if (!dx) return;
    Message *m = message_new(tape, p->comm, dx, finish_gradient);
    m->answers = p->sent;
    if (add)
        m->term = tensor_new(tape->device, MEMORY_COMMUNICATION, "send.gradient", TYPE_REAL,
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
    keep_partner(tape, tape_node(tape, &send_op, x, NULL, sent), (Partner){comm, to, m});
    return sent;
}

static void recv_backward(Tape *tape, Node *n) { /* sends dy back */
    const Partner *p = n->args;
    start_send(tape, p->comm, n->out->grad, p->other);
}

static const Op recv_op = {"recv", recv_backward, NULL};

Tensor *op_recv(Tape *tape, const Mesh *mesh, MeshAxis along, int from, const Tensor *like) {
    Comm *comm = mesh->axis[along];
    dist_check_place("recv", along, like, PLACE_PRIVATE);
    Tensor *y = tape_tensor(tape, like->name, TYPE_REAL, like->shape, like);
    y->constant = like->constant;
    start_recv(tape, message_new(tape, comm, y, finish), y, from);
    keep_partner(tape, tape_node(tape, &recv_op, NULL, NULL, y), (Partner){.comm = comm, .other = from});
    return y;
}
