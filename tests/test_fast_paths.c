/* Fast paths against their references: the small matrix product, ours and OpenBLAS's, against double precision;
 * the head with its loss in two passes against separate kernels. TEST variants: float double asan */
#include "common/cpu/device_cpu.h"
#include "common/cpu/kernels_cpu.h"
#include "common/base/rng.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <stdlib.h>

#ifdef REAL_DOUBLE
static const double EPSILON = 2.3e-16;
#else
static const double EPSILON = 1.2e-7;
#endif

static real *random_reals(int64_t count, uint64_t stream) {
    real *x = xmalloc((size_t)count * sizeof(real));
    rng_fill_uniform(7, stream, 0, count, -1, 1, x);
    return x;
}

/* ---- the small product ---- */

/* The largest error of C as a share of what K roundings may make; INFINITY when it wrote outside of C. */
static double product_error(const Queue *q, bool a_t, bool b_t, int64_t M, int64_t N, int64_t K, bool add) {
    enum { MARGIN = 3 }; /* leading dimensions are longer than the matrices */
    int64_t lda = (a_t ? M : K) + MARGIN, ldb = (b_t ? K : N) + MARGIN, ldc = N + MARGIN;
    real *A = random_reals((a_t ? K : M) * lda, 1), *B = random_reals((b_t ? N : K) * ldb, 2);
    real *C = random_reals(M * ldc, 3), *before = random_reals(M * ldc, 3);
    const double alpha = 0.5;
    cpu_gemm(q, a_t, b_t, M, N, K, (real)alpha, A, lda, B, ldb, add, C, ldc);
    double error = 0;
    for (int64_t i = 0; i < M; i++) {
        for (int64_t j = 0; j < N; j++) {
            double want = add ? (double)before[i * ldc + j] : 0, size = fabs(want);
            for (int64_t k = 0; k < K; k++) {
                double product = alpha * (double)A[a_t ? k * lda + i : i * lda + k] *
                                 (double)B[b_t ? j * ldb + k : k * ldb + j];
                want += product;
                size += fabs(product);
            }
            error = worse(error, fabs((double)C[i * ldc + j] - want) / (EPSILON * (double)(K + 2) * size));
        }
        for (int64_t j = N; j < ldc; j++)
            if (C[i * ldc + j] != before[i * ldc + j]) error = INFINITY;
    }
    free(A);
    free(B);
    free(C);
    free(before);
    return error;
}

static void test_products(bool openblas) {
    Queue q = {.threads = 1, .openblas = openblas};
    static const int64_t sizes[][3] = {{1, 1, 1},    {1, 33, 40},   {5, 3, 2},      {12, 32, 16},
                                       {13, 31, 70}, {64, 64, 32},  {67, 45, 33},   {100, 97, 193},
                                       {97, 32, 8},  {24, 48, 385}, {130, 66, 50},  {256, 25, 25},
                                       {4, 403, 50}, {61, 403, 40}, {300, 403, 200}}; /* A is laid out */
    for (int form = 0; form < 8; form++) {
        bool a_t = form & 1, b_t = form & 2, add = form & 4;
        double error = 0;
        for (int i = 0; i < COUNT_OF(sizes); i++)
            error = worse(error, product_error(&q, a_t, b_t, sizes[i][0], sizes[i][1], sizes[i][2], add));
        ok(error <= 1, "%s: A%s B%s%s: %.2g of the rounding allowed", openblas ? "OpenBLAS" : "own",
           a_t ? "^T" : "", b_t ? "^T" : "", add ? ", added" : "", error);
    }
}

/* Any rows of a product have the bits that they have in the whole: what tiles and slices rely on. */
static void test_slices(void) {
    enum { M = 61, N = 420, K = 300 }; /* A is laid out for the whole */
    Queue q = {.threads = 1};
    real *A = random_reals(M * K, 1), *B = random_reals(K * N, 2);
    real *whole = random_reals(M * N, 3), *sliced = random_reals(M * N, 3);
    cpu_gemm(&q, false, false, M, N, K, 1, A, K, B, N, false, whole, N);
    for (int64_t i = 0; i < M; i += 7)
        for (int64_t j = 0; j < N; j += 33)
            cpu_gemm(&q, false, false, min64(7, M - i), min64(33, N - j), K, 1, A + i * K, K, B + j, N, false,
                     sliced + i * N + j, N);
    ok(memcmp(whole, sliced, sizeof(real[M * N])) == 0, "own: slices have the bits of the whole");
    free(A);
    free(B);
    free(whole);
    free(sliced);
}

/* ---- the head ---- */

typedef struct {
    Tensor dx, dw, dbias, loss;
} Gradients;

static Gradients gradients_new(Device *d, int64_t R, int64_t C, int64_t V) {
    Gradients g = {tensor_new(d, MEMORY_GRADIENTS, "dx", TYPE_REAL, SHAPE(R, C)),
                   tensor_new(d, MEMORY_GRADIENTS, "dw", TYPE_REAL, SHAPE(V, C)),
                   tensor_new(d, MEMORY_GRADIENTS, "dbias", TYPE_REAL, SHAPE(V)),
                   tensor_new(d, MEMORY_GRADIENTS, "loss", TYPE_F64, SHAPE(1))};
    fill_uniform(&g.dw, 7, 4, -1, 1); /* what is added to */
    fill_uniform(&g.dbias, 7, 5, -1, 1);
    tensor_write(&g.loss, 0, 1, &(double){1});
    return g;
}

