#include "common/cpu/device_cpu.h"
#include "common/cuda/device_cuda.h"
#include "common/run/machine.h"

#include "common/comm/clock.h"
#include "common/base/platform.h"
#include "common/base/bf16.h"
#include "common/base/rng.h"
#include "common/tensor/kernels.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef OPENBLAS_ABSENT
enum { HAS_OPENBLAS = 0 };
#else
enum { HAS_OPENBLAS = 1 };
#endif

/* Processes that share take the GPUs in turn. */
static int gpu_number(const Config *config) {
    int number = platform_process_number(), count = config->share_gpu ? device_cuda_count() : 0;
    return count > 0 ? number % count : number;
}

Device *machine_clock_device(const Config *config, int64_t budget, Clock *clock, const DeviceModel *model) {
    Device *device =
        config->device == DEVICE_CUDA ? device_new_cuda(gpu_number(config), budget) : device_new_cpu(budget);
    device->queue.openblas = config->gemm == GEMM_OPENBLAS;
    if (model) clock_attach(device, clock, model);
    return device;
}

Device *machine_device(const Config *config) {
    static Clock clock; /* a process is one device */
    bool by_model = config->clock == CLOCK_MODEL;
    return machine_clock_device(config, config->device_memory, &clock,
                                by_model ? device_model(config->device_model) : NULL);
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
static double cpu_peak_gflops(const Device *device) {
    if (!HAS_OPENBLAS) return 0;
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

/* Elements between -1 and 1, row by row the same: what a product takes depends on them a little. */
static void fill_random(Tensor *t, int which) {
    int64_t n = t->shape.size[1];
    real *row = xmalloc((size_t)n * sizeof *row);
    void *elements = row;
    rng_fill_uniform(1, (uint64_t)which + 1, 0, n, -1, 1, row);
    for (int64_t i = 0; t->type == TYPE_BF16 && i < n; i++)
        ((Bf16 *)elements)[i] = bf16_from_float((float)row[i]);
    for (int64_t r = 0; r < n; r++) tensor_write(t, r * n, n, elements);
    free(row);
}

/* a, b, c (n,n), of which a and b hold random numbers: the second of two products. */
static double gpu_product_seconds(Device *device, const Tensor *a, const Tensor *b, Tensor *c) {
    double began = 0;
    for (int i = 0; i < 2; i++) {
        device_sync(device, &device->queue);
        began = now_seconds();
        device->kernels->matmul(&device->queue, a, false, b, false, NULL, c, false);
    }
    device_sync(device, &device->queue);
    return now_seconds() - began;
}

/* Its best product of n x n; 0: there is no memory for it. */
static double gpu_best_seconds(Device *device, ElementType type, int64_t n) {
    enum { MATRICES = 3, TRIES = 5 };
    int64_t bytes = n * n * element_bytes(type);
    char *block = device->backend->take(MATRICES * bytes);
    if (!block) return 0;
    Tensor t[MATRICES];
    for (int i = 0; i < MATRICES; i++) {
        t[i] = (Tensor){.device = device,
                        .name = "product",
                        .type = type,
                        .data = block + i * bytes,
                        .shape = SHAPE(n, n)};
        fill_random(&t[i], i);
    }
    double best = INFINITY;
    for (int i = 0; i < TRIES; i++) best = fmin(best, gpu_product_seconds(device, &t[0], &t[1], &t[2]));
    device->backend->give_back(block, MATRICES * bytes);
    return best;
}

static double gpu_peak_gflops(Device *device, ElementType type) {
    enum { SMALLEST = 2048, LARGEST = 8192 };
    const double LONG_ENOUGH = 0.02;
    double peak = 0;
    for (int64_t n = SMALLEST; n <= LARGEST; n *= 2) {
        double seconds = gpu_best_seconds(device, type, n);
        if (seconds > 0) peak = fmax(peak, 2e-9 * (double)n * (double)n * (double)n / seconds);
        if (seconds == 0 || seconds > LONG_ENOUGH) break;
    }
    return peak;
}

double machine_peak_gflops(Device *device, ElementType type) {
    return device->backend->apart ? gpu_peak_gflops(device, type) : cpu_peak_gflops(device);
}

char *machine_device_text(const Config *config, const Device *device) {
    int threads = device->queue.threads;
    if (device->backend->describe) return device->backend->describe();
    return xprintf("%d CPU thread%s, products %s; OpenBLAS kernels for %s", threads, threads > 1 ? "s" : "",
                   config->gemm == GEMM_OWN ? "our own" : "by OpenBLAS", machine_blas_kernels());
}

const char *machine_blas_kernels(void) { return openblas_get_corename(); }

char *machine_blas_hint(void) {
    static const char *const wide[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    const char *forced = getenv("OPENBLAS_CORETYPE"), *kernels = machine_blas_kernels();
    if (forced && *forced)
        return xprintf("OPENBLAS_CORETYPE=%s chose these kernels: without it OpenBLAS chooses", forced);
    for (int i = 0; i < COUNT_OF(wide); i++)
        if (strcmp(kernels, wide[i]) == 0) return NULL;
    if (!HAS_OPENBLAS || !platform_has_avx512()) return NULL;
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
