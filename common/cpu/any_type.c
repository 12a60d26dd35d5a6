/* Kernels that treat rows apart, for tensors of either type: a few rows of bf16 at a time are widened into memory of the
 * thread's, where the kernel for reals treats them, and what it wrote is rounded. Which rows come together depends on
 * the shape alone. Reals go to their kernel at once. */
#include "common/cpu/wide.h"

#include <stdlib.h>

/* A tensor that the kernel sees some rows of. */
typedef struct {
    const Tensor *t;
    bool read, written;
} Operand;
#define READ(t)                                                                                              \
    { (t), true, false }
#define WRITTEN(t)                                                                                           \
    { (t), false, true }
#define ADDED(t, add)                                                                                        \
    { (t), (add), true }

enum { OPERANDS = 5, CHUNK = 1 << 14 }; /* numbers that are widened at once: they stay in the second cache */

typedef struct {
    const Operand *operands;
    int count;
    int64_t rows, chunk; /* chunk: rows that come together */
    int64_t row_numbers; /* of bf16, in a row of all operands; 0: there are none */
} Rows;

static Rows rows_of(const Operand *operands, int count) {
    Rows r = {.operands = operands, .count = count, .rows = tensor_rows(operands[0].t)};
    for (int i = 0; i < count; i++)
        if (operands[i].t->type == TYPE_BF16) r.row_numbers += tensor_columns(operands[i].t);
    r.chunk = max64(1, CHUNK / max64(r.row_numbers, 1));
    return r;
}

/* The operands' rows from `row` on, (1,rows,columns) each. */
static void rows_begin(const Rows *r, int64_t row, real *buffer, Tensor *part) {
    int64_t rows = min64(r->chunk, r->rows - row);
    for (int i = 0; i < r->count; i++) {
        const Tensor *t = r->operands[i].t;
        int64_t columns = tensor_columns(t);
        part[i] = *t;
        part[i].shape = SHAPE(1, rows, columns);
        part[i].data = (char *)cpu_data(t) + row * columns * element_bytes(t->type);
        if (t->type != TYPE_BF16) continue;
        if (r->operands[i].read) widen(part[i].data, rows * columns, buffer);
        part[i].type = TYPE_REAL;
        part[i].data = buffer;
        buffer += rows * columns;
    }
}

static void rows_end(const Rows *r, int64_t row, const Tensor *part) {
    for (int i = 0; i < r->count; i++) {
        const Operand *o = &r->operands[i];
        if (o->written && o->t->type == TYPE_BF16)
            narrow(part[i].data, tensor_count(&part[i]), (Bf16 *)cpu_data(o->t) + row * tensor_columns(o->t));
    }
}

/* call: the kernel for reals, which speaks of `one`, a queue, of part[0], part[1] .., some rows of the operands in their
 * order, and perhaps of `row`, the first of them. */
#define BY_ROWS(q, call, ...)                                                                                \
    do {                                                                                                     \
        const Operand operands[] = {__VA_ARGS__};                                                            \
        Rows all = rows_of(operands, COUNT_OF(operands));                                                    \
        if (all.row_numbers == 0) {                                                                          \
            Queue *one = (q);                                                                                \
            Tensor part[OPERANDS];                                                                           \
            const int64_t row = 0;                                                                           \
            for (int i = 0; i < COUNT_OF(operands); i++) part[i] = *operands[i].t;                           \
            (void)row;                                                                                       \
            call;                                                                                            \
            break;                                                                                           \
        }                                                                                                    \
        OMP_PRAGMA(omp parallel num_threads((q)->threads) if (all.rows > all.chunk)) {                       \
            Queue alone = *(q), *one = &alone;                                                               \
            alone.threads = 1;                                                                               \
            real *buffer = xmalloc((size_t)(all.chunk * all.row_numbers) * sizeof(real));                    \
            OMP_PRAGMA(omp for schedule(static))                                                             \
            for (int64_t row = 0; row < all.rows; row += all.chunk) {                                        \
                Tensor part[OPERANDS];                                                                       \
                rows_begin(&all, row, buffer, part);                                                         \
                call;                                                                                        \
                rows_end(&all, row, part);                                                                   \
            }                                                                                                \
            free(buffer);                                                                                    \
        }                                                                                                    \
    } while (0)

