#include "chapters/03_performance/bandwidth.h"

#include "common/base/size_text.h"
#include "common/draw/plots.h"
#include "common/run/machine.h"
#include "common/tensor/kernels.h"

#include <math.h>
#include <stdlib.h>

/* ---- the two loops of McCalpin's STREAM (1995) that count here ---- */

typedef void (*Loop)(int64_t count, const real *a, const real *b, real *c);

static void copy(int64_t count, const real *a, const real *b, real *c) {
    (void)b;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) c[i] = a[i];
}

static void triad(int64_t count, const real *a, const real *b, real *c) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) c[i] = a[i] + (real)3 * b[i];
}

/* An array whose pages lie near the thread that uses it. */
static real *array_new(int64_t count) {
    real *a = xmalloc((size_t)max64(count, 1) * sizeof *a);
    for (int64_t i = 0; i < count; i++) a[i] = 1;
    return a;
}

/* Bytes per second of all threads together, each in arrays of its own, over and over: the best of a few
 * tries. Counted are the bytes that the loop reads and writes, as STREAM counts; that a cache line which is
 * written may have to be read first is not. */
static double measure(Loop loop, int arrays, int64_t bytes, int threads) {
    enum { TRIES = 5 };
    const double LONG_ENOUGH = 0.01;
    int64_t count = bytes / arrays / threads / (int64_t)sizeof(real), times = 1;
    double best = INFINITY, longest = 0;
#pragma omp parallel num_threads(threads)
    {
        real *a = array_new(count), *b = array_new(count), *c = array_new(count);
        for (int tries = 0; tries < TRIES;) {
#pragma omp barrier
            double began = now_seconds();
            for (int64_t i = 0; i < times; i++) loop(count, a, b, c);
            double seconds = now_seconds() - began;
#pragma omp critical
            longest = fmax(longest, seconds);
#pragma omp barrier
            tries += longest >= LONG_ENOUGH;
#pragma omp barrier
#pragma omp single
            {
                if (longest < LONG_ENOUGH)
                    times *= 2;
                else
                    best = fmin(best, longest / (double)times);
                longest = 0;
            }
        }
        free(a);
        free(b);
        free(c);
    }
    return (double)(count * arrays * threads) * sizeof(real) / best;
}

/* ---- the same by kernels of a GPU ---- */

/* y = a, or y = a + b; so often. */
static double gpu_seconds(Device *device, Tensor *t, int arrays, int64_t times) {
    device_sync(device, &device->queue);
    double began = now_seconds();
    for (int64_t i = 0; i < times; i++)
        if (arrays == 2)
            device->kernels->copy(&device->queue, &t[0], &t[1]);
        else
            device->kernels->add(&device->queue, &t[0], &t[1], &t[2]);
    device_sync(device, &device->queue);
    return now_seconds() - began;
}

/* Bytes per second; 0: there is no memory for it. */
static double measure_gpu(Device *device, int arrays, int64_t bytes) {
    enum { MOST = 3, TRIES = 5, ROW = 1024 };
    const double LONG_ENOUGH = 0.01;
    int64_t rows = bytes / arrays / (ROW * (int64_t)sizeof(real)), each = rows * ROW * (int64_t)sizeof(real);
    char *block = device->backend->take(arrays * each); /* in no class: the model has none of it */
    if (!block) return 0;
    Tensor t[MOST];
    for (int i = 0; i < arrays; i++) {
        t[i] = (Tensor){.device = device,
                        .name = "bandwidth",
                        .type = TYPE_REAL,
                        .data = block + i * each,
                        .shape = SHAPE(rows, ROW)};
        device->kernels->zero(&device->queue, &t[i]);
    }
    double best = INFINITY;
    int64_t times = 1;
    for (int tries = 0; tries < TRIES;) {
        double seconds = gpu_seconds(device, t, arrays, times);
        if (seconds < LONG_ENOUGH) {
            times *= 2;
            continue;
        }
        best = fmin(best, seconds / (double)times);
        tries++;
    }
    device->backend->give_back(block, arrays * each);
    return (double)(arrays * each) / best;
}

/* ---- all of it ---- */

