/* ops: linear, add, embedding, norms, activations, dropout. */
#include "common/tensor/kernels.h"
#include "common/tensor/ops.h"
#include "common/tensor/ops_parts.h"
#include "common/tensor/places.h"

/* ---- linear: y = x W + b ---- */

void linear_backward_input(Tape *tape, Node *n) { /* dx += dy W^T */
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (!dx) return;
    const Tensor *w = param_acquire(n->param[0]);
    KERNELS(tape)->matmul(QUEUE(tape), n->out->grad, false, w, true, NULL, dx, add);
    param_release(n->param[0]);
}

void linear_backward_param_of(Tape *tape, Node *n, const Tensor *x) {
    Tensor dw = param_grad_begin(n->param[0], 0, tape->microbatch);
    KERNELS(tape)->matmul(QUEUE(tape), x, true, n->out->grad, false, NULL, &dw, false);
    param_grad_end(n->param[0], 0, tape->microbatch, dw, NULL);
    if (!n->param[1]) return;
    Tensor db = param_grad_begin(n->param[1], 0, tape->microbatch);
    KERNELS(tape)->sum_rows(QUEUE(tape), n->out->grad, &db, false);
    param_grad_end(n->param[1], 0, tape->microbatch, db, NULL);
}

void linear_backward_param(Tape *tape, Node *n) { linear_backward_param_of(tape, n, n->saved[0]); }

Tensor *linear_product(Tape *tape, const char *op, const Tensor *x, Param *weight, Param *bias) {
    const Tensor *w = param_acquire(weight), *b = bias ? param_acquire(bias) : NULL;
    Tensor *y = tape_tensor(tape, weight->name, x->type, shape_with_columns(x->shape, tensor_columns(w)), x);
    places_of_product(op, x, w, 0, b, y);
    KERNELS(tape)->matmul(QUEUE(tape), x, false, w, false, b, y, false);
    param_release(weight);
    if (bias) param_release(bias);
    return y;
}

Node *linear_node(Tape *tape, const Op *op, Tensor *x, Param *weight, Param *bias, Tensor *y) {
    Node *n = tape_node(tape, op, x, NULL, y);
    if (!n) return NULL;
    n->param[0] = weight;
    n->param[1] = bias;
    node_save(n, 0, x);
    return n;
}

static const Op linear_op = {"linear", linear_backward_input, linear_backward_param};

Tensor *op_linear(Tape *tape, Tensor *x, Param *weight, Param *bias) {
    tensor_check_not_partial(x, "op_linear");
    tape_await(x);
    Tensor *y = linear_product(tape, "op_linear", x, weight, bias);
    linear_node(tape, &linear_op, x, weight, bias, y);
    return y;
}

/* ---- add ---- */

static void pass_on(Tape *tape, Node *n, int input) { /* dx += dy */
    bool add;
    Tensor *dx = tape_grad(tape, n->in[input], &add);
    if (!dx) return;
    if (add)
        KERNELS(tape)->accumulate(QUEUE(tape), n->out->grad, dx);
    else
        KERNELS(tape)->copy(QUEUE(tape), n->out->grad, dx);
}

static void add_backward(Tape *tape, Node *n) {
    pass_on(tape, n, 0);
    pass_on(tape, n, 1);
}

static const Op add_op = {"add", add_backward, NULL};

Tensor *op_add(Tape *tape, Tensor *a, Tensor *b) {
    ASSERT(shape_equal(a->shape, b->shape));
    places_check_alike("op_add", a, b);
    tape_await(a);
    tape_await(b);
    Tensor *y = tape_tensor(tape, "add", a->type, a->shape, a);
    KERNELS(tape)->add(QUEUE(tape), a, b, y);
    tape_node(tape, &add_op, a, b, y);
    return y;
}

/* ---- concat: two slices side by side, and the gradient's two slices back ---- */

static void concat_backward(Tape *tape, Node *n) {
    int64_t first = 0;
    for (int i = 0; i < 2; i++) {
        bool add;
        int64_t columns = tensor_columns(n->in[i]);
        Tensor *dx = tape_grad(tape, n->in[i], &add);
        if (dx)
            KERNELS(tape)->copy_slice(QUEUE(tape), n->out->grad, first, dx, 0, dx->shape.rank - 1, columns,
                                      add);
        first += columns;
    }
}

static const Op concat_op = {"concat", concat_backward, NULL};

Tensor *op_concat(Tape *tape, Tensor *a, Tensor *b) {
    int64_t columns_a = tensor_columns(a), columns_b = tensor_columns(b);
    ASSERT(shape_equal(shape_with_columns(a->shape, 0), shape_with_columns(b->shape, 0)));
    tape_await(a);
    tape_await(b);
    Tensor *y = tape_tensor(tape, "concat", a->type, shape_with_columns(a->shape, columns_a + columns_b), a);
    places_of_join("op_concat", a, b, y);
    int axis = y->shape.rank - 1;
    KERNELS(tape)->copy_slice(QUEUE(tape), a, 0, y, 0, axis, columns_a, false);
    KERNELS(tape)->copy_slice(QUEUE(tape), b, 0, y, columns_a, axis, columns_b, false);
    tape_node(tape, &concat_op, a, b, y);
    return y;
}

