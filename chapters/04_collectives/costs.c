#include "chapters/04_collectives/costs.h"

#include "chapters/04_collectives/ring.h"
#include "common/comm/clock.h"
#include "common/draw/plots.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- the methods ---- */

/* count: elements of the larger buffer, which n divides */
typedef void Run(Comm *comm, Queue *q, const void *in, void *out, void *scratch, int64_t count);

#define RUN(name, call)                                                                                      \
    static void name(Comm *comm, Queue *q, const void *in, void *out, void *scratch, int64_t count) {        \
        (void)in, (void)scratch;                                                                             \
        call;                                                                                                \
    }
RUN(all_reduce, comm_all_reduce(comm, q, in, out, count, TYPE_REAL, REDUCE_SUM))
RUN(all_gather, comm_all_gather(comm, q, in, out, count / comm->size, TYPE_REAL))
RUN(reduce_scatter, comm_reduce_scatter(comm, q, in, out, count / comm->size, TYPE_REAL, REDUCE_SUM))
RUN(all_to_all, comm_all_to_all(comm, q, in, out, count / comm->size, TYPE_REAL))
RUN(own_ring, ring_all_reduce(comm, q, out, scratch, count, TYPE_REAL))
RUN(own_tree, tree_all_reduce(comm, q, out, scratch, count, TYPE_REAL))

static const struct {
    const char *name, *key;
    Run *run;
    enum { WHOLE_RING, HALF_RING, WHOLE_TREE } way;
} methods[METHODS] = {
    {"all-reduce", "all_reduce", all_reduce, WHOLE_RING},
    {"own ring", "own_ring", own_ring, WHOLE_RING},
    {"own tree", "own_tree", own_tree, WHOLE_TREE},
    {"all-gather", "all_gather", all_gather, HALF_RING},
    {"reduce-scatter", "reduce_scatter", reduce_scatter, HALF_RING},
    {"all-to-all", "all_to_all", all_to_all, HALF_RING},
};
enum { ALL_REDUCES = 3 }; /* the first three do the same */

/* t = steps alpha + share S / W */
static double steps_of(int method, int n) {
    if (methods[method].way == WHOLE_TREE) return tree_depth(n);
    return methods[method].way == WHOLE_RING ? 2.0 * (n - 1) : n - 1.0;
}

static double share_of(int method, int n) {
    return methods[method].way == WHOLE_TREE ? tree_depth(n) : steps_of(method, n) / n;
}

/* Bus bandwidth = S / t times this: what each link must carry at least, whatever the method (NCCL's tests define it). */
static double bus_factor(int method, int n) {
    return (methods[method].way == HALF_RING ? 1.0 : 2.0) * (n - 1) / n;
}

static double predicted(const Costs *costs, int method, double bytes) {
    const Fit *fit = &costs->fit[method];
    return steps_of(method, costs->n) * fit->alpha + share_of(method, costs->n) * bytes / fit->W;
}

/* ---- measuring ---- */

/* Zeros on this device: in, out and scratch. */
enum { BUFFERS = 3 };
static void buffers_new(const Lesson *lesson, int64_t count, Tensor buffers[BUFFERS]) {
    real *zeros = xcalloc((size_t)count, sizeof *zeros);
    for (int i = 0; i < BUFFERS; i++) {
        buffers[i] = tensor_new(lesson->device, MEMORY_COMMUNICATION, "message", TYPE_REAL, SHAPE(count));
        tensor_write(&buffers[i], 0, count, zeros);
    }
    free(zeros);
}

/* Seconds of one call, on the device where it takes longest. Small calls are repeated. */
static double time_calls(const Lesson *lesson, int method, const Tensor buffers[BUFFERS], int64_t count) {
    Queue *q = &lesson->device->queue;
    int calls = (int)max64(min64((64 << 10) / count, 20), 1);
    comm_barrier(lesson->console, q);
    double began = queue_now(q);
    for (int i = 0; i < calls; i++)
        methods[method].run(lesson->world, q, buffers[0].data, buffers[1].data, buffers[2].data, count);
    device_sync(lesson->device, q); /* a GPU is given its work, and does it later */
    return lesson_largest(lesson, queue_now(q) - began) / calls;
}