/* ---- memory ---- */

void cpu_cast(Queue *q, const Tensor *x, Tensor *y) {
    int64_t count = tensor_count(x);
    ASSERT(count == tensor_count(y) && (x->type == TYPE_BF16 || y->type == TYPE_BF16));
    if (x->type == y->type) {
        cpu_copy(q, x, y);
        return;
    }
    PARALLEL(q, count > WORTH)
    for (int64_t i = 0; i < count; i += WORTH) {
        int64_t part = min64(WORTH, count - i);
        if (y->type == TYPE_BF16)
            narrow(cpu_reals(x) + i, part, (Bf16 *)cpu_data(y) + i);
        else
            widen((const Bf16 *)cpu_data(x) + i, part, cpu_reals(y) + i);
    }
}

void cpu_any_add(Queue *q, const Tensor *a, const Tensor *b, Tensor *y) {
    BY_ROWS(q, cpu_add(one, &part[0], &part[1], &part[2]), READ(a), READ(b), WRITTEN(y));
}

void cpu_any_accumulate(Queue *q, const Tensor *x, Tensor *y) {
    BY_ROWS(q, cpu_accumulate(one, &part[0], &part[1]), READ(x), ADDED(y, true));
}

void cpu_any_add_row(Queue *q, const Tensor *x, const Tensor *row_of_all, Tensor *y) {
    BY_ROWS(q, cpu_add_row(one, &part[0], row_of_all, &part[1]), READ(x), WRITTEN(y));
}

void cpu_any_scale(Queue *q, const Tensor *s, const Tensor *x, Tensor *y, bool add) {
    BY_ROWS(q, cpu_scale(one, s, &part[0], &part[1], add), READ(x), ADDED(y, add));
}

/* ---- embedding: the tables and y are of one type ---- */

static void look_up(const int32_t *id, const Tensor *token, int64_t first_id, const Tensor *position,
                    int64_t first, int64_t T, int64_t row, Tensor *y) {
    int64_t C = tensor_columns(y), V = tensor_rows(token);
    for (int64_t r = 0; r < tensor_rows(y); r++) {
        int64_t word = id[row + r] - first_id, at = first + (row + r) % T;
        real *to = cpu_reals(y) + r * C;
        if (word >= 0 && word < V)
            wide_run(token, word * C, C, to);
        else
            memset(to, 0, (size_t)C * sizeof(real));
        if (position) add_run(position, at * C, C, to);
    }
}

void cpu_any_embedding(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id,
                       const Tensor *position, int64_t first, Tensor *y) {
    if (y->type != TYPE_BF16) {
        cpu_embedding(q, ids, token, first_id, position, first, y);
        return;
    }
    ASSERT(token->type == TYPE_BF16);
    const int32_t *id = cpu_ints(ids);
    BY_ROWS(q, ((void)one, look_up(id, token, first_id, position, first, tensor_columns(ids), row, &part[0])),
            WRITTEN(y));
}

/* ---- norms: gain, bias and statistics are reals ---- */

void cpu_any_layernorm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps,
                       Tensor *y, Tensor *stats) {
    BY_ROWS(q, cpu_layernorm(one, &part[0], gain, bias, eps, &part[1], &part[2]), READ(x), WRITTEN(y),
            WRITTEN(stats));
}

void cpu_any_layernorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                                const Tensor *stats, Tensor *dx, bool add) {
    BY_ROWS(q, cpu_layernorm_backward(one, &part[0], &part[1], gain, &part[2], &part[3], add), READ(dy),
            READ(x), READ(stats), ADDED(dx, add));
}