/* ---- add bias ---- */

static void add_bias_backward_input(Tape *tape, Node *n) { pass_on(tape, n, 0); }

static void add_bias_backward_param(Tape *tape, Node *n) { /* db = the sum of dy's rows */
    Tensor db = param_grad_begin(n->param[0], 0, tape->microbatch);
    KERNELS(tape)->sum_rows(QUEUE(tape), n->out->grad, &db, false);
    param_grad_end(n->param[0], 0, tape->microbatch, db, NULL);
}

static const Op add_bias_op = {"add_bias", add_bias_backward_input, add_bias_backward_param};

Tensor *op_add_bias(Tape *tape, Tensor *x, Param *bias) {
    tensor_check_not_partial(x, "op_add_bias");
    tape_await(x);
    const Tensor *b = param_acquire(bias);
    places_check_row("op_add_bias", x, b);
    ASSERT(tensor_columns(x) == tensor_count(b));
    Tensor *y = tape_tensor(tape, bias->name, x->type, x->shape, x);
    KERNELS(tape)->add_row(QUEUE(tape), x, b, y);
    param_release(bias);
    Node *n = tape_node(tape, &add_bias_op, x, NULL, y);
    if (n) n->param[0] = bias;
    return y;
}

/* ---- embedding ---- */

typedef struct {
    int64_t first_id, first;
} EmbeddingArgs;

static void embedding_backward(Tape *tape, Node *n) {
    const EmbeddingArgs *a = n->args;
    Tensor dtoken = param_grad_begin(n->param[0], 0, tape->microbatch);
    KERNELS(tape)->zero(QUEUE(tape), &dtoken);
    KERNELS(tape)->embedding_backward(QUEUE(tape), n->saved[0], n->out->grad, a->first_id, &dtoken);
    param_grad_end(n->param[0], 0, tape->microbatch, dtoken, NULL);
    if (!n->param[1]) return;
    Tensor dposition = param_grad_begin(n->param[1], 0, tape->microbatch);
    KERNELS(tape)->position_backward(QUEUE(tape), n->out->grad, a->first, &dposition);
    param_grad_end(n->param[1], 0, tape->microbatch, dposition, NULL);
}

static const Op embedding_op = {"embedding", NULL, embedding_backward};

Tensor *op_embedding(Tape *tape, Tensor *ids, Param *token, int64_t first_id, Param *position,
                     int64_t first) {
    const Tensor *tok = param_acquire(token), *pos = position ? param_acquire(position) : NULL;
    int64_t B = ids->shape.size[0], T = ids->shape.size[1], C = tensor_columns(tok);
    Tensor *y = tape_tensor(tape, token->name, tok->type, SHAPE(B, T, C), ids);
    places_of_look_up("op_embedding", ids, tok, pos, y);
    KERNELS(tape)->embedding(QUEUE(tape), ids, tok, first_id, pos, first, y);
    param_release(token);
    if (position) param_release(position);
    Node *n = tape_node(tape, &embedding_op, NULL, NULL, y);
    if (!n) return y;
    n->param[0] = token;
    n->param[1] = position;
    n->args = tape_alloc(tape, sizeof(EmbeddingArgs));
    *(EmbeddingArgs *)n->args = (EmbeddingArgs){first_id, first};
    node_save(n, 0, ids);
    return y;
}

/* ---- norms ---- */

typedef struct {
    double eps;
} NormArgs;

static void norm_backward_param(Tape *tape, Node *n) {
    Tensor dgain = param_grad_begin(n->param[0], 0, tape->microbatch), dbias;
    if (n->param[1]) dbias = param_grad_begin(n->param[1], 0, tape->microbatch);
    KERNELS(tape)->norm_backward_param(QUEUE(tape), n->out->grad, n->saved[0], n->saved[1], &dgain,
                                       n->param[1] ? &dbias : NULL);
    param_grad_end(n->param[0], 0, tape->microbatch, dgain, NULL);
    if (n->param[1]) param_grad_end(n->param[1], 0, tape->microbatch, dbias, NULL);
}

static void layernorm_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (!dx) return;
    KERNELS(tape)->layernorm_backward(QUEUE(tape), n->out->grad, n->saved[0], param_acquire(n->param[0]),
                                      n->saved[1], dx, add);
    param_release(n->param[0]);
}

static void rmsnorm_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (!dx) return;
    KERNELS(tape)->rmsnorm_backward(QUEUE(tape), n->out->grad, n->saved[0], param_acquire(n->param[0]),
                                    n->saved[1], dx, add);
    param_release(n->param[0]);
}

static const Op layernorm_op = {"layernorm", layernorm_backward, norm_backward_param};
static const Op rmsnorm_op = {"rmsnorm", rmsnorm_backward, norm_backward_param};

