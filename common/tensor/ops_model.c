/* ops: attention, rotary positions, the head with its loss, recomputation. */
#include "common/tensor/kernels.h"
#include "common/tensor/ops.h"
#include "common/tensor/ops_parts.h"
#include "common/tensor/places.h"

#include <string.h>

typedef struct {
    int64_t H, K, first;
    const Tensor *table;
} HeadsArgs;

static HeadsArgs *heads_args(Tape *tape, int64_t H, int64_t K, int64_t first, const Tensor *table) {
    HeadsArgs *a = tape_alloc(tape, sizeof *a);
    *a = (HeadsArgs){H, K, first, table};
    return a;
}

/* ---- rotary positions: a rotation; its backward turns the other way ---- */

static void rope_backward(Tape *tape, Node *n) {
    bool add;
    const HeadsArgs *a = n->args;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    ASSERT(dx && !add); /* a projection's output has one reader */
    KERNELS(tape)->rope(QUEUE(tape), n->out->grad, a->table, a->H, a->K, a->first, true, dx);
}

static const Op rope_op = {"rope", rope_backward, NULL};

Tensor *op_rope(Tape *tape, Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first) {
    tensor_check_not_partial(qkv, "op_rope");
    tape_await(qkv);
    Tensor *y = tape_tensor(tape, "rope", qkv->type, qkv->shape, qkv);
    KERNELS(tape)->rope(QUEUE(tape), qkv, table, H, K, first, false, y);
    Node *n = tape_node(tape, &rope_op, qkv, NULL, y);
    if (n) n->args = heads_args(tape, H, K, first, table);
    return y;
}

/* ---- attention ---- */

static Tensor *scratch_new(Tape *tape, int64_t B, int64_t T, int64_t H, int64_t D) {
    int64_t count = KERNELS(tape)->attention_scratch(QUEUE(tape), B, T, H, D);
    return tape_tensor(tape, "attention.scratch", TYPE_REAL, SHAPE(count), NULL);
}

static void attention_backward(Tape *tape, Node *n) {
    bool add;
    const HeadsArgs *a = n->args;
    Tensor *dqkv = tape_grad(tape, n->in[0], &add);
    ASSERT(dqkv && !add);
    int64_t B = n->out->shape.size[0], T = n->out->shape.size[1], D = tensor_columns(n->out) / a->H;
    Tensor *scratch = scratch_new(tape, B, T, a->H, D);
    KERNELS(tape)->attention_backward(QUEUE(tape), n->out->grad, n->saved[0], n->saved[1], n->saved[2], a->H,
                                      a->K, dqkv, scratch);
    tape_drop(tape, scratch);
}

static const Op attention_op = {"attention", attention_backward, NULL};

Tensor *op_attention(Tape *tape, Tensor *qkv, int64_t H, int64_t K) {
    tensor_check_not_partial(qkv, "op_attention");
    places_check_whole("op_attention", qkv, 1,
                       "a token attends to all before it: op_all_gather puts the sequence together");
    tape_await(qkv);
    int64_t B = qkv->shape.size[0], T = qkv->shape.size[1], D = tensor_columns(qkv) / (H + 2 * K);
    Tensor *out = tape_tensor(tape, "attention", qkv->type, SHAPE(B, T, H * D), qkv);
    Tensor *lse = tape_tensor(tape, "attention.lse", TYPE_REAL, SHAPE(B, T, H), qkv);
    Tensor *scratch = scratch_new(tape, B, T, H, D);
    KERNELS(tape)->attention(QUEUE(tape), qkv, H, K, out, lse, scratch);
    tape_drop(tape, scratch);
    Node *n = tape_node(tape, &attention_op, qkv, NULL, out);
    if (n) {
        n->args = heads_args(tape, H, K, 0, NULL);
        node_save(n, 0, qkv);
        node_save(n, 1, out);
        node_save(n, 2, lse);
    }
    tape_drop(tape, lse);
    return out;
}

Tensor *op_attention_cached(Tape *tape, Tensor *qkv, int64_t H, int64_t K, KeyValueCache *cache) {
    ASSERT(!tape->recording && qkv->shape.size[0] == 1);
    tape_await(qkv);
    int64_t T = qkv->shape.size[1], D = tensor_columns(qkv) / (H + 2 * K);
    ASSERT(cache->count + T <= cache->keys.shape.size[0]);
    Tensor *out = tape_tensor(tape, "attention", qkv->type, SHAPE(1, T, H * D), qkv);
    Tensor *scratch = scratch_new(tape, 1, cache->keys.shape.size[0], H, D);
    KERNELS(tape)->attention_cached(QUEUE(tape), qkv, H, K, cache->count, &cache->keys, &cache->values, out,
                                    scratch);
    tape_drop(tape, scratch);
    return out;
}

