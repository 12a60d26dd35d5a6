#include "chapters/01_autograd/ladder.h"

#include "chapters/01_autograd/gemm.h"
#include "common/run/machine.h"
#include "common/draw/plots.h"
#include "common/base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

/* ---- sizes ---- */

static double products(const GemmSize *s) { return (double)s->M * (double)s->N * (double)s->K; }

static int by_products(const void *a, const void *b) {
    double difference = products(a) - products(b);
    return (difference > 0) - (difference < 0);
}

static bool read_number(const char **at, int64_t *value) {
    char *end;
    if (**at < '1' || **at > '9') return false; /* strtoll would take blanks and signs too */
    *value = strtoll(*at, &end, 10);
    *at = end;
    return *value <= LADDER_LARGEST;
}

static bool read_size(const char **at, GemmSize *s) {
    if (!read_number(at, &s->M)) return false;
    s->N = s->K = s->M;
    if (**at != 'x') return true;
    if (++*at, !read_number(at, &s->N)) return false;
    return *(*at)++ == 'x' && read_number(at, &s->K);
}

int ladder_parse(const char *text, GemmSize sizes[LADDER_SIZES]) {
    static const char hint[] = "write 64,1000,5x700x33: up to 16 sizes N or MxNxK, each from 1 to 4096";
    int count = 0;
    for (const char *at = text; count == 0 || *at; count++) {
        if (count > 0) at++; /* the comma */
        const char *from = at;
        CHECK_USAGE(count < LADDER_SIZES && read_size(&at, &sizes[count]) && (*at == ',' || !*at), hint,
                    "--gemm-sizes is '%s', which is not a list of sizes from '%s' on", text, from);
    }
    qsort(sizes, (size_t)count, sizeof *sizes, by_products);
    return count;
}

/* ---- one size ---- */

typedef struct {
    real *A, *B, *C;
    double *reference, *bound;
} Matrices;

static Matrices matrices_new(const GemmSize *s, uint64_t seed) {
    size_t a = (size_t)(s->M * s->K), b = (size_t)(s->K * s->N), c = (size_t)(s->M * s->N);
    Matrices m = {xmalloc(a * sizeof(real)), xmalloc(b * sizeof(real)), xmalloc(c * sizeof(real)),
                  xmalloc(c * sizeof(double)), xmalloc(c * sizeof(double))};
    rng_fill_uniform(seed, rng_stream("gemm.A"), 0, (int64_t)a, -1, 1, m.A);
    rng_fill_uniform(seed, rng_stream("gemm.B"), 0, (int64_t)b, -1, 1, m.B);
    gemm_reference(s->M, s->N, s->K, m.A, m.B, m.reference, m.bound);
    return m;
}

static void matrices_free(Matrices *m) {
    free(m->A);
    free(m->B);
    free(m->C);
    free(m->reference);
    free(m->bound);
}

static double time_once(const GemmRung *rung, const GemmSize *s, const Matrices *m) {
    double began = now_seconds();
    rung->run(s->M, s->N, s->K, m->A, m->B, m->C);
    return now_seconds() - began;
}

typedef struct {
    GemmCheck check;
    double seconds; /* the best run */
} Measured;

/* The first run starts from NANs, so that an element that is never written shows; then it is
 * checked, then repeated. */
static Measured measure(const GemmRung *rung, const GemmSize *s, const Matrices *m, double seconds) {
    for (int64_t i = 0; i < s->M * s->N; i++) m->C[i] = NAN;
    double spent = time_once(rung, s, m);
    Measured result = {gemm_check(s->M * s->N, m->C, m->reference, m->bound), spent};
    while (spent < seconds) {
        double once = time_once(rung, s, m);
        result.seconds = fmin(result.seconds, once);
        spent += once;
    }
    return result;
}

/* ---- all of them ---- */

static void draw(const double *x, double gflops[GEMM_RUNGS][LADDER_SIZES], int count, const char *folder) {
    PlotSeries series[GEMM_RUNGS];
    for (int r = 0; r < GEMM_RUNGS; r++)
        series[r] = (PlotSeries){
            .label = gemm_rungs[r].name, .x = x, .y = gflops[r], .count = count, .style = PLOT_LINE_POINTS};
    Plot plot = {.title = "One product of matrices, five ways",
                 .x_label = "size: cube root of M N K",
                 .y_label = "GFLOP/s",
                 .log_y = true,
                 .series = series,
                 .series_count = GEMM_RUNGS};
    char *path = xprintf("%s/gemm.png", folder);
    plot_draw(&plot, path);
    free(path);
}

bool ladder_climb(const GemmSize *sizes, int count, double seconds, uint64_t seed, const char *folder) {
    double x[LADDER_SIZES], gflops[GEMM_RUNGS][LADDER_SIZES];
    bool right = true;
    int threads = omp_get_max_threads();
    printf("C (M,N) = A (M,K) B (K,N) in %s precision, on %d thread%s, OpenBLAS %s kernels\n",
           sizeof(real) == sizeof(float) ? "single" : "double", threads, threads > 1 ? "s" : "",
           machine_blas_kernels());
    for (int r = 0; r < GEMM_RUNGS; r++) printf("  %-10s %s\n", gemm_rungs[r].name, gemm_rungs[r].idea);
    printf("\n%-19s %-10s %10s %9s %10s %9s %11s\n", "M x N x K", "rung", "max error", "of bound", "best ms",
           "GFLOP/s", "of OpenBLAS");
    for (int i = 0; i < count; i++) {
        const GemmSize *s = &sizes[i];
        Matrices m = matrices_new(s, seed);
        Measured rungs[GEMM_RUNGS];
        for (int r = 0; r < GEMM_RUNGS; r++) rungs[r] = measure(&gemm_rungs[r], s, &m, seconds);
        for (int r = 0; r < GEMM_RUNGS; r++) {
            bool fine = rungs[r].check.share_of_bound <= 1;
            gflops[r][i] = fine ? 2e-9 * products(s) / rungs[r].seconds : NAN;
            char *size = xprintf("%" PRId64 " x %" PRId64 " x %" PRId64, s->M, s->N, s->K);
            printf("%-19s %-10s %10.2g %9.2g %10.4g %9.4g %10.1f%%%s\n", r ? "" : size, gemm_rungs[r].name,
                   rungs[r].check.error, rungs[r].check.share_of_bound, 1e3 * rungs[r].seconds, gflops[r][i],
                   100 * rungs[GEMM_RUNGS - 1].seconds / rungs[r].seconds, fine ? "" : "  WRONG");
            free(size);
            right &= fine;
        }
        x[i] = cbrt(products(s));
        fflush(stdout);
        matrices_free(&m);
    }
    draw(x, gflops, count, folder);
    return right;
}
