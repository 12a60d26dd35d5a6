/* TEST variants: float, all: double asan
 * Kernels on tensors of no rows, or no columns: a device's share may be nothing. They touch nothing, and what they sum
 * over nothing is 0. */
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/tap.h"
#include "tests/tensors.h"

static Device *device;
static const Kernels *k;
static Queue *q;

static Tensor *made[64];
static int made_count;

/* Its elements are 7, or for whole numbers 0; freed by all_freed. */
static Tensor *tensor(ElementType type, Shape shape) {
    Tensor *t = xmalloc(sizeof *t);
    *t = tensor_new(device, MEMORY_ACTIVATIONS, "t", type, shape);
    k->zero(q, t);
    if (type == TYPE_REAL) fill_constant(t, 7);
    return made[made_count++] = t;
}

static void free_all(void) {
    for (int i = 0; i < made_count; i++) {
        tensor_free(made[i]);
        free(made[i]);
    }
    made_count = 0;
}

static bool all_are(const Tensor *t, real value) {
    bool same = true;
    for (int64_t i = 0; i < tensor_count(t); i++) same &= real_at(t, i) == value;
    return same;
}

static Tensor *reals(int64_t rows, int64_t columns) { return tensor(TYPE_REAL, SHAPE(rows, columns)); }
static Tensor *vector(int64_t count) { return tensor(TYPE_REAL, SHAPE(count)); }

static void products(void) {
    Tensor *C = reals(3, 4), *row = vector(4);
    k->matmul(q, reals(3, 0), false, reals(0, 4), false, NULL, C, true);
    ok(all_are(C, 7), "a product over nothing, added");
    k->matmul(q, reals(3, 0), false, reals(0, 4), false, row, C, false);
    ok(all_are(C, 7), "a product over nothing, with a bias");
    k->matmul(q, reals(3, 0), false, reals(4, 0), true, NULL, C, false);
    ok(all_are(C, 0), "a product over nothing is 0");
    Tensor *dw = reals(3, 4);
    k->matmul(q, reals(0, 3), true, reals(0, 4), false, NULL, dw, false);
    ok(all_are(dw, 0), "a weight's gradient from no rows is 0");
    k->matmul(q, reals(0, 5), false, reals(5, 4), false, row, reals(0, 4), false);
    k->matmul(q, reals(3, 5), false, reals(5, 0), false, NULL, reals(3, 0), false);
    k->matmul(q, reals(3, 5), false, reals(0, 5), true, vector(0), reals(3, 0), false);
    ok(true, "products with no rows, or no columns");
    k->sum_rows(q, reals(0, 4), row, true);
    ok(all_are(row, 7), "the sum of no rows, added");
    k->sum_rows(q, reals(0, 4), row, false);
    ok(all_are(row, 0), "the sum of no rows is 0");
    k->sum_rows(q, reals(3, 0), vector(0), false);
    k->add_row(q, reals(0, 4), row, reals(0, 4));
    k->add_row(q, reals(3, 0), vector(0), reals(3, 0));
    ok(true, "a row on nothing");
    free_all();
}

static void elementwise(int64_t rows, int64_t columns) {
    Tensor *x = reals(rows, columns), *y = reals(rows, columns), *wide = reals(rows, 2 * columns);
    k->copy(q, x, y);
    k->add(q, x, x, y);
    k->accumulate(q, x, y);
    k->copy_slice(q, x, 0, y, 0, 0, rows, true);
    k->copy_slice(q, x, 0, y, 0, 1, columns, false);
    k->scale(q, vector(1), x, y, true);
    k->relu(q, x, y);
    k->relu_backward(q, x, y, x, true);
    k->gelu(q, x, y);
    k->gelu_backward(q, x, y, x, false);
    k->swiglu(q, wide, y);
    k->swiglu_backward(q, y, wide, wide, true);
    k->dropout(q, x, 0.5, 1, 2, 3, 0, y, false);
    k->dropout(q, x, 0.5, 1, 2, 3, 10, y, true);
    k->squares(q, x, tensor(TYPE_F64, SHAPE(0)));
    k->adamw(q, x, y, y, y, NULL, &(AdamwStep){1e-3, 0.9, 0.95, 1e-8, 0.1, 10});
    k->sgd(q, x, y, y, NULL, 1, 1);
    ok(true, "elements of (%d, %d)", (int)rows, (int)columns);
    free_all();
}

