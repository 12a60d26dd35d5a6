/* Norms and sums over rows of a GPU, against the CPU's, at awkward sizes.
 * TEST variants: double-emulated, all: emulated */
#include "tests/both.h"

#include <string.h>

/* Of one column nothing is left but rounding when its mean is taken away, or when 1 / sqrt(eps) multiplies what is left of
 * two equal terms: eps is 1 there, and layer norm's gradient, which is 0, is seen where it is added. */
static double eps_for(int64_t C) { return C == 1 ? 1 : 1e-5; }

typedef struct {
    Both x, dy, gain, bias, y, stats, dx, dgain, dbias;
} Norm;

static Norm norm_new(ElementType type, int64_t R, int64_t C) {
    return (Norm){both_new("x", type, SHAPE(R, C)),      both_new("dy", type, SHAPE(R, C)),
                  both_new("gain", TYPE_REAL, SHAPE(C)), both_new("bias", TYPE_REAL, SHAPE(C)),
                  both_new("y", type, SHAPE(R, C)),      both_new("stats", TYPE_REAL, SHAPE(R, 2)),
                  both_new("dx", type, SHAPE(R, C)),     both_new("dgain", TYPE_REAL, SHAPE(C)),
                  both_new("dbias", TYPE_REAL, SHAPE(C))};
}

static void norm_free(Norm *n) {
    Both *all[] = {&n->x, &n->dy, &n->gain, &n->bias, &n->y, &n->stats, &n->dx, &n->dgain, &n->dbias};
    for (int i = 0; i < COUNT_OF(all); i++) both_free(all[i]);
}

/* Both begin their backward with the CPU's statistics, so that what differs is its own. */
static void same_stats(Norm *n) {
    void *stats = tensor_to_host(&n->stats.on[0]);
    both_write(&n->stats, stats);
    free(stats);
}

static void backward_of_parameters(Norm *n, const char *what) {
    ON_BOTH(k->norm_backward_param(q, &n->dy.on[d], &n->x.on[d], &n->stats.on[d], &n->dgain.on[d],
                                   &n->dbias.on[d]));
    both_close(&n->dgain, BOTH_TOLERANCE, what);
    both_close(&n->dbias, BOTH_TOLERANCE, "... of the bias");
}

static void test_layernorm(ElementType type, int64_t R, int64_t C) {
    Norm n = norm_new(type, R, C);
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        ON_BOTH(k->layernorm(q, &n.x.on[d], &n.gain.on[d], with_bias ? &n.bias.on[d] : NULL, eps_for(C),
                             &n.y.on[d], &n.stats.on[d]));
        both_close(&n.y, both_tolerance(type), with_bias ? "layernorm" : "layernorm without bias");
        both_close(&n.stats, BOTH_TOLERANCE, "its statistics");
    }
    same_stats(&n);
    for (int add = C == 1; add < 2; add++) {
        ON_BOTH(k->layernorm_backward(q, &n.dy.on[d], &n.x.on[d], &n.gain.on[d], &n.stats.on[d], &n.dx.on[d],
                                      add));
        both_close(&n.dx, both_tolerance(type), add ? "layernorm_backward, added" : "layernorm_backward");
    }
    backward_of_parameters(&n, "gradient of layernorm's gain");
    norm_free(&n);
}

static void test_rmsnorm(ElementType type, int64_t R, int64_t C) {
    Norm n = norm_new(type, R, C);
    ON_BOTH(k->rmsnorm(q, &n.x.on[d], &n.gain.on[d], eps_for(C), &n.y.on[d], &n.stats.on[d]));
    both_close(&n.y, both_tolerance(type), "rmsnorm");
    both_close(&n.stats, BOTH_TOLERANCE, "its statistics");
    same_stats(&n);
    for (int add = 0; add < 2; add++) {
        ON_BOTH(
            k->rmsnorm_backward(q, &n.dy.on[d], &n.x.on[d], &n.gain.on[d], &n.stats.on[d], &n.dx.on[d], add));
        both_close(&n.dx, both_tolerance(type), add ? "rmsnorm_backward, added" : "rmsnorm_backward");
    }
    ON_BOTH(k->norm_backward_param(q, &n.dy.on[d], &n.x.on[d], &n.stats.on[d], &n.dgain.on[d], NULL));
    both_close(&n.dgain, BOTH_TOLERANCE, "gradient of rmsnorm's gain");
    norm_free(&n);
}

static void test_sum_rows(ElementType type, int64_t R, int64_t N) {
    Both x = both_new("x", type, SHAPE(R, N)), y = both_new("y", TYPE_REAL, SHAPE(N));
    for (int add = 0; add < 2; add++) {
        ON_BOTH(k->sum_rows(q, &x.on[d], &y.on[d], add));
        both_close(&y, BOTH_TOLERANCE, add ? "sum_rows, added" : "sum_rows");
    }
    both_free(&x);
    both_free(&y);
}

/* The same input gives the same bits. */
static void test_twice(void) {
    const int64_t C = 97;
    Norm n = norm_new(TYPE_REAL, 300, C);
    void *bits[2];
    ON_BOTH(
        k->layernorm(q, &n.x.on[d], &n.gain.on[d], &n.bias.on[d], eps_for(C), &n.y.on[d], &n.stats.on[d]));
    for (int i = 0; i < 2; i++) {
        ON_BOTH(k->norm_backward_param(q, &n.dy.on[d], &n.x.on[d], &n.stats.on[d], &n.dgain.on[d],
                                       &n.dbias.on[d]));
        bits[i] = tensor_to_host(&n.dgain.on[1]);
    }
    ok(memcmp(bits[0], bits[1], (size_t)tensor_bytes(&n.dgain.on[1])) == 0, "the same bits twice");
    free(bits[0]);
    free(bits[1]);
    norm_free(&n);
}

int main(void) {
    both_start();
    const int64_t sizes[][2] = {{1, 1},  {1, 33},  {0, 5},    {5, 1},  {3, 31},
                                {2, 96}, {7, 128}, {33, 257}, {70, 3}, {2, 2100}};
    for (int t = 0; t < COUNT_OF(both_types); t++) {
        const ElementType type = both_types[t];
        for (int i = 0; i < COUNT_OF(sizes); i++) {
            test_layernorm(type, sizes[i][0], sizes[i][1]);
            test_rmsnorm(type, sizes[i][0], sizes[i][1]);
            test_sum_rows(type, sizes[i][0], sizes[i][1]);
        }
        test_sum_rows(type, 1200, 10);
    }
    test_sum_rows(TYPE_REAL, 2, 50257);
    test_twice();
    return tap_done();
}