/* ---- head and loss ---- */

HeadLoss head_loss_begin(Tape *tape, const Tensor *x, Param *head, Param *bias, int use) {
    HeadLoss formed = {.loss = tape_tensor(tape, "loss", TYPE_F64, SHAPE(1), NULL)};
    KERNELS(tape)->zero(QUEUE(tape), formed.loss);
    if (!tape->recording) return formed;
    formed.dhead = param_grad_begin(head, use, tape->microbatch);
    if (bias) formed.dbias = param_grad_begin(bias, 0, tape->microbatch);
    formed.dx = tape_tensor(tape, "loss.dx", x->type, x->shape, x);
    return formed;
}

Tensor *head_loss_end(Tape *tape, const Op *op, Tensor *x, Param *head, Param *bias, int use,
                      const HeadLoss *formed) {
    Node *n = tape_node(tape, op, x, NULL, formed->loss);
    if (!n) return formed->loss;
    n->args = tape_alloc(tape, sizeof *formed);
    *(HeadLoss *)n->args = *formed;
    n->param[0] = head;
    n->param[1] = bias;
    n->use[0] = use;
    node_save(n, 0, formed->dx);
    tape_drop(tape, formed->dx);
    return formed->loss;
}

void head_loss_backward_input(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (dx) KERNELS(tape)->scale(QUEUE(tape), n->out->grad, n->saved[0], dx, add);
}

void head_loss_backward_param(Tape *tape, Node *n) {
    const HeadLoss *formed = n->args;
    param_grad_end(n->param[0], n->use[0], tape->microbatch, formed->dhead, n->out->grad);
    if (n->param[1]) param_grad_end(n->param[1], 0, tape->microbatch, formed->dbias, n->out->grad);
}

static const Op head_loss_op = {"head_loss", head_loss_backward_input, head_loss_backward_param};

/* A softmax reads the whole vocabulary. */
static void check_head(const Tensor *x, const Tensor *head, const Tensor *bias) {
    static const char hint[] = "where each device has some of the vocabulary, the loss is formed in pieces";
    places_check_whole("op_head_loss", x, x->shape.rank - 1, "op_all_gather puts the slices together");
    places_check_replicate("op_head_loss", head, hint);
    if (bias) places_check_replicate("op_head_loss", bias, hint);
}

Tensor *op_head_loss(Tape *tape, Tensor *x, Param *head, Param *bias, int use, const Tensor *targets) {
    tensor_check_not_partial(x, "op_head_loss");
    const Tensor *w = param_acquire(head), *b = bias ? param_acquire(bias) : NULL;
    check_head(x, w, b);
    tape_await(x);
    const Kernels *k = KERNELS(tape);
    Queue *q = QUEUE(tape);
    int64_t rows = tensor_rows(x), chunk = min64(rows, LOSS_CHUNK);

    HeadLoss formed = head_loss_begin(tape, x, head, bias, use);
    int64_t count = k->head_loss_scratch(q, chunk, tensor_columns(x), w->shape.size[0], tape->recording);
    Tensor *scratch = tape_tensor(tape, "logits", TYPE_REAL, SHAPE(count), NULL);
    for (int64_t row = 0; row < rows; row += chunk) {
        int64_t part = min64(chunk, rows - row);
        Tensor x_rows = tensor_rows_view(x, row, part), dx_rows;
        if (formed.dx) dx_rows = tensor_rows_view(formed.dx, row, part);
        k->head_loss(q, &x_rows, w, b, targets, row, formed.dx ? &dx_rows : NULL,
                     formed.dx ? &formed.dhead : NULL, formed.dx && bias ? &formed.dbias : NULL, row > 0,
                     formed.loss, scratch);
    }
    tape_drop(tape, scratch);
    param_release(head);
    if (bias) param_release(bias);
    return head_loss_end(tape, &head_loss_op, x, head, bias, use, &formed);
}

