#include "chapters/03_performance/sweep.h"

#include "common/base/size_text.h"
#include "common/base/interrupt.h"
#include "common/run/machine.h"
#include "common/draw/plots.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the batch ---- */

static const int64_t WINDOWS[] = {8, 16, 32, 64, 128, 256};
enum { BATCHES = COUNT_OF(WINDOWS) };

/* One way to cut the batch; NAN where a point was left out. */
typedef struct {
    double windows[BATCHES], step[BATCHES], tokens_per_s[BATCHES], window_ms[BATCHES], peak_bytes[BATCHES];
} Curve;

/* Half of the computer's memory, or the budget. */
static double memory_limit(const Config *c) {
    double half = 0.5 * (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return c->device_memory ? fmin(half, (double)c->device_memory) : half;
}

/* Fills in point i of the curve, unless it would take too long or too much, judged by the point before. */
static void measure_point(const Config *c, Dataset *data, double seconds, Curve *curve, int i,
                          int64_t micro_batch) {
    int64_t windows = ceil_div(WINDOWS[i], micro_batch) * micro_batch;
    double more = i ? (double)windows / curve->windows[i - 1] : 1;
    curve->windows[i] = (double)windows;
    curve->step[i] = curve->tokens_per_s[i] = curve->window_ms[i] = curve->peak_bytes[i] = NAN;
    if (interrupt_requested()) return;
    if (i && !(more * curve->step[i - 1] <= 2 * seconds)) return;
    if (i && micro_batch == windows && !(more * curve->peak_bytes[i - 1] <= memory_limit(c))) return;

    Subject subject = subject_new(c, data);
    Timed timed = timed_new(&subject, micro_batch, windows / micro_batch);
    timed_step(&timed); /* warms up: memory comes into being when it is first touched */
    curve->step[i] = timed_median(&timed, seconds);
    curve->tokens_per_s[i] = (double)timed_tokens(&timed) / curve->step[i];
    curve->window_ms[i] = 1e3 * curve->step[i] / (double)windows;
    curve->peak_bytes[i] = (double)subject.device->memory.joint_peak;
    timed_free(&timed);
    subject_free(&subject);
}

static void print_point(const Curve *curve, int i, double flops_per_token, double peak) {
    if (isnan(curve->step[i]))
        printf(" %35s", "left out");
    else
        printf(" %9.0f %8.2f %7.1f %8s", curve->tokens_per_s[i], curve->window_ms[i],
               100 * flops_per_token * curve->tokens_per_s[i] / peak, size_text(curve->peak_bytes[i]).text);
}

/* The line step = window * windows + update that is nearest to the measured steps (least squares of the
 * relative error, so that each point counts alike). */
static void fit(const Curve *curve, double *window, double *update) {
    double sx = 0, sxx = 0, s = 0, sy = 0, sxy = 0;
    for (int i = 0; i < BATCHES; i++) {
        if (isnan(curve->step[i])) continue;
        double x = curve->windows[i], y = curve->step[i], weight = 1 / (y * y);
        s += weight, sx += weight * x, sxx += weight * x * x, sy += weight * y, sxy += weight * x * y;
    }
    *window = (s * sxy - sx * sy) / (s * sxx - sx * sx);
    *update = (sy - *window * sx) / s;
}

static void draw_batch(const Config *c, const Curve curves[2], const char *labels[2], bool time) {
    PlotSeries series[2];
    for (int i = 0; i < 2; i++)
        series[i] = (PlotSeries){.label = labels[i],
                                 .x = curves[i].windows,
                                 .y = time ? curves[i].window_ms : curves[i].tokens_per_s,
                                 .count = BATCHES,
                                 .style = PLOT_LINE_POINTS};
    Plot plot = {.title = time ? "Time for each window" : "Throughput by batch",
                 .x_label = "windows in a step",
                 .y_label = time ? "milliseconds a window" : "tokens/s",
                 .log_x = true,
                 .y_from_zero = true,
                 .series = series,
                 .series_count = 2};
    char *path = xprintf("%s/%s.png", c->output_dir, time ? "batch_time" : "batch");
    plot_draw(&plot, path);
    free(path);
}

void sweep_batch(const Config *c, Dataset *data, double peak, double seconds) {
    Curve curves[2];
    Subject subject = subject_new(c, data);
    double flops = model_flops_per_token(subject.model), window, update;
    subject_free(&subject);
    char *cut = xprintf("in micro-batches of %" PRId64, c->micro_batch);
    const char *labels[] = {cut, "in one micro-batch"};
    printf("%7s %35s %35s\n", "", labels[0], labels[1]);
    printf("%7s", "windows");
    for (int i = 0; i < 2; i++) printf(" %9s %8s %7s %8s", "tokens/s", "ms each", "MFU %", "peak");
    printf("\n");
    for (int i = 0; i < BATCHES; i++) {
        printf("%7" PRId64, WINDOWS[i]);
        measure_point(c, data, seconds, &curves[0], i, min64(c->micro_batch, WINDOWS[i]));
        print_point(&curves[0], i, flops, peak);
        fflush(stdout);
        measure_point(c, data, seconds, &curves[1], i, WINDOWS[i]);
        print_point(&curves[1], i, flops, peak);
        printf("\n");
        fflush(stdout);
    }
    fit(&curves[0], &window, &update);
    if (window > 0 && update > 0) /* a busy machine can bend the line beyond use */
        printf("%s a step takes %.2f ms for each window and %.2f ms once\n", cut, 1e3 * window, 1e3 * update);
    draw_batch(c, curves, labels, false);
    draw_batch(c, curves, labels, true);
    free(cut);
}

/* ---- threads ---- */

void sweep_threads(const Config *c, Dataset *data, double seconds) {
    enum { MOST = 16 };
    double threads[MOST], tokens_per_s[MOST], ideal[MOST];
    int count = 0, all = omp_get_max_threads();
    printf("%7s %13s %9s %8s %9s %7s\n", "threads", "GFLOP/s SGEMM", "tokens/s", "times", "of ideal",
           "MFU %");
    for (int n = 1; n <= all && !interrupt_requested(); n = n < all && 2 * n > all ? all : 2 * n) {
        Subject subject = subject_new(c, data);
        subject.device->queue.threads = n;
        omp_set_num_threads(n);
        Timed timed = timed_new(&subject, c->micro_batch, c->num_microbatches);
        timed_step(&timed);
        threads[count] = n;
        tokens_per_s[count] = (double)timed_tokens(&timed) / timed_median(&timed, seconds);
        ideal[count] = n * tokens_per_s[0];
        double peak = machine_peak_gflops(subject.device, TYPE_REAL);
        printf("%7d %13.0f %9.0f %8.2f %8.0f%% %7.1f\n", n, peak, tokens_per_s[count],
               tokens_per_s[count] / tokens_per_s[0], 100 * tokens_per_s[count] / ideal[count],
               1e-7 * model_flops_per_token(subject.model) * tokens_per_s[count] / peak);
        fflush(stdout);
        count++;
        timed_free(&timed);
        subject_free(&subject);
    }
    omp_set_num_threads(all);
    PlotSeries series[] = {
        {.label = "measured", .x = threads, .y = tokens_per_s, .count = count, .style = PLOT_LINE_POINTS},
        {.label = "ideal", .x = threads, .y = ideal, .count = count, .style = PLOT_DASHED, .color = 7}};
    Plot plot = {.title = "Throughput by threads",
                 .x_label = "threads",
                 .y_label = "tokens/s",
                 .y_from_zero = true,
                 .series = series,
                 .series_count = 2};
    char *path = xprintf("%s/threads.png", c->output_dir);
    plot_draw(&plot, path);
    free(path);
}