Costs costs_measure(const Lesson *lesson, int64_t largest, int tries) {
    enum { SMALLEST = 1 << 10, TIMES = 4 };
    int n = lesson->world->size;
    Costs costs = {.n = n};
    Tensor buffers[BUFFERS];
    buffers_new(lesson, largest / (int64_t)sizeof(real) + n, buffers);
    double *seconds = xmalloc((size_t)tries * sizeof *seconds);
    for (int64_t bytes = SMALLEST; bytes <= largest && costs.sizes < COST_SIZES; bytes *= TIMES) {
        int64_t count = ceil_div(bytes / (int64_t)sizeof(real), n) * n; /* n divides it */
        int s = costs.sizes++;
        costs.bytes[s] = count * (int64_t)sizeof(real);
        for (int m = 0; m < METHODS; m++) {
            time_calls(lesson, m, buffers, count); /* warms up */
            for (int t = 0; t < tries; t++) seconds[t] = time_calls(lesson, m, buffers, count);
            costs.seconds[m][s] = lesson_median(seconds, tries);
        }
    }
    for (int m = 0; m < METHODS; m++)
        costs.fit[m] = costs_fit(steps_of(m, n), share_of(m, n), costs.sizes, costs.bytes, costs.seconds[m]);
    for (int i = 0; i < BUFFERS; i++) tensor_free(&buffers[i]);
    free(seconds);
    return costs;
}

/* ---- the fit: t = a + b S, the sum of ((a + b S - t) / t)^2 as small as can be ---- */

Fit costs_fit(double steps, double share, int count, const int64_t *bytes, const double *seconds) {
    double w = 0, ws = 0, wss = 0, wt = 0, wst = 0; /* sums of weights, weights x S, ... */
    for (int i = 0; i < count; i++) {
        double s = (double)bytes[i], t = seconds[i], weight = 1 / (t * t);
        if (!(t > 0)) return (Fit){0, INFINITY}; /* free messages: a model's */
        w += weight;
        ws += weight * s;
        wss += weight * s * s;
        wt += weight * t;
        wst += weight * s * t;
    }
    double determinant = w * wss - ws * ws;
    double a = (wss * wt - ws * wst) / determinant, b = (w * wst - ws * wt) / determinant;
    if (!(a >= 0)) a = 0, b = wst / wss; /* noise: the best line through 0, or the best constant */
    if (!(b >= 0)) a = wt / w, b = 0;
    return (Fit){a / steps, share / b};
}

/* ---- shown ---- */

static void print_size(int64_t bytes) { printf("%12" PRId64, bytes); }

void costs_print(const Costs *costs, const DeviceModel *model) {
    int n = costs->n;
    if (model)
        printf("the clock's links inside a node: alpha %.4g us, W %.4g GB/s\n", 1e6 * model->inside.latency,
               1e-9 * model->inside.bandwidth);
    printf("fitted: t = steps alpha + share S / W\n%-16s %6s %6s %12s %10s\n", "", "steps", "share",
           "alpha us", "W GB/s");
    for (int m = 0; m < METHODS; m++)
        printf("%-16s %6.0f %6.3g %12.4g %10.4g\n", methods[m].name, steps_of(m, n), share_of(m, n),
               1e6 * costs->fit[m].alpha, 1e-9 * costs->fit[m].W);

    printf("\n%12s", "ms");
    for (int m = 0; m < ALL_REDUCES; m++) printf("   %-27s", methods[m].name);
    printf("\n%12s", "S bytes");
    for (int m = 0; m < ALL_REDUCES; m++) printf("  %9s %9s %7s", "predicted", "measured", "ratio");
    for (int s = 0; s < costs->sizes; s++) {
        printf("\n");
        print_size(costs->bytes[s]);
        for (int m = 0; m < ALL_REDUCES; m++) {
            double p = predicted(costs, m, (double)costs->bytes[s]), t = costs->seconds[m][s];
            printf("  %9.4g %9.4g %7.3f", 1e3 * p, 1e3 * t, t == p ? 1 : t / p);
        }
    }
    printf(
        "\n\nbus bandwidth, GB/s: S / t, times 2 (n-1)/n for the all-reduces, (n-1)/n for the others\n%12s",
        "S bytes");
    for (int m = 0; m < METHODS; m++) printf(" %14s", methods[m].name);
    for (int s = 0; s < costs->sizes; s++) {
        printf("\n");
        print_size(costs->bytes[s]);
        for (int m = 0; m < METHODS; m++)
            printf(" %14.4g", 1e-9 * bus_factor(m, n) * (double)costs->bytes[s] / costs->seconds[m][s]);
    }
    printf("\n");
}

