#include "common/machine.h"

#include "common/rng.h"

#include <cblas.h>
#include <stdlib.h>

double machine_peak_gflops(const Device *device) {
    enum { N = 2048, TRIES = 5 };
    size_t bytes = (size_t)N * N * sizeof(real);
    real *a = xmalloc(bytes), *b = xmalloc(bytes), *c = xmalloc(bytes);
    rng_fill_uniform(1, 1, 0, (int64_t)N * N, -1, 1, a);
    rng_fill_uniform(1, 2, 0, (int64_t)N * N, -1, 1, b);
    openblas_set_num_threads(device->queue.threads);
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double began = now_seconds();
#ifdef REAL_DOUBLE
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, N, N, N, 1, a, N, b, N, 0, c, N);
#else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, N, N, N, 1, a, N, b, N, 0, c, N);
#endif
        double gflops = 2e-9 * N * N * N / (now_seconds() - began);
        best = gflops > best ? gflops : best;
    }
    openblas_set_num_threads(1);
    free(a);
    free(b);
    free(c);
    return best;
}

const char *machine_blas_kernels(void) { return openblas_get_corename(); }

void machine_refuse_many_processes(void) {
    static const char *const sizes[] = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        const char *value = getenv(sizes[i]);
        CHECK_USAGE(!value || atoi(value) <= 1, "run it without mpiexec",
                    "this program uses one device, but %s processes of it were started", value);
    }
}