static void gradients_free(Gradients *g) {
    tensor_free(&g->dx);
    tensor_free(&g->dw);
    tensor_free(&g->dbias);
    tensor_free(&g->loss);
}

static double difference(const Tensor *a, const Tensor *b) {
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < tensor_count(a); i++) {
        worst = worse(worst, fabs((double)real_at(a, i) - (double)real_at(b, i)));
        largest = worse(largest, fabs((double)real_at(b, i)));
    }
    return worst / largest;
}

static void test_head(Device *d, int64_t R, int64_t C, int64_t V, double spread, bool with_bias, bool add) {
    const Kernels *k = d->kernels;
    Queue *q = &d->queue;
    Tensor x = tensor_new(d, MEMORY_ACTIVATIONS, "x", TYPE_REAL, SHAPE(R, C)),
           w = tensor_new(d, MEMORY_PARAMETERS, "w", TYPE_REAL, SHAPE(V, C)),
           bias = tensor_new(d, MEMORY_PARAMETERS, "bias", TYPE_REAL, SHAPE(V)),
           targets = tensor_new(d, MEMORY_ACTIVATIONS, "targets", TYPE_I32, SHAPE(R + 2)),
           logits = tensor_new(d, MEMORY_ACTIVATIONS, "logits", TYPE_REAL, SHAPE(R, V)),
           row_loss = tensor_new(d, MEMORY_ACTIVATIONS, "row loss", TYPE_REAL, SHAPE(R));
    Gradients want = gradients_new(d, R, C, V), got = gradients_new(d, R, C, V);
    fill_uniform(&x, 7, 1, -spread, spread);
    fill_uniform(&w, 7, 2, -1, 1);
    fill_uniform(&bias, 7, 3, -spread, spread);
    for (int64_t r = 0; r < R + 2; r++) /* the first two belong to rows before; every fifth is masked */
        tensor_write(&targets, r, 1, &(int32_t){r % 5 == 4 ? -1 : (int32_t)(r * 7919 % V)});

    Tensor *b = with_bias ? &bias : NULL;
    k->matmul(q, &x, false, &w, true, b, &logits, false);
    k->softmax_cross_entropy(q, &logits, &targets, 2, &row_loss, &want.loss);
    k->matmul(q, &logits, false, &w, false, NULL, &want.dx, false);
    k->matmul(q, &logits, true, &x, false, NULL, &want.dw, add);
    if (b) k->sum_rows(q, &logits, &want.dbias, add);

    Tensor scratch = tensor_new(d, MEMORY_ACTIVATIONS, "scratch", TYPE_REAL,
                                SHAPE(k->head_loss_scratch(q, R, C, V, true)));
    k->head_loss(q, &x, &w, b, &targets, 2, &got.dx, &got.dw, b ? &got.dbias : NULL, add, &got.loss,
                 &scratch);
    double error = worse(difference(&got.dx, &want.dx), difference(&got.dw, &want.dw));
    error = worse(error, difference(&got.dbias, &want.dbias));
    double loss = fabs(tensor_scalar(&got.loss) / tensor_scalar(&want.loss) - 1);
    ok(error < 50 * EPSILON && loss < 20 * EPSILON,
       "head of %lld rows, %lld columns, %lld tokens%s%s: %.1e, loss %.1e", (long long)R, (long long)C,
       (long long)V, with_bias ? ", bias" : "", add ? ", added" : "", error, loss);

    tensor_free(&scratch);
    scratch = tensor_new(d, MEMORY_ACTIVATIONS, "scratch", TYPE_REAL,
                         SHAPE(k->head_loss_scratch(q, R, C, V, false)));
    double with_gradients = tensor_scalar(&got.loss);
    tensor_write(&got.loss, 0, 1, &(double){1});
    k->head_loss(q, &x, &w, b, &targets, 2, NULL, NULL, NULL, false, &got.loss, &scratch);
    ok(tensor_scalar(&got.loss) == with_gradients, "  the loss alone: the same bits");

    Tensor *all[] = {&x, &w, &bias, &targets, &logits, &row_loss, &scratch};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
    gradients_free(&want);
    gradients_free(&got);
}

int main(void) {
    test_products(false);
    test_products(true);
    test_slices();
    Device *d = device_new_cpu(0);
    test_head(d, 1, 1, 2, 1, true, false);
    test_head(d, 3, 5, 7, 1, false, false);
    test_head(d, 64, 16, 65, 1, true, true);
    test_head(d, 33, 24, 1000, 0.1, false, true);
    test_head(d, 50, 12, 3100, 20, true, false); /* logits far apart: tiles whose sums vanish beside others */
    d->queue.openblas = true;
    test_head(d, 50, 12, 3100, 1, true, true);
    device_delete(d);
    return tap_done();
}
