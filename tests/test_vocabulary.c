/* TEST variants: float double, all: asan
 * A vocabulary over several devices, each with some of its rows, by hand in one process: the look-up of all parts
 * together is that of the whole table, and each part's gradient is the whole one's slice; the cross-entropy in pieces, with
 * sums and maxima over the devices between them, is that of all logits in one place. */
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/tap.h"
#include "tests/tensors.h"

enum { B = 3, T = 7, C = 70, V = 23 };

static Device *device;
static const Kernels *k;
static Queue *q;

static Tensor zeros(ElementType type, Shape shape) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, "t", type, shape);
    k->zero(q, &t);
    return t;
}

static Tensor random_tensor(Shape shape, const char *stream) {
    Tensor t = zeros(TYPE_REAL, shape);
    fill_normal(&t, 3, rng_stream(stream), 1);
    return t;
}

static Tensor random_ids(Shape shape, int32_t lowest, int32_t below) {
    Tensor t = zeros(TYPE_I32, shape);
    Rng rng = {3, rng_stream("ids"), 0};
    for (int64_t i = 0; i < tensor_count(&t); i++) {
        int32_t id = lowest + (int32_t)rng_below(&rng, (uint32_t)(below - lowest));
        tensor_write(&t, i, 1, &id);
    }
    return t;
}

/* ---- the look-up ---- */

/* Of `parts` devices each has so many rows, the last what is left. */
static void embedding(int parts, int64_t rows) {
    Tensor ids = random_ids(SHAPE(B, T), 0, V), table = random_tensor(SHAPE(V, C), "table");
    Tensor position = random_tensor(SHAPE(T + 2, C), "position"), dy = random_tensor(SHAPE(B, T, C), "dy");
    Tensor whole = zeros(TYPE_REAL, SHAPE(B, T, C)), sum = zeros(TYPE_REAL, SHAPE(B, T, C)),
           part = zeros(TYPE_REAL, SHAPE(B, T, C)), gradient = zeros(TYPE_REAL, SHAPE(V, C)),
           gradients = zeros(TYPE_REAL, SHAPE(V, C));
    k->embedding(q, &ids, &table, 0, &position, 2, &whole);
    k->embedding_backward(q, &ids, &dy, 0, &gradient);
    for (int i = 0; i < parts; i++) {
        int64_t first = min64(V, i * rows);
        Tensor mine = tensor_rows_view(&table, first, min64(rows, V - first)),
               gradient_of_mine = tensor_rows_view(&gradients, first, min64(rows, V - first));
        fill_constant(&part, (real)NAN);
        k->embedding(q, &ids, &mine, first, i == 1 ? &position : NULL, 2, &part);
        k->accumulate(q, &part, &sum);
        k->embedding_backward(q, &ids, &dy, first, &gradient_of_mine);
    }
    ok(same_elements(&whole, &sum), "embedding on %d devices with %d rows each: the parts add up", parts,
       (int)rows);
    ok(same_elements(&gradient, &gradients), "... and each has its slice of the gradient");
    Tensor *all[] = {&ids, &table, &position, &dy, &whole, &sum, &part, &gradient, &gradients};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
}

/* ---- head and cross-entropy ---- */

#ifdef REAL_DOUBLE
static const double TOLERANCE = 1e-12;
#else
static const double TOLERANCE = 1e-5;
#endif

/* The largest difference as a share of the largest element of b. */
static double apart(const Tensor *a, const Tensor *b) {
    double difference = 0, largest = 0;
    for (int64_t i = 0; i < tensor_count(b); i++) {
        difference = worse(difference, fabs((double)real_at(a, i) - (double)real_at(b, i)));
        largest = worse(largest, fabs((double)real_at(b, i)));
    }
    return difference / largest;
}

/* into = the larger of both, as an all-reduce would have it */
static void maximum(const Tensor *t, Tensor *into) {
    for (int64_t i = 0; i < tensor_count(t); i++)
        if (real_at(t, i) > real_at(into, i)) set_real_at(into, i, real_at(t, i));
}

