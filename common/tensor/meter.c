#include "common/tensor/meter.h"

/* A metered kernel: its parameters behind the queue, its arguments, its cost, and the operands whose shapes
 * are told. On a dry device it is not called: when_dry is what it would do with the device's memory, itself. */
#define METERED_DRY(kernel, parameters, arguments, when_dry, its_cost, ...)                                  \
    static void kernel(Queue *q, BARE parameters) {                                                          \
        const Tensor *operands[CALL_SHAPES] = {__VA_ARGS__};                                                 \
        double begin = now_seconds();                                                                        \
        if (q->dry)                                                                                          \
            when_dry;                                                                                        \
        else                                                                                                 \
            real_kernels(q)->kernel(q, BARE arguments);                                                      \
        tell(q, #kernel, operands, its_cost, begin, now_seconds());                                          \
    }
#define METERED(kernel, parameters, arguments, its_cost, ...)                                                \
    METERED_DRY(kernel, parameters, arguments, (void)0, its_cost, __VA_ARGS__)
#define BARE(...) __VA_ARGS__
#define COST(...) ((Cost){__VA_ARGS__})

static const Kernels *real_kernels(const Queue *q) {
    if (q->dry) return q->dry;
    const Meter *last = q->meter;
    while (last->next) last = last->next;
    return last->real;
}

static void tell(const Queue *q, const char *kernel, const Tensor *operands[CALL_SHAPES], Cost cost,
                 double begin, double end) {
    KernelCall call = {.kernel = kernel, .cost = cost, .begin = begin, .end = end};
    for (int i = 0; i < CALL_SHAPES; i++)
        if (operands[i]) call.shapes[i] = operands[i]->shape;
    for (const Meter *m = q->meter; m; m = m->next)
        if (m->timed) m->timed(m->context, &call);
    for (const Meter *m = q->meter; m; m = m->next)
        if (m->done) m->done(m->context, &call);
}

/* The bytes of an operand that is read or written whole, and of one that is added to. */
static int64_t once(const Tensor *t) { return t ? tensor_bytes(t) : 0; }
static int64_t into(const Tensor *t, bool add) { return (add ? 2 : 1) * once(t); }

/* `flops` for each element of t, and one more where the result is added to something. */
static int64_t each(const Tensor *t, bool add, int64_t flops) { return (flops + add) * tensor_count(t); }

/* ---- memory ---- */

METERED(zero, (Tensor * y), (y), COST(.bytes = once(y)), y)
METERED(copy, (const Tensor *x, Tensor *y), (x, y), COST(.bytes = once(x) + once(y)), x)
METERED(cast, (const Tensor *x, Tensor *y), (x, y), COST(.bytes = once(x) + once(y)), x)
METERED(add, (const Tensor *a, const Tensor *b, Tensor *y), (a, b, y),
        COST(.other = each(y, false, 1), .bytes = 3 * once(y)), y)
METERED(accumulate, (const Tensor *x, Tensor *y), (x, y),
        COST(.other = each(y, false, 1), .bytes = 3 * once(y)), y)

static Cost copy_slice_cost(const Tensor *y, int axis, int64_t count, bool to) {
    int64_t moved = tensor_count(y) / max64(y->shape.size[axis], 1) * count;
    return (Cost){.other = to ? moved : 0, .bytes = (to ? 3 : 2) * moved * element_bytes(y->type)};
}

METERED(copy_slice,
        (const Tensor *x, int64_t x_first, Tensor *y, int64_t y_first, int axis, int64_t count, bool to),
        (x, x_first, y, y_first, axis, count, to), copy_slice_cost(y, axis, count, to), x, y)
METERED(scale, (const Tensor *s, const Tensor *x, Tensor *y, bool to), (s, x, y, to),
        COST(.other = each(y, to, 1), .bytes = once(x) + into(y, to)), y)

/* ---- matrix products: M N sums of K products ---- */

static Cost matmul_cost(const Tensor *A, bool a_t, const Tensor *B, const Tensor *bias, const Tensor *C,
                        bool to) {
    int64_t K = a_t ? tensor_rows(A) : tensor_columns(A);
    return (Cost){.product = 2 * tensor_count(C) * K,
                  .other = bias ? tensor_count(C) : 0,
                  .bytes = once(A) + once(B) + once(bias) + into(C, to)};
}

static int64_t matmul_scratch(const Queue *q, int64_t M, int64_t N, int64_t K, bool b_t) {
    return real_kernels(q)->matmul_scratch(q, M, N, K, b_t);
}

/* What the product takes from C's device, and gives back. */
static void take_scratch(const Queue *q, const Tensor *A, bool a_t, bool b_t, const Tensor *C) {
    int64_t K = a_t ? tensor_rows(A) : tensor_columns(A);
    int64_t bytes = matmul_scratch(q, tensor_rows(C), tensor_columns(C), K, b_t) * element_bytes(C->type);
    if (bytes == 0) return;
    device_count(C->device, MEMORY_ACTIVATIONS, bytes, "scratch");
    device_count(C->device, MEMORY_ACTIVATIONS, -bytes, "scratch");
}

METERED_DRY(matmul,
            (const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias, Tensor *C, bool to),
            (A, a_t, B, b_t, bias, C, to), take_scratch(q, A, a_t, b_t, C),
            matmul_cost(A, a_t, B, bias, C, to), A, B, C)

METERED(add_row, (const Tensor *x, const Tensor *row, Tensor *y), (x, row, y),
        COST(.other = each(y, false, 1), .bytes = once(x) + once(row) + once(y)), x)
METERED(sum_rows, (const Tensor *x, Tensor *y, bool to), (x, y, to),
        COST(.other = each(x, false, 1), .bytes = once(x) + into(y, to)), x)

/* ---- embedding: of the table only the rows that are looked up, each once; as if it had a row for every id ---- */

static int64_t looked_up(const Tensor *ids, const Tensor *table) {
    return min64(tensor_count(ids) * tensor_columns(table) * element_bytes(table->type), once(table));
}

METERED(embedding,
        (const Tensor *ids, const Tensor *token, int64_t first_id, const Tensor *position, int64_t first,
         Tensor *y),
        (ids, token, first_id, position, first, y),
        COST(.other = position ? each(y, false, 1) : 0, .bytes = once(ids) + looked_up(ids, token) +
                                                                 (position ? looked_up(ids, position) : 0) +
                                                                 once(y)),
        ids, token)
METERED(embedding_backward, (const Tensor *ids, const Tensor *dy, int64_t first_id, Tensor *dtoken),
        (ids, dy, first_id, dtoken),
        COST(.other = each(dy, false, 1), .bytes = once(ids) + once(dy) + 2 * looked_up(ids, dtoken)), dy,
        dtoken)
METERED(position_backward, (const Tensor *dy, int64_t first, Tensor *dposition), (dy, first, dposition),
        COST(.other = each(dy, false, 1), .bytes = once(dy) + once(dposition)), dy)

/* ---- normalisation ---- */

METERED(layernorm,
        (const Tensor *x, const Tensor *gain, const Tensor *bias, double eps, Tensor *y, Tensor *stats),
        (x, gain, bias, eps, y, stats),
        COST(.other = each(x, bias != NULL, 7), /* mean 1, variance 3, y 3 */
             .bytes = once(x) + once(gain) + once(bias) + once(y) + once(stats)),
        x)
METERED(layernorm_backward,
        (const Tensor *dy, const Tensor *x, const Tensor *gain, const Tensor *stats, Tensor *dx, bool to),
        (dy, x, gain, stats, dx, to),
        COST(.other = each(x, to, 11), /* the two means 5, dx 6 */
             .bytes = once(dy) + once(x) + once(gain) + once(stats) + into(dx, to)),
        x)
METERED(norm_backward_param,
        (const Tensor *dy, const Tensor *x, const Tensor *stats, Tensor *dgain, Tensor *dbias),
        (dy, x, stats, dgain, dbias),
        COST(.other = each(x, dbias != NULL, 4),
             .bytes = once(dy) + once(x) + once(stats) + once(dgain) + once(dbias)),
        x)
METERED(rmsnorm, (const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats),
        (x, gain, eps, y, stats),
        COST(.other = each(x, false, 4), .bytes = once(x) + once(gain) + once(y) + once(stats)), x)
METERED(rmsnorm_backward,
        (const Tensor *dy, const Tensor *x, const Tensor *gain, const Tensor *stats, Tensor *dx, bool to),
        (dy, x, gain, stats, dx, to),
        COST(.other = each(x, to, 7), .bytes = once(dy) + once(x) + once(gain) + once(stats) + into(dx, to)),
        x)

/* ---- activations ---- */

METERED(relu, (const Tensor *x, Tensor *y), (x, y),
        COST(.other = each(x, false, 1), .bytes = once(x) + once(y)), x)
METERED(relu_backward, (const Tensor *dy, const Tensor *x, Tensor *dx, bool to), (dy, x, dx, to),
        COST(.other = each(x, to, 1), .bytes = once(dy) + once(x) + into(dx, to)), x)
METERED(gelu, (const Tensor *x, Tensor *y), (x, y),
        COST(.other = each(x, false, 10), /* the argument 5, sigmoid 4, times x */
             .bytes = once(x) + once(y)),
        x)
METERED(gelu_backward, (const Tensor *dy, const Tensor *x, Tensor *dx, bool to), (dy, x, dx, to),
        COST(.other = each(x, to, 19), /* as above 9, the argument's slope 4, the product rule 6 */
             .bytes = once(dy) + once(x) + into(dx, to)),
        x)
METERED(swiglu, (const Tensor *x, Tensor *y), (x, y),
        COST(.other = each(y, false, 6), .bytes = once(x) + once(y)), x)
METERED(swiglu_backward, (const Tensor *dy, const Tensor *x, Tensor *dx, bool to), (dy, x, dx, to),
        COST(.other = each(dy, false, 12) + (to ? tensor_count(dx) : 0),
             .bytes = once(dy) + once(x) + into(dx, to)),
        x)
METERED(dropout,
        (const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first, int64_t window,
         Tensor *y, bool to),
        (x, rate, seed, stream, first, window, y, to),
        COST(.other = each(x, to, 1), .bytes = once(x) + into(y, to)), x)

/* ---- attention; qkv (B,T,(H+2K)D) ---- */

METERED(rope,
        (const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first, bool inverse,
         Tensor *y),
        (qkv, table, H, K, first, inverse, y),
        COST(.other = 3 * tensor_count(qkv) / (H + 2 * K) * (H + K), /* a pair: 4 products, 2 sums */
             .bytes = 2 * once(qkv) + once(table)),
        qkv)

/* `products` of (T,D) by (D,T) for each head, of which the causal half is needed: T T / 2 scores, as is usual
 * (Dao 2023, FlashAttention-2, section 4), and as 6 L C T has it. */
static int64_t causal_products(const Tensor *qkv, int64_t H, int64_t K, int64_t products) {
    return products * tensor_count(qkv) / (H + 2 * K) * H * qkv->shape.size[1];
}
/* The same half, counted in scores. */
static int64_t causal_scores(const Tensor *qkv, int64_t H) {
    int64_t T = qkv->shape.size[1];
    return qkv->shape.size[0] * H * T * T / 2;
}

METERED(attention, (const Tensor *qkv, int64_t H, int64_t K, Tensor *out, Tensor *lse, Tensor *scratch),
        (qkv, H, K, out, lse, scratch),
        COST(.product = causal_products(qkv, H, K, 2), /* scores, out */
             .other = 5 * causal_scores(qkv, H),       /* softmax */
             .bytes = once(qkv) + once(out) + once(lse)),
        qkv)
METERED(attention_backward,
        (const Tensor *dout, const Tensor *qkv, const Tensor *out, const Tensor *lse, int64_t H, int64_t K,
         Tensor *dqkv, Tensor *scratch),
        (dout, qkv, out, lse, H, K, dqkv, scratch),
        COST(.product = causal_products(qkv, H, K, 4), /* of the scores, of q, of k, of v */
             .again = causal_products(qkv, H, K, 1),   /* the scores */
             .other = 5 * causal_scores(qkv, H) + each(out, false, 2),
             .bytes = once(dout) + once(qkv) + once(out) + once(lse) + once(dqkv)),
        qkv)

/* The new tokens at first .. see first + 1, first + 2 .. positions. */
static Cost attention_cached_cost(const Tensor *qkv, int64_t H, int64_t K, int64_t first, const Tensor *out) {
    int64_t fresh = qkv->shape.size[1], D = tensor_columns(qkv) / (H + 2 * K);
    int64_t scores = H * (fresh * first + fresh * (fresh + 1) / 2);
    return (Cost){.product = 4 * D * scores,
                  .other = 5 * scores,
                  .bytes = once(qkv) + once(out) + 2 * (first + fresh) * K * D * element_bytes(qkv->type)};
}

METERED(attention_cached,
        (const Tensor *qkv, int64_t H, int64_t K, int64_t first, Tensor *keys, Tensor *values, Tensor *out,
         Tensor *scratch),
        (qkv, H, K, first, keys, values, out, scratch), attention_cached_cost(qkv, H, K, first, out), qkv)

static int64_t attention_scratch(const Queue *q, int64_t B, int64_t T, int64_t H, int64_t D) {
    return real_kernels(q)->attention_scratch(q, B, T, H, D);
}

/* ---- losses ---- */

METERED(softmax_cross_entropy,
        (Tensor * logits, const Tensor *targets, int64_t first_row, Tensor *row_loss, Tensor *loss),
        (logits, targets, first_row, row_loss, loss),
        COST(.other = each(logits, false, 5),
             .bytes = 2 * once(logits) + tensor_rows(logits) * element_bytes(TYPE_I32)),
        logits)
/* In pieces, of which the padding costs nothing but the zeros in it. */
static int64_t in_columns(const Tensor *logits, int64_t columns, int64_t flops) {
    return flops * tensor_rows(logits) * columns;
}

METERED(row_max, (const Tensor *logits, int64_t columns, Tensor *top), (logits, columns, top),
        COST(.other = in_columns(logits, columns, 1),
             .bytes = in_columns(logits, columns, element_bytes(TYPE_REAL)) + once(top)),
        logits)
METERED(exp_sums,
        (Tensor * logits, int64_t columns, const Tensor *top, const Tensor *targets, int64_t first_row,
         int64_t first_id, Tensor *sums),
        (logits, columns, top, targets, first_row, first_id, sums),
        COST(.other = in_columns(logits, columns, 3),
             .bytes = 2 * in_columns(logits, columns, element_bytes(TYPE_REAL)) + once(top) + once(sums) +
                      tensor_rows(logits) * element_bytes(TYPE_I32)),
        logits)
METERED(split_cross_entropy,
        (Tensor * logits, int64_t columns, const Tensor *top, const Tensor *sums, const Tensor *targets,
         int64_t first_row, int64_t first_id, Tensor *loss),
        (logits, columns, top, sums, targets, first_row, first_id, loss),
        COST(.other = in_columns(logits, columns, 1),
             .bytes = in_columns(logits, columns, element_bytes(TYPE_REAL)) + once(logits) + once(top) +
                      once(sums) + tensor_rows(logits) * element_bytes(TYPE_I32)),
        logits)
/* Forward one product, backward two; softmax as above. */
static Cost head_loss_cost(const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *dx,
                           const Tensor *dw, const Tensor *dbias, bool to) {
    int64_t R = tensor_rows(x), V = tensor_rows(w), sums = (bias ? 1 : 0) + (dbias ? 1 : 0);
    return (Cost){.product = (dx ? 6 : 2) * R * tensor_count(w),
                  .other = (5 + sums) * R * V,
                  .bytes = once(x) + once(w) + once(bias) + once(dx) + into(dw, to) + into(dbias, to) +
                           R * element_bytes(TYPE_I32)};
}

METERED(head_loss,
        (const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *targets, int64_t first_row,
         Tensor *dx, Tensor *dw, Tensor *dbias, bool to, Tensor *loss, Tensor *scratch),
        (x, w, bias, targets, first_row, dx, dw, dbias, to, loss, scratch),
        head_loss_cost(x, w, bias, dx, dw, dbias, to), x, w)

static int64_t head_loss_scratch(const Queue *q, int64_t R, int64_t C, int64_t V, bool backward) {
    return real_kernels(q)->head_loss_scratch(q, R, C, V, backward);
}

METERED(squared_error, (const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss),
        (y, target, dy, loss), COST(.other = each(y, false, 4), .bytes = 3 * once(y)), y)

/* ---- the numbers of a step ---- */

METERED(reciprocal, (const Tensor *x, Tensor *y), (x, y), COST(.other = 1, .bytes = once(x) + once(y)), x)
METERED(add_means, (const Tensor *sums, const Tensor *count, Tensor *total), (sums, count, total),
        COST(.other = each(sums, true, 1), .bytes = once(sums) + once(count) + into(total, true)), sums)
METERED(sum, (const Tensor *x, Tensor *total), (x, total),
        COST(.other = each(x, false, 1), .bytes = once(x) + once(total)), x)
METERED(clip, (const Tensor *squares_sum, const Tensor *loss, double limit, Tensor *norm, Tensor *factor),
        (squares_sum, loss, limit, norm, factor),
        COST(.other = 3, .bytes = once(squares_sum) + once(loss) + once(norm) + once(factor)), squares_sum)

/* ---- optimizer ---- */

METERED(squares, (const Tensor *x, Tensor *partials), (x, partials),
        COST(.other = each(x, false, 2), .bytes = once(x)), x)
METERED(adamw,
        (Tensor * w, const Tensor *g, Tensor *m, Tensor *v, const Tensor *factor, const AdamwStep *step),
        (w, g, m, v, factor, step),
        COST(.other = each(w, false, 15), /* clip 1, m 3, v 4, w 7 */
             .bytes = once(g) + 2 * (once(w) + once(m) + once(v))),
        w)
METERED(sgd, (Tensor * w, const Tensor *g, Tensor *v, const Tensor *factor, double lr, double momentum),
        (w, g, v, factor, lr, momentum),
        COST(.other = each(w, false, 5), .bytes = once(g) + 2 * (once(w) + once(v))), w)

/* ---- the table ---- */

const Kernels kernels_metered = {
    .name = "metered",
    .zero = zero,
    .copy = copy,
    .cast = cast,
    .add = add,
    .accumulate = accumulate,
    .copy_slice = copy_slice,
    .scale = scale,
    .matmul = matmul,
    .matmul_scratch = matmul_scratch,
    .add_row = add_row,
    .sum_rows = sum_rows,
    .embedding = embedding,
    .embedding_backward = embedding_backward,
    .position_backward = position_backward,
    .layernorm = layernorm,
    .layernorm_backward = layernorm_backward,
    .norm_backward_param = norm_backward_param,
    .rmsnorm = rmsnorm,
    .rmsnorm_backward = rmsnorm_backward,
    .relu = relu,
    .relu_backward = relu_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .dropout = dropout,
    .rope = rope,
    .attention = attention,
    .attention_backward = attention_backward,
    .attention_scratch = attention_scratch,
    .attention_cached = attention_cached,
    .softmax_cross_entropy = softmax_cross_entropy,
    .row_max = row_max,
    .exp_sums = exp_sums,
    .split_cross_entropy = split_cross_entropy,
    .head_loss = head_loss,
    .head_loss_scratch = head_loss_scratch,
    .squared_error = squared_error,
    .reciprocal = reciprocal,
    .add_means = add_means,
    .sum = sum,
    .clip = clip,
    .squares = squares,
    .adamw = adamw,
    .sgd = sgd,
};

void meter_attach(Device *device, Meter *meter) {
    meter->next = device->queue.meter;
    if (!meter->next) meter->real = device->kernels;
    device->queue.meter = meter;
    device->kernels = &kernels_metered;
}

const Kernels *meter_kernels(const Device *device) {
    return device->queue.dry || device->queue.meter ? real_kernels(&device->queue) : device->kernels;
}

void meter_detach(Device *device, Meter *meter) {
    const Kernels *below = device->queue.dry ? &kernels_metered : meter_kernels(device);
    Meter **link = &device->queue.meter, *last = NULL;
    ASSERT(meter);
    while (*link != meter) {
        ASSERT(*link);
        link = &(*link)->next;
    }
    *link = meter->next;
    for (Meter *m = device->queue.meter; m; m = m->next) last = m;
    if (last)
        last->real = below;
    else
        device->kernels = below;
}
