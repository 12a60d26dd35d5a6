/* Kernels of a GPU that go over elements, against the CPU's, at awkward sizes.
 * TEST variants: double-emulated, all: emulated */
#include "tests/both.h"

/* Each kernel of two inputs and one output of this shape. */
static void test_shape(ElementType type, Shape shape) {
    int64_t columns = shape.size[shape.rank - 1];
    Both a = both_new("a", type, shape), b = both_new("b", type, shape);
    Both y = both_new("y", type, shape), row = both_new("row", TYPE_REAL, SHAPE(columns));
    Both s = both_new("s", TYPE_REAL, SHAPE(1));

    const double tolerance = both_tolerance(type);
    ON_BOTH(k->add(q, &a.on[d], &b.on[d], &y.on[d]));
    both_close(&y, 0, "add");
    ON_BOTH(k->copy(q, &a.on[d], &y.on[d]));
    both_close(&y, 0, "copy");
    ON_BOTH(k->accumulate(q, &b.on[d], &y.on[d]));
    both_close(&y, 0, "accumulate");
    ON_BOTH(k->add_row(q, &a.on[d], &row.on[d], &y.on[d]));
    both_close(&y, 0, "add_row");
    for (int add = 0; add < 2; add++) {
        ON_BOTH(k->scale(q, &s.on[d], &a.on[d], &y.on[d], add));
        both_close(&y, tolerance, add ? "scale, added" : "scale");
    }
    ON_BOTH(k->scale(q, &s.on[d], &y.on[d], &y.on[d], false));
    both_close(&y, tolerance, "scale in place");

    ON_BOTH(k->relu(q, &a.on[d], &y.on[d]));
    both_close(&y, 0, "relu");
    ON_BOTH(k->gelu(q, &a.on[d], &y.on[d]));
    both_close(&y, tolerance, "gelu");
    for (int add = 0; add < 2; add++) {
        ON_BOTH(k->relu_backward(q, &b.on[d], &a.on[d], &y.on[d], add));
        both_close(&y, tolerance, add ? "relu_backward, added" : "relu_backward");
        ON_BOTH(k->gelu_backward(q, &b.on[d], &a.on[d], &y.on[d], add));
        both_close(&y, tolerance, add ? "gelu_backward, added" : "gelu_backward");
    }
    ON_BOTH(k->zero(q, &y.on[d]));
    both_close(&y, 0, "zero");

    both_free(&a);
    both_free(&b);
    both_free(&y);
    both_free(&row);
    both_free(&s);
}

static void test_swiglu(ElementType type, int64_t R, int64_t F) {
    Both x = both_new("x", type, SHAPE(R, 2 * F)), dx = both_new("dx", type, SHAPE(R, 2 * F));
    Both y = both_new("y", type, SHAPE(R, F));
    for (int add = 0; add < 2; add++) {
        ON_BOTH(k->swiglu_backward(q, &y.on[d], &x.on[d], &dx.on[d], add));
        both_close(&dx, both_tolerance(type), add ? "swiglu_backward, added" : "swiglu_backward");
    }
    ON_BOTH(k->swiglu(q, &x.on[d], &y.on[d]));
    both_close(&y, both_tolerance(type), "swiglu");
    both_free(&x);
    both_free(&dx);
    both_free(&y);
}

/* Large arguments, where an exponential is 0 or infinite, and what is not a number. */
static void test_far_out(void) {
    const real far_out[] = {-200, -30, -5, -0.0, 0, 5, 30, 200};
    Both x = both_new("far out", TYPE_REAL, SHAPE(COUNT_OF(far_out))),
         y = both_new("y", TYPE_REAL, SHAPE(COUNT_OF(far_out)));
    both_write(&x, far_out);
    ON_BOTH(k->gelu(q, &x.on[d], &y.on[d]));
    both_close(&y, BOTH_TOLERANCE, "gelu, far out");
    ON_BOTH(k->gelu_backward(q, &x.on[d], &x.on[d], &y.on[d], false));
    both_close(&y, BOTH_TOLERANCE, "gelu_backward, far out");
    const real nothing = (real)NAN;
    for (int d = 0; d < 2; d++) tensor_write(&x.on[d], 3, 1, &nothing);
    real last[2];
    ON_BOTH(k->relu(q, &x.on[d], &y.on[d]); tensor_read(&y.on[d], 3, 1, &last[d]));
    ok(isnan(last[0]) && isnan(last[1]), "relu keeps what is not a number");
    both_free(&x);
    both_free(&y);
}