/* Rows first .. of t (V,columns) or, columns 0, (V), and on to first + rows; those that t lacks have this value. */
static Tensor padded_rows(const Tensor *t, int64_t first, int64_t rows, int64_t columns, real padding) {
    Tensor part = zeros(TYPE_REAL, columns ? SHAPE(rows, columns) : SHAPE(rows));
    int64_t width = max64(columns, 1), there = max64(0, min64(rows, t->shape.size[0] - first));
    fill_constant(&part, padding);
    if (there) {
        Tensor from = tensor_view(t, first * width, SHAPE(there * width));
        Tensor to = tensor_view(&part, 0, SHAPE(there * width));
        k->copy(q, &from, &to);
    }
    return part;
}

enum { MOST = 4 };

/* Of V rows of the head each of `parts` devices has `each`, the last ones fewer or none. */
static void cross_entropy(int parts, int64_t R, int64_t V_all, int64_t each, double spread) {
    enum { WIDTH = 10, FIRST_ROW = 3 };
    Tensor x = random_tensor(SHAPE(R, WIDTH), "x"), w = random_tensor(SHAPE(V_all, WIDTH), "w"),
           bias = random_tensor(SHAPE(V_all), "bias"),
           targets = random_ids(SHAPE(R + FIRST_ROW), -2, (int32_t)V_all);
    for (int64_t i = 0; i < tensor_count(&bias); i++) set_real_at(&bias, i, real_at(&bias, i) * (real)spread);
    /* in one place */
    Tensor logits = zeros(TYPE_REAL, SHAPE(R, V_all)), row_loss = zeros(TYPE_REAL, SHAPE(R)),
           loss = zeros(TYPE_F64, SHAPE(1)), dx = zeros(TYPE_REAL, SHAPE(R, WIDTH)),
           dw = zeros(TYPE_REAL, SHAPE(V_all, WIDTH)), dbias = zeros(TYPE_REAL, SHAPE(V_all));
    k->matmul(q, &x, false, &w, true, &bias, &logits, false);
    k->softmax_cross_entropy(q, &logits, &targets, FIRST_ROW, &row_loss, &loss);
    k->matmul(q, &logits, false, &w, false, NULL, &dx, false);
    k->matmul(q, &logits, true, &x, false, NULL, &dw, true);
    k->sum_rows(q, &logits, &dbias, true);

    /* on several devices */
    struct {
        Tensor w, bias, logits, top, sums, loss, dw, dbias;
        int64_t columns;
    } part[MOST];
    Tensor top = zeros(TYPE_REAL, SHAPE(R)), sums = zeros(TYPE_REAL, SHAPE(R, 2)),
           sum_dx = zeros(TYPE_REAL, SHAPE(R, WIDTH));
    fill_constant(&top, (real)-INFINITY);
    for (int i = 0; i < parts; i++) {
        part[i].columns = max64(0, min64(each, V_all - i * each));
        part[i].w = padded_rows(&w, i * each, each, WIDTH, 0);
        part[i].bias = padded_rows(&bias, i * each, each, 0, (real)1e30); /* it would be the largest logit */
        part[i].logits = zeros(TYPE_REAL, SHAPE(R, each)), part[i].top = zeros(TYPE_REAL, SHAPE(R));
        part[i].sums = zeros(TYPE_REAL, SHAPE(R, 2)), part[i].loss = zeros(TYPE_F64, SHAPE(1));
        k->matmul(q, &x, false, &part[i].w, true, &part[i].bias, &part[i].logits, false);
        k->row_max(q, &part[i].logits, part[i].columns, &part[i].top);
        maximum(&part[i].top, &top);
    }
    for (int i = 0; i < parts; i++) {
        k->exp_sums(q, &part[i].logits, part[i].columns, &top, &targets, FIRST_ROW, i * each, &part[i].sums);
        k->accumulate(q, &part[i].sums, &sums);
    }
    double worst = 0, worst_loss = 0;
    bool padding = true, same_bits = true;
    for (int i = 0; i < parts; i++) {
        k->split_cross_entropy(q, &part[i].logits, part[i].columns, &top, &sums, &targets, FIRST_ROW,
                               i * each, &part[i].loss);
        worst_loss = worse(worst_loss, fabs(tensor_scalar(&part[i].loss) / tensor_scalar(&loss) - 1));
        for (int64_t r = 0; r < R; r++)
            for (int64_t v = 0; v < each; v++) {
                real got = real_at(&part[i].logits, r * each + v);
                if (v >= part[i].columns) {
                    padding &= got == 0;
                    continue;
                }
                real want = real_at(&logits, r * V_all + i * each + v);
                worst = worse(worst, fabs((double)got - (double)want));
                same_bits &= got == want;
            }
        k->matmul(q, &part[i].logits, false, &part[i].w, false, NULL, &sum_dx, true);
        part[i].dw = zeros(TYPE_REAL, SHAPE(each, WIDTH)), part[i].dbias = zeros(TYPE_REAL, SHAPE(each));
        k->matmul(q, &part[i].logits, true, &x, false, NULL, &part[i].dw, true);
        k->sum_rows(q, &part[i].logits, &part[i].dbias, true);
    }
    double worst_gradient = apart(&sum_dx, &dx);
    for (int i = 0; i < parts; i++)
        for (int64_t v = 0; v < each; v++)
            for (int64_t c = 0; c <= WIDTH; c++) { /* the last one: the bias */
                int64_t all = i * each + v;
                double got = c < WIDTH ? real_at(&part[i].dw, v * WIDTH + c) : real_at(&part[i].dbias, v);
                double want = v >= part[i].columns ? 0
                              : c < WIDTH          ? real_at(&dw, all * WIDTH + c)
                                                   : real_at(&dbias, all);
                worst_gradient = worse(worst_gradient, fabs(got - want) / (double)R);
            }
    ok(worst_loss <= TOLERANCE && worst <= TOLERANCE && padding,
       "cross-entropy of %d rows, %d columns on %d devices: loss %.6g, off by %.1e; gradient off by %.1e",
       (int)R, (int)V_all, parts, tensor_scalar(&loss), worst_loss, worst);
    ok(worst_gradient <= TOLERANCE, "... of x, head and bias: off by %.1e", worst_gradient);
    if (parts == 1)
        ok(same_bits && tensor_scalar(&part[0].loss) == tensor_scalar(&loss),
           "... on one device: the same bits");
    Tensor *all[] = {&x,  &w,  &bias,  &targets, &logits, &row_loss, &loss,
                     &dx, &dw, &dbias, &top,     &sums,   &sum_dx};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
    for (int i = 0; i < parts; i++) {
        Tensor *own[] = {&part[i].w,    &part[i].bias, &part[i].logits, &part[i].top,
                         &part[i].sums, &part[i].loss, &part[i].dw,     &part[i].dbias};
        for (int j = 0; j < COUNT_OF(own); j++) tensor_free(own[j]);
    }
}