/* ---- drawn ---- */

enum { CURVE = 60 }; /* points of a model's curve */

static void draw_times(const Lesson *lesson, const Costs *costs) {
    static double x[COST_SIZES], measured[ALL_REDUCES][COST_SIZES], curve_x[CURVE], curve[ALL_REDUCES][CURVE];
    static char labels[ALL_REDUCES][64];
    PlotSeries series[2 * ALL_REDUCES];
    double low = (double)costs->bytes[0] / 1024, high = (double)costs->bytes[costs->sizes - 1] / 1024;
    double ends =
        1.4; /* the curves reach a little further than the points, which so lie inside the picture */
    low /= ends, high *= ends;
    for (int i = 0; i < CURVE; i++) curve_x[i] = low * pow(high / low, (double)i / (CURVE - 1));
    for (int s = 0; s < costs->sizes; s++) x[s] = (double)costs->bytes[s] / 1024;
    for (int m = 0; m < ALL_REDUCES; m++) {
        for (int s = 0; s < costs->sizes; s++) measured[m][s] = 1e3 * costs->seconds[m][s];
        for (int i = 0; i < CURVE; i++) curve[m][i] = 1e3 * predicted(costs, m, 1024 * curve_x[i]);
        snprintf(labels[m], sizeof labels[m], "%s", m ? methods[m].name : "the library's");
        series[2 * m] = (PlotSeries){.label = labels[m],
                                     .x = x,
                                     .y = measured[m],
                                     .count = costs->sizes,
                                     .style = PLOT_POINTS,
                                     .color = m + 1};
        series[2 * m + 1] =
            (PlotSeries){.x = curve_x, .y = curve[m], .count = CURVE, .style = PLOT_DASHED, .color = m + 1};
    }
    char *title =
        xprintf("All-reduce on %d devices: measured (points) and steps α + share S/W (dashed)", costs->n);
    Plot plot = {.title = title,
                 .x_label = "S, the size of what is whole, in KB",
                 .y_label = "milliseconds",
                 .log_x = true,
                 .log_y = true,
                 .series = series,
                 .series_count = COUNT_OF(series)};
    char *path = lesson_path(lesson, "costs.png");
    plot_draw(&plot, path);
    free(path);
    free(title);
}

static void draw_bandwidth(const Lesson *lesson, const Costs *costs) {
    static double x[COST_SIZES], y[METHODS][COST_SIZES];
    PlotSeries series[METHODS];
    for (int s = 0; s < costs->sizes; s++) x[s] = (double)costs->bytes[s] / 1024;
    for (int m = 0; m < METHODS; m++) {
        for (int s = 0; s < costs->sizes; s++)
            y[m][s] = 1e-9 * bus_factor(m, costs->n) * (double)costs->bytes[s] / costs->seconds[m][s];
        series[m] = (PlotSeries){
            .label = methods[m].name, .x = x, .y = y[m], .count = costs->sizes, .style = PLOT_LINE_POINTS};
    }
    char *title = xprintf("Bus bandwidth on %d devices, by size", costs->n);
    Plot plot = {.title = title,
                 .x_label = "S, the size of what is whole, in KB",
                 .y_label = "GB/s",
                 .log_x = true,
                 .log_y = true,
                 .series = series,
                 .series_count = METHODS};
    char *path = lesson_path(lesson, "bandwidth.png");
    plot_draw(&plot, path);
    free(path);
    free(title);
}

void costs_draw(const Lesson *lesson, const Costs *costs) {
    draw_times(lesson, costs);
    draw_bandwidth(lesson, costs);
}

static json_t *number_or_null(double x) {
    json_t *number = json_real(x); /* NULL where it is not finite */
    return number ? number : json_null();
}

json_t *costs_json(const Costs *costs) {
    json_t *all = json_object();
    for (int m = 0; m < METHODS; m++) {
        json_t *bytes = json_array(), *seconds = json_array();
        for (int s = 0; s < costs->sizes; s++) {
            json_array_append_new(bytes, json_integer(costs->bytes[s]));
            json_array_append_new(seconds, json_real(costs->seconds[m][s]));
        }
        json_object_set_new(all, methods[m].key,
                            json_pack("{s:f, s:o, s:o, s:o}", "alpha_s", costs->fit[m].alpha, "bytes_per_s",
                                      number_or_null(costs->fit[m].W), "bytes", bytes, "seconds", seconds));
    }
    return all;
}