static void rows(int64_t R, int64_t C) {
    Tensor *x = reals(R, C), *y = reals(R, C), *stats = reals(R, 2), *gain = vector(C), *dgain = vector(C);
    k->layernorm(q, x, gain, gain, 1e-5, y, stats);
    k->layernorm_backward(q, x, x, gain, stats, y, true);
    k->rmsnorm(q, x, gain, 1e-5, y, stats);
    k->rmsnorm_backward(q, x, x, gain, stats, y, false);
    k->norm_backward_param(q, x, x, stats, dgain, NULL);
    ok(all_are(dgain, 0), "norms of (%d, %d): the gain's gradient is 0", (int)R, (int)C);
    free_all();
}

static void vocabulary(void) {
    Tensor *ids = tensor(TYPE_I32, SHAPE(2, 3)), *none = tensor(TYPE_I32, SHAPE(0, 3)), *y = reals(6, 4),
           *position = reals(3, 4), *dy = tensor(TYPE_REAL, SHAPE(0, 3, 4)),
           *loss = tensor(TYPE_F64, SHAPE(1));
    k->embedding(q, ids, reals(0, 4), 0, NULL, 0, y);
    ok(all_are(y, 0), "a table without rows: zeros");
    k->embedding(q, ids, reals(0, 4), 0, position, 0, y);
    ok(all_are(y, 7), "... and the positions");
    k->embedding(q, none, reals(5, 4), 0, position, 0, dy);
    k->embedding(q, ids, reals(5, 0), 0, NULL, 0, reals(6, 0));
    k->embedding_backward(q, ids, reals(6, 4), 0, reals(0, 4));
    k->embedding_backward(q, none, dy, 0, reals(5, 4));
    k->position_backward(q, dy, 0, position);
    ok(all_are(position, 0), "the gradient of positions that nobody had");
    Tensor *targets = tensor(TYPE_I32, SHAPE(3)), *top = vector(3), *sums = reals(3, 2);
    k->row_max(q, reals(3, 0), 0, top);
    ok(all_are(top, (real)-INFINITY), "the largest of nothing");
    k->exp_sums(q, reals(3, 0), 0, top, targets, 0, 0, sums);
    ok(all_are(sums, 0), "a sum of no exponentials");
    fill_constant(top, 0), fill_constant(sums, 1), k->zero(q, loss);
    k->split_cross_entropy(q, reals(3, 0), 0, top, sums, targets, 0, 0, loss);
    ok(tensor_scalar(loss) == -3, "the loss where all columns are another device's");
    k->zero(q, loss);
    k->row_max(q, reals(0, 5), 5, vector(0));
    k->exp_sums(q, reals(0, 5), 5, vector(0), targets, 0, 0, reals(0, 2));
    k->split_cross_entropy(q, reals(0, 5), 5, vector(0), reals(0, 2), targets, 0, 0, loss);
    k->softmax_cross_entropy(q, reals(0, 5), targets, 0, vector(0), loss);
    k->squared_error(q, reals(0, 5), reals(0, 5), reals(0, 5), loss);
    Tensor *dw = reals(5, 4), *dbias = vector(5);
    k->head_loss(q, reals(0, 4), reals(5, 4), vector(5), targets, 0, reals(0, 4), dw, dbias, false, loss,
                 vector(k->head_loss_scratch(q, 0, 4, 5, true)));
    ok(all_are(dw, 0) && all_are(dbias, 0) && tensor_scalar(loss) == 0, "the losses of no rows are 0");
    free_all();
}

static void attention(int64_t B, int64_t T, int64_t heads) {
    Tensor *qkv = tensor(TYPE_REAL, SHAPE(B, T, 3 * heads * 4)),
           *out = tensor(TYPE_REAL, SHAPE(B, T, heads * 4)), *lse = tensor(TYPE_REAL, SHAPE(B, T, heads)),
           *scratch = vector(k->attention_scratch(q, B, T, heads, 4));
    k->attention(q, qkv, heads, heads, out, lse, scratch);
    k->attention_backward(q, out, qkv, out, lse, heads, heads, qkv, scratch);
    k->rope(q, qkv, reals(T, 4), heads, heads, 0, false, qkv);
    ok(true, "attention of %d windows of %d tokens, %d heads", (int)B, (int)T, (int)heads);
    free_all();
}

int main(void) {
    device = device_new_cpu(0);
    k = device->kernels, q = &device->queue;
    for (int openblas = 0; openblas < 2; openblas++) {
        q->openblas = openblas;
        products();
        vocabulary();
        attention(0, 3, 2);
        attention(2, 0, 2);
    }
    elementwise(0, 4);
    elementwise(3, 0);
    rows(0, 4);
    rows(3, 0);
    device_delete(device);
    return tap_done();
}