/* The same bits with any number of threads. */
static void threads(void) {
    enum { R = 200, COLUMNS = 130, EXIST = 123 };
    Tensor logits[2], top[2], sums[2], loss[2], targets = random_ids(SHAPE(R), -2, 200);
    int before = q->threads;
    for (int i = 0; i < 2; i++) {
        q->threads = i ? 3 : 1;
        logits[i] = random_tensor(SHAPE(R, COLUMNS), "logits"), top[i] = zeros(TYPE_REAL, SHAPE(R));
        sums[i] = zeros(TYPE_REAL, SHAPE(R, 2)), loss[i] = zeros(TYPE_F64, SHAPE(1));
        k->row_max(q, &logits[i], EXIST, &top[i]);
        k->exp_sums(q, &logits[i], EXIST, &top[i], &targets, 0, 50, &sums[i]);
        k->split_cross_entropy(q, &logits[i], EXIST, &top[i], &sums[i], &targets, 0, 50, &loss[i]);
    }
    q->threads = before;
    ok(same_elements(&logits[0], &logits[1]) && same_elements(&sums[0], &sums[1]) &&
           same_elements(&loss[0], &loss[1]),
       "the same bits with 1 and 3 threads");
    for (int i = 0; i < 2; i++)
        tensor_free(&logits[i]), tensor_free(&top[i]), tensor_free(&sums[i]), tensor_free(&loss[i]);
    tensor_free(&targets);
}

int main(void) {
    device = device_new_cpu(0);
    k = device->kernels, q = &device->queue;
    embedding(2, 12);
    embedding(3, 8);
    embedding(5, 6); /* the last has no row */
    cross_entropy(1, 37, 53, 53, 1);
    cross_entropy(1, 37, 53, 64, 1); /* with padding */
    cross_entropy(2, 37, 53, 27, 1);
    cross_entropy(3, 37, 53, 18, 1);
    cross_entropy(4, 37, 53, 18, 1);   /* the last has padding only */
    cross_entropy(3, 37, 53, 18, 200); /* numbers whose exponentials are none */
    threads();
    device_delete(device);
    return tap_done();
}