/* Of a tensor (3, 7, 5): a slice along each axis, into one whose axis is longer, and added to it. */
static void test_copy_slice(ElementType type) {
    for (int axis = 0; axis < 3; axis++) {
        Shape from = SHAPE(3, 7, 5), to = from;
        to.size[axis] += 40;
        Both x = both_new("x", type, from), y = both_new("y", type, to);
        for (int add = 0; add < 2; add++) {
            ON_BOTH(k->copy_slice(q, &x.on[d], 1, &y.on[d], 38 + add, axis, 2, add));
            both_close(&y, 0, add ? "copy_slice, added" : "copy_slice");
        }
        ON_BOTH(k->copy_slice(q, &x.on[d], 0, &y.on[d], 0, axis, 0, false));
        both_close(&y, 0, "copy_slice of nothing");
        both_free(&x);
        both_free(&y);
    }
}

static void test_dropout(ElementType type, Shape shape, double rate, int64_t first, int64_t window) {
    Both x = both_new("x", type, shape), y = both_new("y", type, shape);
    const uint64_t seed = 0x123456789abcdef0u, stream = rng_stream("dropout");
    ON_BOTH(k->dropout(q, &x.on[d], rate, seed, stream, first, window, &y.on[d], false));
    both_close(&y, 0, "dropout");
    ON_BOTH(k->dropout(q, &x.on[d], rate, seed, stream, first + 1, window, &y.on[d], true));
    both_close(&y, both_tolerance(type), "dropout, added");
    both_free(&x);
    both_free(&y);
}

/* What is written may be of another type than what is read. */
static void test_types(ElementType from, ElementType to, int64_t count) {
    Both x = both_new("x", from, SHAPE(count)), y = both_new("y", to, SHAPE(count));
    ON_BOTH(k->accumulate(q, &x.on[d], &y.on[d]));
    both_close(&y, 0, "accumulate from another type");
    ON_BOTH(k->cast(q, &x.on[d], &y.on[d]));
    both_close(&y, 0, "cast");
    both_free(&x);
    both_free(&y);
}

int main(void) {
    both_start();
    const Shape shapes[] = {SHAPE(1),    SHAPE(31),       SHAPE(257, 1),
                            SHAPE(0, 5), SHAPE(3, 5, 33), SHAPE(2, 50257)};
    for (int t = 0; t < COUNT_OF(both_types); t++) {
        const ElementType type = both_types[t];
        for (int i = 0; i < COUNT_OF(shapes); i++) test_shape(type, shapes[i]);
        test_swiglu(type, 1, 1);
        test_swiglu(type, 0, 3);
        test_swiglu(type, 3, 33);
        test_swiglu(type, 70, 257);
        test_copy_slice(type);
        for (int64_t first = 0; first < 5; first++) test_dropout(type, SHAPE(5, 27), 0.1, first, 0);
        test_dropout(type, SHAPE(1), 0.5, 3, 0);
        test_dropout(type, SHAPE(0, 7), 0.5, 3, 0);
        test_dropout(type, SHAPE(0, 7, 5), 0.5, 3, 100);
        test_dropout(type, SHAPE(4, 2, 257), 0.2, (int64_t)1 << 33, 1031);
        test_dropout(type, SHAPE(3, 1, 128), 0, 2, 128);
        test_dropout(type, SHAPE(2, 50257), 0.75, 1, 0);
        if (type == TYPE_REAL) continue;
        for (int64_t count = 0; count < 300; count += 41) {
            test_types(TYPE_REAL, type, count);
            test_types(type, TYPE_REAL, count);
        }
    }
    test_far_out();
    return tap_done();
}