/* A norm reads whole rows. */
static void check_norm(const char *op, const Tensor *x, const Tensor *gain, const Tensor *bias) {
    tensor_check_not_partial(x, op);
    places_check_whole(op, x, x->shape.rank - 1, "op_gather puts the slices together");
    places_check_row(op, x, gain);
    if (bias) places_check_row(op, x, bias);
}

/* The node of either norm: backward reads x and the statistics of its rows. */
static Tensor *norm_node(Tape *tape, const Op *op, Tensor *x, Param *gain, Param *bias, Tensor *y,
                         Tensor *stats) {
    Node *n = tape_node(tape, op, x, NULL, y);
    if (n) {
        n->param[0] = gain;
        n->param[1] = bias;
        node_save(n, 0, x);
        node_save(n, 1, stats);
    }
    tape_drop(tape, stats);
    return y;
}

Tensor *op_layernorm(Tape *tape, Tensor *x, Param *gain, Param *bias, double eps) {
    const Tensor *g = param_acquire(gain), *b = bias ? param_acquire(bias) : NULL;
    check_norm("op_layernorm", x, g, b);
    tape_await(x);
    Tensor *y = tape_tensor(tape, gain->name, x->type, x->shape, x);
    Tensor *stats = tape_tensor(tape, "layernorm.stats", TYPE_REAL, SHAPE(tensor_rows(x), 2), x);
    KERNELS(tape)->layernorm(QUEUE(tape), x, g, b, eps, y, stats);
    param_release(gain);
    if (bias) param_release(bias);
    return norm_node(tape, &layernorm_op, x, gain, bias, y, stats);
}

Tensor *op_rmsnorm(Tape *tape, Tensor *x, Param *gain, double eps) {
    const Tensor *g = param_acquire(gain);
    check_norm("op_rmsnorm", x, g, NULL);
    tape_await(x);
    Tensor *y = tape_tensor(tape, gain->name, x->type, x->shape, x);
    Tensor *stats = tape_tensor(tape, "rmsnorm.stats", TYPE_REAL, SHAPE(tensor_rows(x), 2), x);
    KERNELS(tape)->rmsnorm(QUEUE(tape), x, g, eps, y, stats);
    param_release(gain);
    return norm_node(tape, &rmsnorm_op, x, gain, NULL, y, stats);
}

/* ---- activations: y = f(x), dx += dy f'(x) ---- */

static void relu_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (dx) KERNELS(tape)->relu_backward(QUEUE(tape), n->out->grad, n->saved[0], dx, add);
}

static void gelu_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (dx) KERNELS(tape)->gelu_backward(QUEUE(tape), n->out->grad, n->saved[0], dx, add);
}

static void swiglu_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    if (dx) KERNELS(tape)->swiglu_backward(QUEUE(tape), n->out->grad, n->saved[0], dx, add);
}

static const Op relu_op = {"relu", relu_backward, NULL};
static const Op gelu_op = {"gelu", gelu_backward, NULL};
static const Op swiglu_op = {"swiglu", swiglu_backward, NULL};

static Tensor *activation(Tape *tape, const Op *op, void (*kernel)(Queue *, const Tensor *, Tensor *),
                          Tensor *x, int64_t columns) {
    tensor_check_not_partial(x, op->name);
    tape_await(x);
    Tensor *y = tape_tensor(tape, op->name, x->type, shape_with_columns(x->shape, columns), x);
    kernel(QUEUE(tape), x, y);
    Node *n = tape_node(tape, op, x, NULL, y);
    if (n) node_save(n, 0, x);
    return y;
}

Tensor *op_relu(Tape *tape, Tensor *x) {
    return activation(tape, &relu_op, KERNELS(tape)->relu, x, tensor_columns(x));
}

Tensor *op_gelu(Tape *tape, Tensor *x) {
    return activation(tape, &gelu_op, KERNELS(tape)->gelu, x, tensor_columns(x));
}

Tensor *op_swiglu(Tape *tape, Tensor *x) {
    return activation(tape, &swiglu_op, KERNELS(tape)->swiglu, x, tensor_columns(x) / 2);
}

/* ---- dropout: the mask is drawn again in backward, not kept ---- */

static void dropout_backward(Tape *tape, Node *n) {
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    const DropoutSite *s = n->args;
    if (!dx) return;
    KERNELS(tape)->dropout(QUEUE(tape), n->out->grad, s->rate, s->seed, s->stream, s->first, s->window, dx,
                           add);
}

static const Op dropout_op = {"dropout", dropout_backward, NULL};

Tensor *op_dropout(Tape *tape, Tensor *x, DropoutSite site) {
    if (site.rate == 0) return x;
    tensor_check_not_partial(x, "op_dropout");
    tape_await(x);
    Tensor *y = tape_tensor(tape, "dropout", x->type, x->shape, x);
    KERNELS(tape)->dropout(QUEUE(tape), x, site.rate, site.seed, site.stream, site.first, site.window, y,
                           false);
    Node *n = tape_node(tape, &dropout_op, x, NULL, y);
    if (!n) return y;
    n->args = tape_alloc(tape, sizeof site);
    *(DropoutSite *)n->args = site;
    return y;
}
