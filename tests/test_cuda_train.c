/* Losses and optimizers of a GPU against the CPU's. TEST variants: double-emulated, all: emulated */
#include "tests/both.h"
#include "tests/targets.h"

/* A number, the same on both. */
static Both number(double value) {
    Both x = both_new("number", TYPE_F64, SHAPE(1));
    both_write(&x, &value);
    return x;
}

static void softmax_cross_entropy(int64_t R, int64_t V, double masked) {
    Both logits = both_new("logits", TYPE_REAL, SHAPE(R, V)), targets = targets_new(R + 3, 0, V, masked);
    Both row_loss = both_new("row_loss", TYPE_REAL, SHAPE(R)), loss = number(0.75);
    ON_BOTH(k->softmax_cross_entropy(q, &logits.on[d], &targets.on[d], 3, &row_loss.on[d], &loss.on[d]));
    both_close(&logits, BOTH_TOLERANCE, "softmax_cross_entropy: gradient");
    both_close(&row_loss, BOTH_TOLERANCE, "softmax_cross_entropy: loss of each row");
    both_close(&loss, BOTH_TOLERANCE, "softmax_cross_entropy: loss");
    real *of_row = tensor_to_host(&row_loss.on[1]);
    double in_order = 0.75;
    for (int64_t r = 0; r < R; r++) in_order += of_row[r];
    ok(tensor_scalar(&loss.on[1]) == in_order,
       "softmax_cross_entropy: the loss adds the rows in their order");
    free(of_row);
    Both *all[] = {&logits, &targets, &row_loss, &loss};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

/* Logits so far apart that only their differences from the largest have exponentials. */
static void large_logits(void) {
    enum { V = 300 };
    Both logits = both_new("logits", TYPE_REAL, SHAPE(1, V)), targets = targets_new(1, 7, 8, 0);
    Both row_loss = both_new("row_loss", TYPE_REAL, SHAPE(1)), loss = number(0.75);
    real steep[V];
    for (int j = 0; j < V; j++) steep[j] = (real)(j % 2 ? 30 * j : -1000 * j);
    both_write(&logits, steep);
    ON_BOTH(k->softmax_cross_entropy(q, &logits.on[d], &targets.on[d], 0, &row_loss.on[d], &loss.on[d]));
    both_close(&logits, BOTH_TOLERANCE, "softmax_cross_entropy, logits of 8970: gradient");
    both_close(&loss, BOTH_TOLERANCE, "softmax_cross_entropy, logits of 8970: loss");
    Both *all[] = {&logits, &targets, &row_loss, &loss};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

static void squared_error(int64_t count) {
    Both y = both_new("y", TYPE_REAL, SHAPE(count)), target = both_new("target", TYPE_REAL, SHAPE(count));
    Both dy = both_new("dy", TYPE_REAL, SHAPE(count)), loss = number(0.75);
    ON_BOTH(k->squared_error(q, &y.on[d], &target.on[d], &dy.on[d], &loss.on[d]));
    both_close(&dy, 0, "squared_error: gradient");
    both_close(&loss, 1e-13, "squared_error: loss");
    Both *all[] = {&y, &target, &dy, &loss};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

static void squares(int64_t count) {
    Both x = both_new("x", TYPE_REAL, SHAPE(count));
    Both partials = both_new("partials", TYPE_F64, SHAPE(ceil_div(count, SQUARES_BLOCK)));
    ON_BOTH(k->squares(q, &x.on[d], &partials.on[d]));
    both_close(&partials, 1e-14, "squares"); /* the CPU's order is that of its vectors */
    both_free(&x);
    both_free(&partials);
}

/* The same bits, or NaN, on both. */
static bool same_number(const Both *x) {
    double cpu = tensor_scalar(&x->on[0]), gpu = tensor_scalar(&x->on[1]);
    return cpu == gpu || (isnan(cpu) && isnan(gpu));
}

static void numbers_of_a_step(void) {
    Both count = number(7), mean = number(0.5), total = number(NAN),
         one_over = both_new("1 / x", TYPE_REAL, SHAPE(1));
    ON_BOTH(k->reciprocal(q, &count.on[d], &one_over.on[d]));
    both_close(&one_over, 0, "reciprocal");
    enum { N = 4000 };
    const int64_t counts[] = {0, 1, 3, 1024, N};
    double terms[N];
    for (int i = 0; i < N; i++) terms[i] = 1.5 + sin(i);
    for (int i = 0; i < COUNT_OF(counts); i++) {
        Both x = both_new("x", TYPE_F64, SHAPE(counts[i]));
        both_write(&x, terms);
        ON_BOTH(k->add_means(q, &x.on[d], &count.on[d], &mean.on[d]));
        both_close(&mean, 0, "add_means");
        ON_BOTH(k->sum(q, &x.on[d], &total.on[d]));
        both_close(&total, 1e-14, "sum");
        both_free(&x);
    }
    const double cases[][4] = {{4, 1, 0, 0},     {4, 1, 3, 1},          {4, 1, 0.5, 0},
                               {NAN, 1, 0.5, 1}, {4, INFINITY, 0.5, 1}, {4, 1, 0.5, NAN}};
    for (int i = 0; i < COUNT_OF(cases); i++) { /* squares, loss, limit, the factor of the step before */
        Both squares_sum = number(cases[i][0]), loss = number(cases[i][1]), norm = number(0),
             clip = number(cases[i][3]);
        ON_BOTH(k->clip(q, &squares_sum.on[d], &loss.on[d], cases[i][2], &norm.on[d], &clip.on[d]));
        ok(same_number(&norm) && same_number(&clip),
           "clip: squares %g, loss %g, limit %g, %g before: norm %g, factor %g", cases[i][0], cases[i][1],
           cases[i][2], cases[i][3], tensor_scalar(&norm.on[1]), tensor_scalar(&clip.on[1]));
        Both *all[] = {&squares_sum, &loss, &norm, &clip};
        for (int j = 0; j < COUNT_OF(all); j++) both_free(all[j]);
    }
    Both *all[] = {&count, &mean, &total, &one_over};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

enum { FACTOR, NONE, NOT_FINITE, CLIPS };
static const char *const clip_names[] = {"clipped", "not clipped", "not finite"};

/* Three steps: the bias correction of the first is another than that of the third. */
static void adamw(int64_t count, int clips) {
    Both w = both_new("w", TYPE_REAL, SHAPE(count)), g = both_new("g", TYPE_REAL, SHAPE(count));
    Both m = both_new("m", TYPE_REAL, SHAPE(count)), v = both_new("v", TYPE_REAL, SHAPE(count));
    Both clip = number(clips == NOT_FINITE ? NAN : 0.3);
    ON_BOTH(k->zero(q, &m.on[d]); k->zero(q, &v.on[d]));
    for (int64_t step = 1; step <= 3; step++) {
        AdamwStep by = {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = 0.1, .step = step};
        ON_BOTH(k->adamw(q, &w.on[d], &g.on[d], &m.on[d], &v.on[d], clips == NONE ? NULL : &clip.on[d], &by));
        both_close(&w, BOTH_TOLERANCE, "adamw: parameters");
    }
    both_close(&m, BOTH_TOLERANCE, "adamw: means");
    both_close(&v, BOTH_TOLERANCE, "adamw: mean squares");
    Both *all[] = {&w, &g, &m, &v, &clip};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

static void sgd(int64_t count, int clips) {
    Both w = both_new("w", TYPE_REAL, SHAPE(count)), g = both_new("g", TYPE_REAL, SHAPE(count));
    Both v = both_new("v", TYPE_REAL, SHAPE(count)), clip = number(clips == NOT_FINITE ? INFINITY : 0.3);
    for (int step = 0; step < 2; step++)
        ON_BOTH(k->sgd(q, &w.on[d], &g.on[d], &v.on[d], clips == NONE ? NULL : &clip.on[d], 0.1, 0.9));
    both_close(&w, BOTH_TOLERANCE, "sgd: parameters");
    both_close(&v, BOTH_TOLERANCE, "sgd: momentum");
    Both *all[] = {&w, &g, &v, &clip};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

int main(void) {
    both_start();
    softmax_cross_entropy(1, 1, 0);
    softmax_cross_entropy(1, 31, 0);
    softmax_cross_entropy(300, 65, 0.3); /* more rows than threads add up at once */
    softmax_cross_entropy(5, 1000, 1);
    softmax_cross_entropy(2, 50257, 0);
    softmax_cross_entropy(0, 65, 0);
    large_logits();
    const int64_t counts[] = {0, 1, 33, 1023, 1024, 1025, 70001};
    for (int i = 0; i < COUNT_OF(counts); i++) {
        squared_error(counts[i]);
        squares(counts[i]);
    }
    numbers_of_a_step();
    for (int clips = 0; clips < CLIPS; clips++) {
        printf("# %s\n", clip_names[clips]);
        for (int i = 0; i < COUNT_OF(counts); i++) {
            adamw(counts[i], clips);
            sgd(counts[i], clips);
        }
    }
    return tap_done();
}
