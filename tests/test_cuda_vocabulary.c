/* Cross-entropy in pieces on a GPU against the CPU's: each device has some columns. TEST variants: double-emulated, all: emulated */
#include "tests/both.h"
#include "tests/targets.h"

/* Of a vocabulary of V this device has ids first_id .. first_id + columns - 1, and padding up to `width`. */
static void pieces(int64_t R, int64_t width, int64_t columns, int64_t first_id, int64_t V, double masked) {
    enum { FIRST_ROW = 2 };
    Both logits = both_new("logits", TYPE_REAL, SHAPE(R, width));
    Both targets = targets_new(FIRST_ROW + R, 0, V, masked);
    Both top = both_new("top", TYPE_REAL, SHAPE(R)), sums = both_new("sums", TYPE_REAL, SHAPE(R, 2));
    Both loss = both_new("loss", TYPE_F64, SHAPE(1));
    both_write(&loss, &(double){0.75});
    printf("# %d rows, %d columns of %d, ids from %d on of %d, %g masked\n", (int)R, (int)columns, (int)width,
           (int)first_id, (int)V, masked);

    ON_BOTH(k->row_max(q, &logits.on[d], columns, &top.on[d]));
    both_close(&top, 0, "row_max");

    /* as they are when all devices' are put together */
    real *of_all = xcalloc((size_t)(2 * R), sizeof *of_all);
    rng_fill_uniform(6, 1, 0, R, 1, 1.5, of_all);
    both_write(&top, of_all);
    ON_BOTH(
        k->exp_sums(q, &logits.on[d], columns, &top.on[d], &targets.on[d], FIRST_ROW, first_id, &sums.on[d]));
    both_close(&logits, BOTH_TOLERANCE, "exp_sums: exponentials");
    both_close(&sums, BOTH_TOLERANCE, "exp_sums: sums");

    rng_fill_uniform(6, 2, 0, 2 * R, 1, 20, of_all);
    both_write(&sums, of_all);
    ON_BOTH(k->split_cross_entropy(q, &logits.on[d], columns, &top.on[d], &sums.on[d], &targets.on[d],
                                   FIRST_ROW, first_id, &loss.on[d]));
    both_close(&logits, BOTH_TOLERANCE, "split_cross_entropy: gradient");
    both_close(&loss, BOTH_TOLERANCE, "split_cross_entropy: loss");
    free(of_all);
    Both *all[] = {&logits, &targets, &top, &sums, &loss};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

int main(void) {
    both_start();
    pieces(1, 23, 23, 0, 23, 0);
    pieces(7, 12, 11, 12, 23, 0.2);
    pieces(300, 33, 31, 64, 128, 0.3); /* more rows than threads add up at once */
    pieces(5, 300, 300, 0, 600, 1);
    pieces(4, 9, 0, 27, 27, 0); /* the vocabulary ends before this device */
    pieces(4, 0, 0, 27, 27, 0);
    pieces(3, 12565, 12562, 3 * 12565, 50257, 0);
    pieces(0, 9, 9, 0, 27, 0);
    return tap_done();
}
