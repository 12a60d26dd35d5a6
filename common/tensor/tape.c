#include "common/tensor/tape.h"

#include "common/tensor/kernels.h"

#include <stdlib.h>
#include <string.h>

/* ---- the arena: small structs that all die together ---- */

typedef struct ArenaBlock ArenaBlock;
struct ArenaBlock {
    ArenaBlock *next; /* older */
    size_t used;
    _Alignas(16) char bytes[1 << 16];
};

void *tape_alloc(Tape *tape, size_t bytes) {
    bytes = (bytes + 15) & ~(size_t)15;
    ASSERT(bytes <= sizeof tape->arena->bytes);
    if (!tape->arena || tape->arena->used + bytes > sizeof tape->arena->bytes) {
        ArenaBlock *block = xmalloc(sizeof *block);
        block->next = tape->arena;
        block->used = 0;
        tape->arena = block;
    }
    void *p = tape->arena->bytes + tape->arena->used;
    tape->arena->used += bytes;
    return memset(p, 0, bytes);
}

Tape *tape_new(Device *device, bool recording) {
    Tape *tape = xcalloc(1, sizeof *tape);
    tape->device = device;
    tape->recording = recording;
    tape->microbatch = (Microbatch){0, 1};
    return tape;
}

void tape_begin_microbatch(Tape *tape, int64_t index, int64_t count) {
    tape->microbatch = (Microbatch){index, count};
}

static void delete_segments(Tape *tape) {
    while (tape->segments) {
        Tape *segment = tape->segments;
        tape->segments = segment->next;
        segment->keeper = NULL;
        tape_delete(segment);
    }
}

void tape_reset(Tape *tape) {
    delete_segments(tape);
    tape_finish(tape);
    for (int64_t i = 0; i < tape->tensor_count; i++)
        if (tape->tensors[i]->data) tensor_free(tape->tensors[i]);
    tape->tensor_count = tape->node_count = 0;
    while (tape->arena && tape->arena->next) { /* keep one block for the next step */
        ArenaBlock *older = tape->arena->next;
        free(tape->arena);
        tape->arena = older;
    }
    if (tape->arena) tape->arena->used = 0;
}

void tape_keep(Tape *tape, Tape *segment) {
    segment->keeper = tape;
    segment->next = tape->segments;
    tape->segments = segment;
}

static void leave_keeper(Tape *segment) {
    Tape **link = &segment->keeper->segments;
    while (*link != segment) link = &(*link)->next;
    *link = segment->next;
}

void tape_delete(Tape *tape) {
    tape_reset(tape);
    if (tape->keeper) leave_keeper(tape);
    if (tape->observer.gone) tape->observer.gone(tape->observer.context, tape);
    free(tape->arena);
    free(tape->nodes);
    free(tape->tensors);
    free(tape);
}

/* ---- forward ---- */

/* Appends to an array that doubles. */
static void **push(void **items, int64_t *count, int64_t *capacity, void *item) {
    if (*count == *capacity) {
        *capacity = 2 * *capacity + 64;
        items = xrealloc(items, (size_t)*capacity * sizeof *items);
    }
    items[(*count)++] = item;
    return items;
}

Tensor *tape_tensor(Tape *tape, const char *name, ElementType type, Shape shape, const Tensor *like) {
    Tensor *t = tape_alloc(tape, sizeof *t);
    *t = tensor_new(tape->device, MEMORY_ACTIVATIONS, name, type, shape);
    if (like) memcpy(t->place, like->place, sizeof t->place);
    tape->tensors = (Tensor **)push((void **)tape->tensors, &tape->tensor_count, &tape->tensor_capacity, t);
    return t;
}

static void observe(const Tape *tape, const Node *node, TapePhase phase) {
    if (tape->observer.done) tape->observer.done(tape->observer.context, node, phase);
}

static void check_has_arrived(const Op *op, const Tensor *x) {
    CHECK(!x || !x->arriving, "tape_await comes before the kernels of an op, for each of its inputs",
          "op_%s has read '%s', which is still on its way from another device", op->name, x->name);
}

Node *tape_node(Tape *tape, const Op *op, Tensor *in0, Tensor *in1, Tensor *out) {
    check_has_arrived(op, in0);
    check_has_arrived(op, in1);
    if (!tape->recording) return NULL;
    Node *node = tape_alloc(tape, sizeof *node);
    node->op = op;
    node->in[0] = in0;
    node->in[1] = in1;
    node->out = out;
    tape->nodes = (Node **)push((void **)tape->nodes, &tape->node_count, &tape->node_capacity, node);
    observe(tape, node, TAPE_FORWARD);
    return node;
}

