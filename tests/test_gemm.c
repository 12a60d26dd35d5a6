/* Every rung of the matrix product against double precision, on sizes that fit no block, and the check itself
 * against mistakes that it must see. TEST variants: float double asan */
#define _GNU_SOURCE
#include "chapters/01_autograd/gemm.h"
#include "chapters/01_autograd/ladder.h"
#include "common/base/rng.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { GUARD = 64 };

typedef struct {
    real *A, *B, *C; /* C with GUARD elements before and behind */
    double *reference, *bound;
} Product;

static Product product_new(const GemmSize *s, bool whole_numbers) {
    int64_t a = s->M * s->K, b = s->K * s->N, c = s->M * s->N;
    Product p = {xmalloc((size_t)a * sizeof(real)), xmalloc((size_t)b * sizeof(real)),
                 xmalloc((size_t)(c + 2 * GUARD) * sizeof(real)), xmalloc((size_t)c * sizeof(double)),
                 xmalloc((size_t)c * sizeof(double))};
    double size = whole_numbers ? 9 : 1;
    rng_fill_uniform(3, 1, 0, a, -size, size, p.A);
    rng_fill_uniform(3, 2, 0, b, -size, size, p.B);
    for (int64_t i = 0; whole_numbers && i < a; i++) p.A[i] = (real)trunc((double)p.A[i]);
    for (int64_t i = 0; whole_numbers && i < b; i++) p.B[i] = (real)trunc((double)p.B[i]);
    gemm_reference(s->M, s->N, s->K, p.A, p.B, p.reference, p.bound);
    return p;
}

static void product_free(Product *p) {
    free(p->A);
    free(p->B);
    free(p->C);
    free(p->reference);
    free(p->bound);
}

/* Products of small whole numbers are exact in any order: not one bit may differ. */
static void test_rung(const GemmRung *rung, const GemmSize *s) {
    int64_t count = s->M * s->N;
    double worst = 0, exact = 0;
    bool outside = false;
    for (int whole = 0; whole < 2; whole++) {
        Product p = product_new(s, whole);
        for (int64_t i = 0; i < count + 2 * GUARD; i++) p.C[i] = (real)NAN;
        rung->run(s->M, s->N, s->K, p.A, p.B, p.C + GUARD);
        GemmCheck check = gemm_check(count, p.C + GUARD, p.reference, p.bound);
        *(whole ? &exact : &worst) = whole ? check.error : check.share_of_bound;
        for (int64_t i = 0; i < GUARD; i++) outside |= !isnan(p.C[i]) || !isnan(p.C[GUARD + count + i]);
        product_free(&p);
    }
    ok(worst <= 1 && exact == 0 && !outside,
       "%s %lldx%lldx%lld: %.2g of the bound, whole numbers off by %g%s", rung->name, (long long)s->M,
       (long long)s->N, (long long)s->K, worst, exact, outside ? ", written outside C" : "");
}

static void test_reference(void) {
    real A[] = {1, 2, 3, 4, 5, 6}, B[] = {1, -1, 2, 0, 0, 3}; /* (2,3), (3,2) */
    double C[4], bound[4];
    gemm_reference(2, 2, 3, A, B, C, bound);
    ok(C[0] == 5 && C[1] == 8 && C[2] == 14 && C[3] == 14, "the reference, by hand: %g %g %g %g", C[0], C[1],
       C[2], C[3]);
    double unit = sizeof(real) == 4 ? 0x1p-24 : 0x1p-53;
    close_to(bound[1] / unit, 4 * (1 + 9), 1e-12, "its bound: (K + 1) u (|a b| + |a b| + ..)");
}

/* The check must see one product too few, one element not written, two elements exchanged. */
static void test_check_sees(void) {
    GemmSize s = {19, 23, 300};
    Product p = product_new(&s, false);
    gemm_rungs[0].run(s.M, s.N, s.K, p.A, p.B, p.C);
    ok(gemm_check(s.M * s.N, p.C, p.reference, p.bound).share_of_bound <= 1, "right");
    real right = p.C[7];
    p.C[7] = right - p.A[5] * p.B[5 * s.N + 7];
    ok(gemm_check(s.M * s.N, p.C, p.reference, p.bound).share_of_bound > 1,
       "one product missing in one element is seen");
    p.C[7] = (real)NAN;
    ok(!(gemm_check(s.M * s.N, p.C, p.reference, p.bound).share_of_bound <= 1), "a NAN is seen");
    p.C[7] = p.C[8];
    p.C[8] = right;
    ok(gemm_check(s.M * s.N, p.C, p.reference, p.bound).share_of_bound > 1,
       "two elements exchanged are seen");
    product_free(&p);
}

static void parse(void *text) {
    GemmSize sizes[LADDER_SIZES];
    ladder_parse(text, sizes);
}

static void test_parse(void) {
    static const char *const bad[] = {"",
                                      ",",
                                      "0",
                                      "-1",
                                      "+5",
                                      " 5",
                                      "5 ",
                                      "5,",
                                      "5,,",
                                      "5x5",
                                      "5x5x",
                                      "5x5x5x",
                                      "5x5x5x5",
                                      "4097",
                                      "5x4097x5",
                                      "99999999999999999999",
                                      "x",
                                      "5x5x0",
                                      "1e3",
                                      "5;6",
                                      "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"};
    for (int i = 0; i < COUNT_OF(bad); i++) {
        Exit e = expect_exit(parse, (void *)(uintptr_t)bad[i]);
        ok(refused(&e, 2, "--gemm-sizes"), "sizes '%s' are refused", bad[i]);
    }
    GemmSize sizes[LADDER_SIZES];
    int count = ladder_parse("1000,5x700x33,4096,1", sizes);
    ok(count == 4 && sizes[0].M == 1 && sizes[1].M == 5 && sizes[1].N == 700 && sizes[1].K == 33 &&
           sizes[2].K == 1000 && sizes[3].N == 4096,
       "a list of sizes, sorted");
}

int main(void) {
    static const GemmSize sizes[] = {{1, 1, 1},     {1, 97, 1},    {97, 1, 3},   {1, 1, 1000},
                                     {12, 32, 256}, {13, 33, 257}, {5, 700, 33}, {101, 103, 107},
                                     {97, 65, 513}, {200, 4100, 9}};
    test_parse(); /* forks: before OpenMP */
    test_reference();
    for (int r = 0; r < GEMM_RUNGS; r++)
        for (int s = 0; s < COUNT_OF(sizes); s++) test_rung(&gemm_rungs[r], &sizes[s]);
    test_check_sees();
    return tap_done();
}
