#include "common/model/activation_bytes.h"

#include "common/model/step_numbers.h"
#include "common/model/model.h"
#include "common/tensor/kernels.h"
#include "common/tensor/ops_parts.h"
#include "common/tensor/tensor.h"

/* All in bytes, where nothing else is said. */
typedef struct {
    const char *op;
    int64_t keeps;     /* for backward, and nobody before it does */
    int64_t gradients; /* in backward: of its output, its input, and those that wait for ops before it */
    int64_t scratch;   /* in backward */
} Row;

typedef struct {
    const ModelConfig *model;
    const ActivationCase *c;
    const Device *device;
    int64_t each, real; /* of an activation, of a real: statistics, log-sum-exps and scratch are reals */
    int64_t tokens, slice_tokens; /* of a micro-batch; those between matrix products */
    int64_t x, slice;             /* an activation (tokens,C), (slice_tokens,C) */
    int64_t heads, key_value_heads, D, F;

    Row rows[ACTIVATION_ROWS]; /* the last block, then what follows it */
    int count, block_count;
    int64_t waiting; /* gradients that exist while the next rows are undone */
    bool begins;     /* the next row reads what the residual stream has: its gradient is there already */
} Chain;

/* ---- ops, in the order of forward ---- */

static void row(Chain *ch, const char *op, int64_t in, int64_t out, int64_t keeps, int64_t scratch) {
    ASSERT(ch->count < ACTIVATION_ROWS);
    int64_t gradients = out + (ch->begins ? 0 : in) + ch->waiting;
    ch->rows[ch->count++] = (Row){op, keeps, gradients, scratch};
    ch->begins = false;
}

/* Mean and deviation of each row are kept. */
static void norm(Chain *ch, const char *op) {
    row(ch, op, ch->slice, ch->slice, ch->slice + 2 * ch->slice_tokens * ch->real, 0);
}

static void branch_begins(Chain *ch) {
    ch->begins = true;
    ch->waiting = ch->slice;
}

static void branch_ends(Chain *ch, const char *op) {
    if (ch->model->dropout > 0) row(ch, "dropout", ch->slice, ch->slice, 0, 0);
    ch->waiting = 0;
    row(ch, op, 2 * ch->slice, ch->slice, 0, 0);
}

/* y (tokens,out) = x (tokens,in) W, where a product with the transpose of W may need scratch. Of x `there` tokens are an
 * activation. */
static void product(Chain *ch, const char *op, int64_t there, int64_t in, int64_t out, bool keeps_input) {
    int64_t scratch = ch->device->kernels->matmul_scratch(&ch->device->queue, ch->tokens, in, out, true);
    int64_t input = there * in * ch->each;
    row(ch, op, input, ch->tokens * out * ch->each, keeps_input ? input : 0, scratch * ch->real);
}

/* op_copy or op_all_gather. */
static void enter(Chain *ch) { row(ch, "enter", ch->slice, ch->x, 0, 0); }

/* An op that overlaps, or gathers again, is both that and the product. */
static void column_product(Chain *ch, const char *op, int64_t out) {
    const ActivationCase *c = ch->c;
    bool enters = c->tensor && !c->overlap && !(c->sequence_parallel && c->gather_again);
    if (enters) enter(ch);
    product(ch, op, enters ? ch->tokens : ch->slice_tokens, ch->model->C, out, true);
}

static void row_product(Chain *ch, const char *op, int64_t in, bool keeps_input) {
    product(ch, op, ch->tokens, in, ch->model->C, keeps_input);
    if (!ch->c->tensor) return; /* its bias is added by the product */
    if (!ch->c->overlap) row(ch, "leave", ch->x, ch->slice, 0, 0);
    if (ch->model->bias) row(ch, "add bias", ch->slice, ch->slice, 0, 0);
}

static bool shares_head(const Chain *ch) { return ch->c->tensor > ch->model->K; }