void node_save(Node *node, int slot, Tensor *t) {
    node->saved[slot] = t;
    t->readers++;
}

/* Frees an activation that neither the forward nor a backward step will read. */
static void free_if_unread(Tensor *t) {
    if (t->data && t->dropped && t->readers == 0 && t->memory == MEMORY_ACTIVATIONS) tensor_free(t);
}

void tape_drop(Tape *tape, Tensor *x) {
    (void)tape;
    x->dropped = true;
    free_if_unread(x);
}

/* ---- messages under way: each is a reader of its tensor ---- */

void tape_begin_transfer(Tape *tape, Transfer *transfer, bool brings) {
    Transfer **end = &tape->transfers;
    while (*end) end = &(*end)->next;
    *end = transfer;
    transfer->tape = tape;
    transfer->next = NULL;
    transfer->tensor->readers++;
    if (brings) transfer->tensor->arriving = transfer;
}

void tape_end_transfer(Transfer *transfer) {
    Transfer **link = &transfer->tape->transfers;
    Tensor *t = transfer->tensor;
    while (*link != transfer) link = &(*link)->next;
    *link = transfer->next;
    if (t->arriving == transfer) t->arriving = NULL;
    transfer->finish(transfer);
    t->readers--;
    free_if_unread(t);
}

void tape_finish(Tape *tape) {
    while (tape->transfers) tape_end_transfer(tape->transfers);
}

/* ---- backward ---- */

Tensor *tape_grad_apart(Tape *tape, const Tensor *x) {
    ElementType type = x->type == TYPE_BF16 ? TYPE_BF16 : TYPE_REAL;
    Tensor *grad = tape_tensor(tape, x->name, type, x->shape, x);
    for (int axis = 0; axis < MESH_AXES; axis++) grad->place[axis] = place_of_grad(x->place[axis]);
    return grad;
}

Tensor *tape_grad(Tape *tape, Tensor *x, bool *add) {
    if (x->constant) return NULL;
    *add = x->grad != NULL;
    if (*add) {
        tape_await(x->grad);
        return x->grad;
    }
    return x->grad = tape_grad_apart(tape, x);
}

static void seed(Tape *tape, Tensor *out, const Tensor *grad) {
    ASSERT(tape->recording && shape_equal(out->shape, grad->shape));
    bool add;
    Tensor *g = tape_grad(tape, out, &add);
    ASSERT(g && !add);
    tape->device->kernels->copy(&tape->device->queue, grad, g);
}

static void backward_input(Tape *tape, Node *node) {
    if (!node->op->backward_input || !node->out->grad) return;
    tape_await(node->out->grad);
    node->op->backward_input(tape, node);
    observe(tape, node, TAPE_BACKWARD_INPUT);
}

static void backward_param(Tape *tape, Node *node) {
    if (!node->op->backward_param || !node->out->grad) return;
    tape_await(node->out->grad);
    node->op->backward_param(tape, node);
    observe(tape, node, TAPE_BACKWARD_PARAM);
}

/* Frees what only this node's backward was waiting for. */
static void release(Tape *tape, Node *node) {
    for (int i = 0; i < NODE_SAVED; i++) {
        if (!node->saved[i]) continue;
        node->saved[i]->readers--;
        free_if_unread(node->saved[i]);
        node->saved[i] = NULL;
    }
    node->out->dropped = true;
    free_if_unread(node->out);
    if (node->out->grad) tape_drop(tape, node->out->grad);
}

void tape_backward(Tape *tape, Tensor *out, const Tensor *grad) {
    seed(tape, out, grad);
    for (int64_t i = tape->node_count - 1; i >= 0; i--) {
        backward_input(tape, tape->nodes[i]);
        backward_param(tape, tape->nodes[i]);
        release(tape, tape->nodes[i]);
    }
}

void tape_backward_inputs(Tape *tape, Tensor *out, const Tensor *grad) {
    seed(tape, out, grad);
    tape->halves = true;
    for (int64_t i = tape->node_count - 1; i >= 0; i--) {
        backward_input(tape, tape->nodes[i]);
        if (!tape->nodes[i]->op->backward_param) release(tape, tape->nodes[i]);
    }
    tape->halves = false;
}

void tape_backward_params(Tape *tape) {
    for (int64_t i = tape->node_count - 1; i >= 0; i--) {
        if (!tape->nodes[i]->op->backward_param) continue;
        backward_param(tape, tape->nodes[i]);
        release(tape, tape->nodes[i]);
    }
}