void cpu_any_rmsnorm(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats) {
    BY_ROWS(q, cpu_rmsnorm(one, &part[0], gain, eps, &part[1], &part[2]), READ(x), WRITTEN(y),
            WRITTEN(stats));
}

void cpu_any_rmsnorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                              const Tensor *stats, Tensor *dx, bool add) {
    BY_ROWS(q, cpu_rmsnorm_backward(one, &part[0], &part[1], gain, &part[2], &part[3], add), READ(dy),
            READ(x), READ(stats), ADDED(dx, add));
}

/* ---- activations ---- */

void cpu_any_relu(Queue *q, const Tensor *x, Tensor *y) {
    BY_ROWS(q, cpu_relu(one, &part[0], &part[1]), READ(x), WRITTEN(y));
}

void cpu_any_relu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add) {
    BY_ROWS(q, cpu_relu_backward(one, &part[0], &part[1], &part[2], add), READ(dy), READ(x), ADDED(dx, add));
}

void cpu_any_gelu(Queue *q, const Tensor *x, Tensor *y) {
    BY_ROWS(q, cpu_gelu(one, &part[0], &part[1]), READ(x), WRITTEN(y));
}

void cpu_any_gelu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add) {
    BY_ROWS(q, cpu_gelu_backward(one, &part[0], &part[1], &part[2], add), READ(dy), READ(x), ADDED(dx, add));
}

void cpu_any_swiglu(Queue *q, const Tensor *x, Tensor *y) {
    BY_ROWS(q, cpu_swiglu(one, &part[0], &part[1]), READ(x), WRITTEN(y));
}

void cpu_any_swiglu_backward(Queue *q, const Tensor *dy, const Tensor *x, Tensor *dx, bool add) {
    BY_ROWS(q, cpu_swiglu_backward(one, &part[0], &part[1], &part[2], add), READ(dy), READ(x),
            ADDED(dx, add));
}

void cpu_any_dropout(Queue *q, const Tensor *x, double rate, uint64_t seed, uint64_t stream, int64_t first,
                     int64_t window, Tensor *y, bool add) {
    if (x->type != TYPE_BF16) {
        cpu_dropout(q, x, rate, seed, stream, first, window, y, add);
        return;
    }
    int64_t C = tensor_columns(x), entries = window ? x->shape.size[0] : 1;
    int64_t rows = tensor_rows(x) / max64(entries, 1);
    for (int64_t b = 0; b < entries; b++) {
        Tensor from = tensor_rows_view(x, b * rows, rows), to = tensor_rows_view(y, b * rows, rows);
        BY_ROWS(
            q, cpu_dropout(one, &part[0], rate, seed, stream, first + b * window + row * C, 0, &part[1], add),
            READ(&from), ADDED(&to, add));
    }
}

/* ---- rotary positions: the table is real ---- */

void cpu_any_rope(Queue *q, const Tensor *qkv, const Tensor *table, int64_t H, int64_t K, int64_t first,
                  bool inverse, Tensor *y) {
    if (qkv->type != TYPE_BF16) {
        cpu_rope(q, qkv, table, H, K, first, inverse, y);
        return;
    }
    int64_t T = qkv->shape.size[1];
    for (int64_t b = 0; b < qkv->shape.size[0]; b++) {
        Tensor from = tensor_rows_view(qkv, b * T, T), to = tensor_rows_view(y, b * T, T);
        BY_ROWS(q, cpu_rope(one, &part[0], table, H, K, first + row, inverse, &part[1]), READ(&from),
                WRITTEN(&to));
    }
}

/* ---- squared error: the sum runs in one order ---- */

void cpu_any_squared_error(Queue *q, const Tensor *y, const Tensor *target, Tensor *dy, Tensor *loss) {
    Queue alone_in_order = *q;
    alone_in_order.threads = 1;
    BY_ROWS(&alone_in_order, cpu_squared_error(one, &part[0], &part[1], &part[2], loss), READ(y),
            READ(target), WRITTEN(dy));
}