static void qkv_product(Chain *ch) {
    int64_t C = ch->model->C, q = ch->heads * ch->D, kv = 2 * ch->key_value_heads * ch->D;
    if (!shares_head(ch)) {
        column_product(ch, "qkv", q + kv);
        return;
    }
    enter(ch); /* two products, of one input */
    product(ch, "qkv, queries", ch->tokens, C, q, true);
    ch->waiting += ch->tokens * q * ch->each; /* undone after the next */
    product(ch, "qkv, the rest", ch->tokens, C, kv, false);
    ch->waiting -= ch->tokens * q * ch->each;
    row(ch, "concat", ch->tokens * (q + kv) * ch->each, ch->tokens * (q + kv) * ch->each, 0, 0);
}

static void attention(Chain *ch) {
    const Device *device = ch->device;
    int64_t head = ch->tokens * ch->D * ch->each, out = head * ch->heads;
    int64_t qkv = out + 2 * head * ch->key_value_heads, lse = ch->tokens * ch->heads * ch->real;
    int64_t scratch =
        device->kernels->attention_scratch(&device->queue, ch->c->windows, ch->model->T, ch->heads, ch->D);
    qkv_product(ch);
    if (ch->model->positions == POSITIONS_ROPE) row(ch, "rope", qkv, qkv, 0, 0);
    row(ch, "attention", qkv, out, qkv + out + lse, scratch * ch->real);
    row_product(ch, "attention_out", ch->heads * ch->D, false); /* attention keeps it */
}

static void ffn(Chain *ch) {
    int64_t up = (ch->model->activation == ACTIVATION_SWIGLU ? 2 : 1) * ch->F;
    column_product(ch, "ffn_up", up);
    int64_t in = ch->tokens * up * ch->each;
    row(ch, "activation", in, ch->tokens * ch->F * ch->each, in, 0);
    row_product(ch, "ffn_down", ch->F, true);
}

static void block(Chain *ch) {
    bool pre = ch->model->norm_place == NORM_PRE;
    branch_begins(ch);
    if (pre) norm(ch, "norm1");
    attention(ch);
    branch_ends(ch, "add attention");
    if (!pre) norm(ch, "norm1");
    branch_begins(ch);
    if (pre) norm(ch, "norm2");
    ffn(ch);
    branch_ends(ch, "add ffn");
    if (!pre) norm(ch, "norm2");
    ch->block_count = ch->count;
}

/* The loss is a double, its gradient a real. The gradient of x is formed in forward, and kept. */
static void head(Chain *ch) {
    if (ch->model->norm_place == NORM_PRE) norm(ch, "norm_final");
    if (ch->c->tensor) enter(ch);
    row(ch, "head", ch->x, ch->real, ch->x, 0);
}

static Chain chain_of(const ModelConfig *model, const ActivationCase *c, const Device *device) {
    int64_t t = max64(c->tensor, 1), tokens = c->windows * model->T,
            slice_tokens = c->sequence_parallel ? tokens / t : tokens,
            each = element_bytes(model_type(model));
    Chain ch = {.model = model,
                .c = c,
                .device = device,
                .each = each,
                .real = element_bytes(TYPE_REAL),
                .tokens = tokens,
                .slice_tokens = slice_tokens,
                .x = tokens * model->C * each,
                .slice = slice_tokens * model->C * each,
                .heads = model->H / t,
                .key_value_heads = max64(model->K / t, 1),
                .D = model->C / model->H,
                .F = model->F / t};
    block(&ch);
    head(&ch);
    return ch;
}

/* ---- sums ---- */

static int64_t kept(const Chain *ch, int from, int to) {
    int64_t sum = 0;
    for (int i = from; i < to; i++) sum += ch->rows[i].keeps;
    return sum;
}

/* By the blocks before the last one; recomputed, by each its input, and the input of the last one where its first op
 * does not. */
static int64_t kept_before(const Chain *ch) {
    int64_t L = ch->model->L;
    if (!ch->c->recompute) return (L - 1) * kept(ch, 0, ch->block_count);
    bool first_op_keeps_it = ch->model->norm_place == NORM_PRE || ch->rows[0].keeps > 0;
    return (L - first_op_keeps_it) * ch->slice;
}

