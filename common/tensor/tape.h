/* tape: define-by-run automatic differentiation. Ops append nodes in the order of execution; backward is a
 * loop over them in reverse.
 *
 * The tape is an object: a pipeline keeps several alive at once, one for each micro-batch that is under way;
 * recomputation makes short-lived ones. It owns the activations made on it. A node keeps only what its backward needs: the forward says with tape_drop
 * that it reads an activation no more, and unless a node keeps it the memory is free at once; backward frees
 * as it goes.
 *
 * The backward towards the inputs and the one towards the parameters are separate steps of an op, so that a
 * schedule may run them apart (tape_backward_inputs, tape_backward_params). */
#ifndef TAPE_H
#define TAPE_H

#include "common/tensor/param.h"

typedef struct Tape Tape;
typedef struct Node Node;

typedef struct {
    const char *name;
    /* Adds to the gradients of node->in[..]; reads node->out->grad. May be NULL. */
    void (*backward_input)(Tape *tape, Node *node);
    /* Hands the gradients of node->param[..] to param_grad_end. NULL: the op has no parameters. */
    void (*backward_param)(Tape *tape, Node *node);
} Op;

enum { NODE_INPUTS = 2, NODE_PARAMS = 2, NODE_SAVED = 3 };
struct Node {
    const Op *op;
    Tensor *in[NODE_INPUTS], *out;
    Param *param[NODE_PARAMS];
    int use[NODE_PARAMS];      /* which use of the parameter this node is */
    Tensor *saved[NODE_SAVED]; /* read by backward: inputs, outputs, or tensors of the node's own */
    void *args;                /* the op's own struct, or NULL */
};

/* Called after each node's forward (its op, inputs and output are set then) and after each of its backward steps; and when
 * the tape is deleted. Both may be NULL. */
typedef enum { TAPE_FORWARD, TAPE_BACKWARD_INPUT, TAPE_BACKWARD_PARAM } TapePhase;
typedef struct {
    void (*done)(void *context, const Node *node, TapePhase phase);
    void *context;
    void (*gone)(void *context, Tape *tape);
} TapeObserver;

/* A message under way: it brings a tensor of this tape its elements, or reads them (comm/message_ops.h). It belongs to
 * the tape until it is done, and so long nobody frees the tensor. */
typedef struct Transfer Transfer;
struct Transfer {
    Tape *tape;
    Tensor *tensor;
    void (*finish)(Transfer *transfer); /* the queue goes on when it is done */
    Transfer *next;                     /* in the order in which they began */
};

struct Tape {
    Device *device;
    bool recording;        /* false: forward only, nothing is kept (evaluation, generation) */
    Microbatch microbatch; /* that this pass works on; the only one (0 of 1) until tape_begin_microbatch */
    TapeObserver observer;
    Node **nodes;
    int64_t node_count, node_capacity;
    Tensor **tensors;
    int64_t tensor_count, tensor_capacity;
    Transfer *transfers;      /* that are not done */
    bool halves;              /* the first half of backward runs, and the second will come */
    Tape *segments;           /* tapes of which the second half is to come (tape_keep) ... */
    Tape *keeper, *next;      /* ... and of such a tape: whose it is, and the next one */
    struct ArenaBlock *arena; /* nodes, tensor structs, args */
};

Tape *tape_new(Device *device, bool recording);
/* Waits for its messages (tape_finish), frees all activations and nodes; the tape can be used again. */
void tape_reset(Tape *tape);
void tape_delete(Tape *tape);

/* ---- for programs ---- */

/* What comes on this tape belongs to micro-batch `index` of the `count` of this step. Before its forward (a fused head
 * forms gradients there); it stays so until the next call. */
void tape_begin_microbatch(Tape *tape, int64_t index, int64_t count);

/* Runs every backward step in reverse; grad is the gradient of `out`, same shape (a loss: the scale). */
void tape_backward(Tape *tape, Tensor *out, const Tensor *grad);
/* The two halves apart. inputs keeps what params will need; both together give the bits of tape_backward.
 * A recomputed segment (op_recompute) is run again in the first, and keeps of that what the second needs. */
void tape_backward_inputs(Tape *tape, Tensor *out, const Tensor *grad);
void tape_backward_params(Tape *tape);
/* The forward reads x no more. */
void tape_drop(Tape *tape, Tensor *x);
/* Waits for every message of this tape, and frees what was kept for them alone. The device stands still until the last
 * has left, so where time counts: as late as memory allows. */
void tape_finish(Tape *tape);

/* ---- for ops ---- */

#define KERNELS(tape) (tape)->device->kernels
#define QUEUE(tape)   &(tape)->device->queue

/* A new activation of this tape, elements not set; its placement is that of `like` (NULL: Replicate). */
Tensor *tape_tensor(Tape *tape, const char *name, ElementType type, Shape shape, const Tensor *like);
/* Zeroed memory that lives until tape_reset. */
void *tape_alloc(Tape *tape, size_t bytes);
/* Appends a node for `out`; NULL when the tape does not record, and then there is nothing to fill in. */
Node *tape_node(Tape *tape, const Op *op, Tensor *in0, Tensor *in1, Tensor *out);
void node_save(Node *node, int slot, Tensor *t);
/* The gradient of x, bf16 where x is, else real, for a backward step to write into: overwrite it, or add to it when *add comes back true.
 * NULL: x is constant. */
Tensor *tape_grad(Tape *tape, Tensor *x, bool *add);

/* A gradient of x that is not x->grad, or not yet. */
Tensor *tape_grad_apart(Tape *tape, const Tensor *x);

/* `segment`, part of this tape's backward, stays until it is deleted; tape_reset does that where nobody has. */
void tape_keep(Tape *tape, Tape *segment);

/* The message has begun; when its tensor has been waited for, or at the tape's end, it is finished. */
void tape_begin_transfer(Tape *tape, Transfer *transfer, bool brings);
void tape_end_transfer(Transfer *transfer);
/* Waits until the elements of x are there: only what a message brings (by op_recv; a gradient, to op_send) may not be.
 * Every op calls it for its inputs before its kernels read them, and a program before it reads a tensor itself. */
static inline void tape_await(Tensor *x) {
    if (x->arriving) tape_end_transfer(x->arriving);
}

#endif
