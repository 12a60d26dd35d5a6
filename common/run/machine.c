#include "common/cpu/device_cpu.h"
#include "common/run/machine.h"

#include "common/comm/clock.h"
#include "common/base/platform.h"
#include "common/base/rng.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Device *machine_device(const Config *config) {
    Device *device = device_new_cpu(config->device_memory);
    device->queue.openblas = config->gemm == GEMM_OPENBLAS;
    static Clock clock; /* a process is one device */
    if (config->clock == CLOCK_MODEL) clock_attach(device, &clock, device_model(config->device_model));
    return device;
}

static double product_seconds(const real *a, const real *b, real *c, int n) {
    double began = now_seconds();
#ifdef REAL_DOUBLE
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, c, n);
#else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, c, n);
#endif
    return now_seconds() - began;
}

/* The matrices grow until a product takes LONG_ENOUGH, so that a slow or emulated machine does not wait. */
double machine_peak_gflops(const Device *device) {
    enum { SMALLEST = 256, LARGEST = 2048, TRIES = 5 };
    const double LONG_ENOUGH = 0.1;
    size_t bytes = sizeof(real[LARGEST]) * LARGEST;
    real *a = xmalloc(bytes), *b = xmalloc(bytes), *c = xmalloc(bytes);
    rng_fill_uniform(1, 1, 0, (int64_t)LARGEST * LARGEST, -1, 1, a);
    rng_fill_uniform(1, 2, 0, (int64_t)LARGEST * LARGEST, -1, 1, b);
    openblas_set_num_threads(device->queue.threads);
    int n = SMALLEST;
    while (n < LARGEST && product_seconds(a, b, c, n) < LONG_ENOUGH) n *= 2;
    double best = INFINITY;
    for (int i = 0; i < TRIES; i++) best = fmin(best, product_seconds(a, b, c, n));
    openblas_set_num_threads(1);
    free(a);
    free(b);
    free(c);
    return 2e-9 * n * n * n / best;
}

const char *machine_blas_kernels(void) { return openblas_get_corename(); }

char *machine_blas_hint(void) {
    static const char *const wide[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    const char *forced = getenv("OPENBLAS_CORETYPE"), *kernels = machine_blas_kernels();
    if (forced && *forced)
        return xprintf("OPENBLAS_CORETYPE=%s chose these kernels: without it OpenBLAS chooses", forced);
    for (int i = 0; i < COUNT_OF(wide); i++)
        if (strcmp(kernels, wide[i]) == 0) return NULL;
    if (!platform_has_avx512()) return NULL;
    return xstrdup("this CPU has AVX-512: try OPENBLAS_CORETYPE=SkylakeX, whose kernels use it");
}

void machine_refuse_many_processes(void) {
    static const char *const sizes[] = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        const char *value = getenv(sizes[i]);
        CHECK_USAGE(!value || atoi(value) <= 1, "run it without mpiexec",
                    "this program uses one device, but %s processes of it were started", value);
    }
}