/* By all blocks, when the head is reached. */
static int64_t kept_by_blocks(const Chain *ch) {
    return ch->model->L * (ch->c->recompute ? ch->slice : kept(ch, 0, ch->block_count));
}

/* In backward of row i. A recomputed block has a tape of its own: beside the row's gradients there is that of its output on
 * the other tape, all the time, and its output, until the last op is undone. */
static int64_t backward(const Chain *ch, int i) {
    const Row *r = &ch->rows[i];
    if (i >= ch->block_count)
        return kept_by_blocks(ch) + kept(ch, ch->block_count, i + 1) + r->gradients + r->scratch;
    int64_t again = !ch->c->recompute ? 0 : i == ch->block_count - 1 ? 2 * ch->slice : ch->slice;
    return kept_before(ch) + kept(ch, 0, i + 1) + r->gradients + r->scratch + again;
}

/* In bf16 the gradient of the logits of devices that share the vocabulary is there once more, for the products. */
static int64_t head_scratch(const Chain *ch) {
    const Kernels *k = ch->device->kernels;
    const Queue *q = &ch->device->queue;
    int64_t t = ch->c->tensor, V = ch->model->V, C = ch->model->C;
    int64_t chunk = min64(ch->tokens, LOSS_CHUNK * max64(t, 1));
    if (!t) return k->head_loss_scratch(q, chunk, C, V, true) * ch->real;
    int64_t words =
        ceil_div(V, t); /* then, for each row, the largest logit, the sum and the target's logit */
    int64_t narrow = ch->each < ch->real ? chunk * words * ch->each : 0;
    return narrow +
           (chunk * words + max64(k->matmul_scratch(q, chunk, words, C, true), 3 * chunk)) * ch->real;
}

/* Head and loss, in forward: x as it comes from the blocks or from the norm, and, where devices share the vocabulary, the
 * copy of it; beside the scratch. */
static int64_t head_forward(const Chain *ch) {
    return kept_by_blocks(ch) + kept(ch, ch->block_count, ch->count) + ch->slice +
           (ch->c->tensor ? ch->x : 0);
}

static int64_t fixed_bytes(const Chain *ch) {
    int64_t ids_and_targets = 2 * ch->c->microbatches * ch->tokens;
    int64_t table = ch->model->positions == POSITIONS_ROPE ? ch->model->T * ch->D : 0;
    return ids_and_targets * element_bytes(TYPE_I32) + table * ch->real +
           STEP_NUMBERS * element_bytes(TYPE_F64);
}

/* ---- the moments ---- */

int activation_moments(const ModelConfig *model, const ActivationCase *c, const Device *device,
                       ActivationMoment to[ACTIVATION_MOMENTS]) {
    Chain ch = chain_of(model, c, device);
    int64_t fixed = fixed_bytes(&ch), loss = element_bytes(TYPE_F64);
    int n = 0;
    for (int i = 0; i < ch.count; i++) {
        bool with_loss = i == ch.count - 1;
        const Row *r = &ch.rows[i];
        to[n++] = (ActivationMoment){r->op, r->keeps, r->scratch,
                                     fixed + backward(&ch, i) + (with_loss ? loss : 0)};
    }
    int64_t scratch = head_scratch(&ch), squares = c->square_blocks * element_bytes(TYPE_F64);
    to[n++] = (ActivationMoment){"head, forward", 0, scratch, fixed + head_forward(&ch) + scratch + loss};
    to[n++] = (ActivationMoment){"sums of squares", 0, squares, fixed + squares};
    return n;
}

ActivationBytes activation_bytes(const ModelConfig *model, const ActivationCase *c, const Device *device) {
    Chain ch = chain_of(model, c, device);
    ActivationMoment all[ACTIVATION_MOMENTS];
    int n = activation_moments(model, c, device, all);
    int64_t block = c->recompute ? ch.slice : kept(&ch, 0, ch.block_count);
    ActivationBytes a = {.fixed = fixed_bytes(&ch), .kept = block};
    for (int i = 0; i < n; i++) {
        if (all[i].bytes <= a.peak) continue;
        a.peak = all[i].bytes;
        a.at = all[i].at;
    }
    return a;
}