Machine machine_measure(Device *device, ElementType type) {
    enum { SMALLEST = 128 << 10, STEP = 4 };
    const double TOO_LONG = 0.02; /* seconds for what is in use: more of it would tell nothing new */
    int threads = device->queue.threads;
    bool gpu = device->backend->apart;
    Machine m = {.device = device, .peak = 1e9 * machine_peak_gflops(device, type)};
    for (int64_t bytes = SMALLEST; m.sizes < BANDWIDTH_SIZES; bytes *= STEP) {
        double copied = gpu ? measure_gpu(device, 2, bytes) : measure(copy, 2, bytes, threads),
               triads = gpu ? measure_gpu(device, 3, bytes) : measure(triad, 3, bytes, threads);
        if (copied == 0 || triads == 0) break;
        m.bytes[m.sizes] = bytes;
        m.copy[m.sizes] = copied;
        m.triad[m.sizes++] = triads;
        if (gpu && (double)bytes / fmin(copied, triads) > TOO_LONG) break;
    }
    CHECK(m.sizes > 0, "take a smaller model", "no memory of the device is left to measure its speed");
    return m;
}

double machine_bandwidth(const Machine *m, int64_t bytes) {
    int i = 0;
    while (i < m->sizes - 1 && m->bytes[i] < bytes) i++;
    double best = 0; /* a noisy moment must not make a smaller size slower than a larger one */
    for (; i < m->sizes; i++) best = fmax(best, fmax(m->copy[i], m->triad[i]));
    return best;
}

double machine_memory_bandwidth(const Machine *m) { return machine_bandwidth(m, INT64_MAX); }

double machine_roof(const void *machine, Cost cost) {
    const Machine *m = machine;
    return fmax((double)cost_flops(cost) / m->peak, (double)cost.bytes / machine_bandwidth(m, cost.bytes));
}

/* ---- shown ---- */

void machine_print(const Machine *m) {
    int threads = m->device->queue.threads;
    bool gpu = m->device->backend->apart;
    char *gpu_text = gpu ? m->device->backend->describe() : NULL;
    if (gpu)
        printf("matrix product    %.0f GFLOP/s on %s\n", 1e-9 * m->peak, gpu_text);
    else
        printf("matrix product    %.0f GFLOP/s on %d thread%s, OpenBLAS kernels for %s\n", 1e-9 * m->peak,
               threads, threads > 1 ? "s" : "", machine_blas_kernels());
    free(gpu_text);
    printf("%-17s %9s %9s   GB/s\n", "bandwidth over", "copy", gpu ? "sum" : "triad");
    for (int i = 0; i < m->sizes; i++)
        printf("  %11s     %9.1f %9.1f\n", size_text((double)m->bytes[i]).text, 1e-9 * m->copy[i],
               1e-9 * m->triad[i]);
    double memory = machine_memory_bandwidth(m);
    printf("a kernel keeps up with memory (%.1f GB/s) when it does %.1f FLOPs with each byte\n",
           1e-9 * memory, m->peak / memory);
}

void machine_draw(const Machine *m, const char *path) {
    double megabytes[BANDWIDTH_SIZES], copied[BANDWIDTH_SIZES], triads[BANDWIDTH_SIZES];
    for (int i = 0; i < m->sizes; i++) {
        megabytes[i] = 1e-6 * (double)m->bytes[i];
        copied[i] = 1e-9 * m->copy[i];
        triads[i] = 1e-9 * m->triad[i];
    }
    PlotSeries series[] = {
        {.label = "copy", .x = megabytes, .y = copied, .count = m->sizes, .style = PLOT_LINE_POINTS},
        {.label = m->device->backend->apart ? "sum" : "triad",
         .x = megabytes,
         .y = triads,
         .count = m->sizes,
         .style = PLOT_LINE_POINTS},
    };
    Plot plot = {.title = "How fast data come, by how much of it is in use",
                 .x_label = "MB in use",
                 .y_label = "GB/s",
                 .log_x = true,
                 .log_y = true,
                 .series = series,
                 .series_count = COUNT_OF(series)};
    plot_draw(&plot, path);
}