Tensor *op_logits(Tape *tape, Tensor *x, Param *head, Param *bias) {
    ASSERT(!tape->recording);
    tape_await(x);
    const Tensor *w = param_acquire(head), *b = bias ? param_acquire(bias) : NULL;
    Tensor *y = tape_tensor(tape, "logits", TYPE_REAL, shape_with_columns(x->shape, w->shape.size[0]), x);
    places_of_product("op_logits", x, w, 1, b, y);
    KERNELS(tape)->matmul(QUEUE(tape), x, false, w, true, b, y, false);
    param_release(head);
    if (bias) param_release(bias);
    return y;
}

/* ---- squared error: the gradient is formed in the forward and scaled in backward ---- */

static void squared_error_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dy = tape_grad(tape, n->in[0], &add);
    if (dy) KERNELS(tape)->scale(QUEUE(tape), n->out->grad, n->saved[0], dy, add);
}

static const Op squared_error_op = {"squared_error", squared_error_backward, NULL};

Tensor *op_squared_error(Tape *tape, Tensor *y, Tensor *target) {
    tensor_check_not_partial(y, "op_squared_error");
    tape_await(y);
    tape_await(target);
    Tensor *loss = tape_tensor(tape, "loss", TYPE_F64, SHAPE(1), NULL);
    Tensor *dy = tape_tensor(tape, "loss.dy", y->type, y->shape, y);
    KERNELS(tape)->zero(QUEUE(tape), loss);
    KERNELS(tape)->squared_error(QUEUE(tape), y, target, dy, loss);
    Node *n = tape_node(tape, &squared_error_op, y, NULL, loss);
    if (n) node_save(n, 0, dy);
    tape_drop(tape, dy);
    return loss;
}

/* ---- recomputation ---- */

typedef struct {
    SegmentFn forward;
    void *context;
    Tape *again; /* between the halves of backward */
} RecomputeArgs;

/* dx += that of the copy */
static void add_segment_grad(Tape *tape, Tensor *x, Tensor *copy) {
    bool add;
    if (copy->grad) tape_await(copy->grad);
    Tensor *dx = tape_grad(tape, x, &add);
    if (dx && copy->grad)
        (add ? KERNELS(tape)->accumulate : KERNELS(tape)->copy)(QUEUE(tape), copy->grad, dx);
}

static void observe_as(Tape *again, const Tape *tape) {
    again->observer = (TapeObserver){.done = tape->observer.done, .context = tape->observer.context};
}

static void recompute_backward_param(Tape *tape, Node *n) {
    Tape *again = ((const RecomputeArgs *)n->args)->again;
    observe_as(again, tape);
    tape_backward_params(again);
    tape_delete(again);
}

/* What a node becomes whose second half is to come. */
static const Op recompute_half_op = {"recompute", NULL, recompute_backward_param};

/* Runs the segment again, from a copy of x with a gradient of its own. */
static void recompute_backward(Tape *tape, Node *n) {
    RecomputeArgs *a = n->args;
    Tape *again = tape_new(tape->device, true);
    observe_as(again, tape);
    again->microbatch = tape->microbatch;
    Tensor *x = tape_alloc(again, sizeof *x);
    *x = *n->saved[0]; /* the same memory */
    x->grad = NULL;
    x->readers = 1;
    x->dropped = false;
    Tensor *y = a->forward(a->context, again, x);
    (tape->halves ? tape_backward_inputs : tape_backward)(again, y, n->out->grad);
    add_segment_grad(tape, n->in[0], x);
    if (!tape->halves) { /* both halves at once: nothing is kept */
        tape_delete(again);
        return;
    }
    tape_drop(tape, n->out->grad); /* of these two the second half reads none */
    if (x->grad) tape_drop(again, x->grad);
    tape_keep(tape, again);
    a->again = again;
    n->op = &recompute_half_op;
}

static const Op recompute_op = {"recompute", recompute_backward, NULL};

Tensor *op_recompute(Tape *tape, Tensor *x, SegmentFn forward, const void *context, size_t context_bytes) {
    RecomputeArgs *a = tape_alloc(tape, sizeof *a);
    a->forward = forward;
    a->context = tape_alloc(tape, context_bytes);
    memcpy(a->context, context, context_bytes);
    bool recording = tape->recording;
    tape_await(x);
    tape->recording = false;
    x->readers++; /* the segment may drop x, which backward will read */
    Tensor *y = forward(a->context, tape, x);
    x->readers--;
    tape->recording = recording;
    Node *n = tape_node(tape, &recompute_op, x, NULL, y);
    if (!n) return y;
    n->args = a;
    node_save(n, 0, x);
    return y;
}
