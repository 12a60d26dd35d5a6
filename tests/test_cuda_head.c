/* The head with its loss on a GPU against the CPU's, with and without gradients. TEST variants: double-emulated, all: emulated */
#include "tests/both.h"
#include "tests/targets.h"

typedef struct {
    int64_t R, C, V;
    double masked;
    ElementType type;
    bool bias, backward, add;
} Case;

static void compare(Case c) {
    enum { FIRST_ROW = 5 };
    Both x = both_new("x", c.type, SHAPE(c.R, c.C)), w = both_new("w", c.type, SHAPE(c.V, c.C));
    Both bias = both_new("bias", TYPE_REAL, SHAPE(c.V)), dx = both_new("dx", c.type, SHAPE(c.R, c.C));
    Both dw = both_new("dw", TYPE_REAL, SHAPE(c.V, c.C)), dbias = both_new("dbias", TYPE_REAL, SHAPE(c.V));
    Both targets = targets_new(FIRST_ROW + c.R, 0, c.V, c.masked);
    Both loss = both_new("loss", TYPE_F64, SHAPE(1)), scratch;
    both_write(&loss, &(double){0.75});
    ON_BOTH(scratch.on[d] = tensor_new(both_device[d], MEMORY_ACTIVATIONS, "scratch", TYPE_REAL,
                                       SHAPE(k->head_loss_scratch(q, c.R, c.C, c.V, c.backward))));
    ON_BOTH(k->head_loss(q, &x.on[d], &w.on[d], c.bias ? &bias.on[d] : NULL, &targets.on[d], FIRST_ROW,
                         c.backward ? &dx.on[d] : NULL, c.backward ? &dw.on[d] : NULL,
                         c.backward && c.bias ? &dbias.on[d] : NULL, c.add, &loss.on[d], &scratch.on[d]));
    printf("# %d rows of %d, %d tokens, %g masked, %s%s%s%s\n", (int)c.R, (int)c.C, (int)c.V, c.masked,
           c.type == TYPE_BF16 ? "bf16" : "real", c.bias ? ", bias" : "",
           c.backward ? "" : ", the loss alone", c.add ? ", added" : "");
    /* bf16: the gradient of the logits is rounded to 8 bits, dx once more */
    double tolerance = c.type == TYPE_BF16 ? 1 / 128.0 : BOTH_TOLERANCE;
    both_close(&loss, BOTH_TOLERANCE, "loss");
    both_close(&dx, tolerance, "dx");
    both_close(&dw, tolerance, "dw");
    both_close(&dbias, tolerance, "dbias");
    Both *all[] = {&x, &w, &bias, &dx, &dw, &dbias, &targets, &loss, &scratch};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

/* What is not asked for stays as it was, equal on both: compare() looks at all of it. */
static void forms(int64_t R, int64_t C, int64_t V, double masked, ElementType type) {
    for (int i = 0; i < 4; i++)
        compare((Case){R, C, V, masked, type, .bias = i & 1, .backward = true, .add = i & 2});
    compare((Case){R, C, V, masked, type, .bias = true});
}

int main(void) {
    both_start();
    forms(1, 1, 1, 0, TYPE_REAL);
    forms(1, 7, 65, 0, TYPE_REAL);
    forms(37, 33, 129, 0.3, TYPE_REAL);
    forms(9, 16, 40, 1, TYPE_REAL);
    forms(0, 7, 11, 0, TYPE_REAL);
    compare(
        (Case){1029, 3, 13, 0.1, TYPE_REAL, .bias = true, .backward = true}); /* more rows than are held */
    compare((Case){2, 5, 50257, 0, TYPE_REAL, .backward = true});
#ifndef REAL_DOUBLE
    forms(1, 8, 1, 0, TYPE_BF16);
    forms(37, 33, 129, 0.3, TYPE_BF16);
    compare((Case){1029, 3, 13, 0.1, TYPE_BF16, .bias = true, .backward = true});
#endif
    const Kernels *k = both_device[1]->kernels;
    Queue *q = &both_device[1]->queue;
    ok(k->head_loss_scratch(q, 1 << 20, 768, 50257, true) < (int64_t)2000 * 50257,
       "of a million rows not all logits are held");
    return tap_done();
}
