#include "chapters/05_data_parallel/scaling.h"

#include "chapters/05_data_parallel/replica.h"
#include "common/comm/clock.h"
#include "common/run/machine.h"
#include "common/draw/plots.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- one step by the clock of a model ---- */

typedef struct {
    double step, backward; /* seconds: of the step; of the kernels of backward, in all micro-batches */
    double
        exposed; /* from the last gradient to the end of the last all-reduce: what backward does not hide */
    double predicted; /* that, by the recurrence below */
    int buckets;
    double bytes; /* of the gradients */
    double matmul_parameters;
} Point;

/* When backward had formed the last gradient. */
static double last_gradient(const DataParallel *dp) {
    double last = 0;
    for (int k = 0; k < data_parallel_buckets(dp); k++) last = fmax(last, data_parallel_times(dp, k).ready);
    return last;
}

/* end_k = max(ready_k, end_(k-1)) + what an all-reduce of bucket k costs; without overlap all are ready at the end. */
static double predict_exposed(const DataParallel *dp, const Comm *comm, const DeviceModel *model,
                              Overlap overlap) {
    double end = 0, last = last_gradient(dp);
    for (int k = 0; k < data_parallel_buckets(dp); k++) {
        BucketTimes t = data_parallel_times(dp, k);
        double n = comm->size, S = (double)t.bytes; /* the groups of a sweep lie within a node */
        end = fmax(overlap == OVERLAP_BACKWARD ? t.ready : last, end) + 2 * (n - 1) * model->inside.latency +
              2 * (n - 1) / n * S / model->inside.bandwidth;
    }
    return end - last;
}

/* A step of `windows` windows on each device of comm, in one micro-batch. Every rank of comm calls it. */
static Point measure(const Config *config, Comm *comm, Dataset *data, int64_t windows) {
    Config c = *config;
    c.data_parallel = comm->size;
    c.num_microbatches = 1;
    c.micro_batch = windows;
    c.global_batch = windows * comm->size;
    Clock clock;
    Device *device = machine_clock_device(&c, c.device_memory, &clock, device_model(c.device_model));
    Replica *r = replica_new(&c, comm, device, data);
    r->profile = profile_new(device, NULL, NULL, NULL, NULL);
    MetricsRow row;
    double began = clock.now;
    profile_step_begin(r->profile, 1);
    replica_step(r, 0, &row);
    profile_step_end(r->profile);
    int buckets = data_parallel_buckets(r->dp);
    Point p = {.step = clock.now - began,
               .backward = profile_seconds(r->profile, PHASE_BACKWARD),
               .exposed = data_parallel_times(r->dp, buckets - 1).done - last_gradient(r->dp),
               .predicted = predict_exposed(r->dp, comm, clock.model, c.overlap),
               .buckets = buckets,
               .bytes = (double)data_parallel_bytes(r->dp),
               .matmul_parameters = (double)params_matmul_count(&r->model->params)};
    profile_delete(r->profile);
    replica_delete(r);
    clock_detach(&clock);
    device_delete(device);
    return p;
}

static void draw(const Config *c, const Comm *comm, const char *name, Plot plot) {
    if (comm->rank > 0) return;
    char *path = xprintf("%s/%s", c->output_dir, name);
    plot_draw(&plot, path);
    free(path);
}

/* ---- the size of a bucket ---- */

enum { MOST_POINTS = 32 };

static json_t *sweep_buckets(Config c, Comm *comm, Dataset *data) {
    static const char *const names[] = {"one by one, after backward", "in buckets, after backward",
                                        "in buckets, during backward"};
    double sizes[MOST_POINTS], ms[3][MOST_POINTS];
    int count = 0, best = 0;
    printf("\n---- the size of a bucket ----\n%-28s %10s %8s %10s %12s %12s %9s\n", "all-reduce", "bucket KB",
           "buckets", "step ms", "exposed ms", "predicted", "ratio");
    for (int64_t bytes = 16 << 10; count < MOST_POINTS; bytes *= 2, count++) {
        Point p = {0};
        sizes[count] = (double)bytes / 1024;
        for (int overlap = OVERLAP_NONE; overlap <= OVERLAP_BACKWARD; overlap++) {
            if (overlap == OVERLAP_NONE && count) { /* knows no buckets */
                ms[overlap][count] = ms[overlap][0];
                continue;
            }
            c.overlap = (Overlap)overlap;
            c.bucket_size = bytes;
            p = measure(&c, comm, data, c.micro_batch);
            ms[overlap][count] = 1e3 * p.step;
            printf("%-28s %10.0f %8d %10.4f %12.4f %12.4f %9.6f\n", names[overlap], sizes[count], p.buckets,
                   1e3 * p.step, 1e3 * p.exposed, 1e3 * p.predicted, p.exposed / p.predicted);
        }
        if (ms[OVERLAP_BACKWARD][count] < ms[OVERLAP_BACKWARD][best]) best = count;
        if ((double)bytes >= p.bytes) break;
    }
    printf("best: buckets of %.0f KB, %.4f ms a step\n", sizes[best], ms[OVERLAP_BACKWARD][best]);
    PlotSeries series[3];
    for (int i = 0; i < 3; i++)
        series[i] =
            (PlotSeries){names[i], sizes, ms[i], count + 1, i ? PLOT_LINE_POINTS : PLOT_DASHED, 0, NULL};
    draw(&c, comm, "buckets.png",
         (Plot){.title = "A step by the size of a bucket",
                .x_label = "KB in a bucket",
                .y_label = "ms a step",
                .log_x = true,
                .y_from_zero = true,
                .series = series,
                .series_count = 3});
    return json_pack("{s:f, s:f, s:f}", "best_bucket_bytes", 1024 * sizes[best], "best_step_s",
                     1e-3 * ms[OVERLAP_BACKWARD][best], "one_by_one_step_s", 1e-3 * ms[OVERLAP_NONE][0]);
}

/* ---- the batch of a device ---- */

double scaling_crossing(const double *x, const double *a, const double *b, int i) {
    double before = log(b[i - 1] / a[i - 1]), after = log(b[i] / a[i]);
    return x[i - 1] * pow(x[i] / x[i - 1], before / (before - after));
}

static json_t *sweep_batch(Config c, Comm *comm, Dataset *data) {
    const DeviceModel *model = device_model(c.device_model);
    double tokens[MOST_POINTS], backward[MOST_POINTS], reduce[MOST_POINTS], exposed[MOST_POINTS], found = NAN;
    const int64_t most = 16 * c.model.T, window = c.model.T;
    Point p = {0};
    int count = 0;
    printf("\n---- the batch of a device ----\n%8s %14s %14s %26s\n", "tokens", "backward ms",
           "all-reduce ms", "exposed ms, with overlap");
    for (int64_t t = 4; t <= most && count < MOST_POINTS && (isnan(found) || t <= 4 * window);
         t *= 2, count++) {
        int64_t windows = max64(t / window, 1);
        c.model.T = min64(t, window); /* below one window: a shorter one */
        c.overlap = OVERLAP_BACKWARD;
        exposed[count] = 1e3 * measure(&c, comm, data, windows).exposed;
        c.overlap = OVERLAP_BUCKET;
        c.bucket_size = INT64_MAX / 2; /* one for all */
        p = measure(&c, comm, data, windows);
        tokens[count] = (double)(windows * c.model.T);
        backward[count] = 1e3 * p.backward;
        reduce[count] = 1e3 * p.exposed;
        c.bucket_size = 1 << 20;
        printf("%8.0f %14.4f %14.4f %26.4f\n", tokens[count], backward[count], reduce[count], exposed[count]);
        if (isnan(found) && count && reduce[count] < backward[count])
            found = scaling_crossing(tokens, backward, reduce, count);
    }
    ASSERT(count > 0);
    double n = comm->size, C = model->flops, W = model->inside.bandwidth,
           e = (double)element_bytes(TYPE_REAL);
    double N = p.bytes / e, matmul = p.matmul_parameters,
           achieved = 4 * matmul * tokens[count - 1] / (1e-3 * backward[count - 1]);
    double plain = (n - 1) / n * e / 2 * C / W * N / matmul;
    double whole = 1e-3 * reduce[count - 1] * achieved / (4 * matmul);
    if (isnan(found))
        printf("backward hides the all-reduce with none of these batches\n");
    else
        printf("backward hides the all-reduce from about %.1f tokens a device on\n", found);
    printf("predicted: (n-1)/n e/2 C/W N/N_matmul = %.1f with the peak, %.3g FLOP/s\n", plain, C);
    printf("           %.1f with the latency of the links, and with the time that backward takes at %.0f "
           "tokens\n",
           whole, tokens[count - 1]);
    PlotSeries series[] = {{"backward", tokens, backward, count, PLOT_LINE_POINTS, 0, NULL},
                           {"all-reduce", tokens, reduce, count, PLOT_LINE_POINTS, 0, NULL},
                           {"exposed, with overlap", tokens, exposed, count, PLOT_LINE_POINTS, 0, NULL}};
    draw(&c, comm, "batch.png",
         (Plot){.title = "When does backward hide the all-reduce?",
                .x_label = "tokens on each device",
                .y_label = "milliseconds",
                .log_x = true,
                .log_y = true,
                .series = series,
                .series_count = COUNT_OF(series)});
    return json_pack("{s:o*, s:f, s:f}", "tokens_found", json_real(found), "tokens_predicted", plain,
                     "tokens_predicted_with_latency", whole);
}

/* ---- the number of devices ---- */

/* Group and point of the first n ranks; the others wait. */
static Point measure_first(const Config *c, Comm *world, int n, Dataset *data, int64_t windows) {
    Comm *comm = comm_split(world, world->rank < n ? 0 : -1, world->rank, "data");
    Point p = {0};
    if (comm) {
        p = measure(c, comm, data, windows);
        comm_close(comm);
    }
    comm_barrier(world, NULL);
    return p;
}

static json_t *sweep_devices(Config c, Comm *world, Dataset *data) {
    const DeviceModel *model = device_model(c.device_model);
    double devices[MOST_POINTS], ideal[MOST_POINTS], strong[MOST_POINTS], weak[MOST_POINTS];
    int64_t batch = c.micro_batch * world->size; /* strong: this much in all */
    int count = 0;
    Point one = {0}, one_weak = {0};
    printf("\n---- the number of devices ----\n");
    printf("%7s | strong: %" PRId64 " windows in all %17s| weak: %" PRId64 " on each\n", "", batch, "",
           c.micro_batch);
    printf("%7s | %10s %10s %9s %9s | %10s %10s\n", "devices", "step ms", "predicted", "overlap", "speed-up",
           "step ms", "efficiency");
    for (int n = 1; n <= world->size; n++) {
        if (batch % n || (n & (n - 1) && n != world->size)) continue;
        Comm *alone = comm_self();
        c.overlap = OVERLAP_BUCKET;
        c.bucket_size = INT64_MAX / 2;
        Point plain = measure_first(&c, world, n, data, batch / n), own = measure(&c, alone, data, batch / n);
        comm_close(alone);
        c.overlap = OVERLAP_BACKWARD;
        c.bucket_size = 1 << 20;
        Point overlapped = measure_first(&c, world, n, data, batch / n);
        Point same = measure_first(&c, world, n, data, c.micro_batch);
        if (n == 1) one = overlapped, one_weak = same;
        /* one device's step on its share, an all-reduce of the gradients, two of a number */
        double latency = 2 * (n - 1) * model->inside.latency,
               share = 2.0 * (n - 1) / n / model->inside.bandwidth;
        double predicted = own.step + 3 * latency + share * (own.bytes + 2 * sizeof(double));
        devices[count] = ideal[count] = n;
        strong[count] = one.step / overlapped.step;
        weak[count] = n * one_weak.step / same.step;
        printf("%7d | %10.4f %10.4f %9.4f %9.3f | %10.4f %9.1f%%\n", n, 1e3 * plain.step, 1e3 * predicted,
               1e3 * overlapped.step, strong[count], 1e3 * same.step, 100 * weak[count] / n);
        count++;
    }
    printf("step: without overlap; predicted: one device's step on its share + 2 (n-1) (latency + S / (n "
           "bandwidth))\n");
    ASSERT(count > 0);
    PlotSeries series[] = {
        {"ideal", devices, ideal, count, PLOT_DASHED, 0, NULL},
        {"weak: the batch grows with the devices", devices, weak, count, PLOT_LINE_POINTS, 0, NULL},
        {"strong: the batch stays", devices, strong, count, PLOT_LINE_POINTS, 0, NULL}};
    draw(&c, world, "scaling.png",
         (Plot){.title = "Throughput by the number of devices",
                .x_label = "devices",
                .y_label = "times that of one",
                .series = series,
                .series_count = COUNT_OF(series)});
    return json_pack("{s:f, s:f}", "strong_speed_up", strong[count - 1], "weak_speed_up", weak[count - 1]);
}

/* ---- all of them ---- */

int64_t scaling_windows(int64_t asked, int devices, double window_flops) {
    const double most = 2e11; /* FLOPs; a number of seconds would not be the same on every machine */
    return max64(1, min64(asked, (int64_t)(most / devices / window_flops)));
}

static void take_fitting_windows(Config *c, int devices) {
    Model *model = model_new(NULL, &c->model, c->seed, &layers_serial); /* counts, and holds no memory */
    int64_t asked = c->micro_batch;
    c->micro_batch = scaling_windows(asked, devices, model_flops_per_token(model) * (double)c->model.T);
    model_delete(model);
    if (c->micro_batch < asked)
        printf("fitted to a few seconds a step: %" PRId64 " window%s on each device instead of %" PRId64
               " (--micro-batch-size %" PRId64 " takes them all)\n",
               c->micro_batch, c->micro_batch > 1 ? "s" : "", asked, asked);
}

void scaling_check_devices(Comm *world, const DeviceModel *model) {
    if (world->size == 1)
        comm_refuse(world, "build/mpiexec -n 8 starts 8",
                    xstrdup("--sweep compares devices, and there is one"));
    if (model && world->size > model->per_node)
        comm_refuse(world, "start fewer, or take another --device-model",
                    xprintf("--sweep stays within a node: %d devices of %s are more than its %d", world->size,
                            model->name, model->per_node));
}

void scaling_run(const DpOptions *options, Comm *world, Dataset *data, json_t *report) {
    Config c = options->run;
    Scaling sweep = options->sweep;
    const DeviceModel *model = device_model(c.device_model);
    scaling_check_devices(world, model);
    file_make_folder(c.output_dir);
    printf("%d devices, by the clock of %s: %s\n", world->size, model->name, model->about);
    printf("%.4g FLOP/s, memory %.4g bytes/s, links %.4g s and %.4g bytes/s\n", model->flops,
           model->memory_bandwidth, model->inside.latency, model->inside.bandwidth);
    if (!options->batch_given) take_fitting_windows(&c, world->size);
    json_t *results = json_object();
    report_set_integer(report, "devices", world->size);
    if (sweep == SCALING_ALL || sweep == SCALING_BUCKETS)
        json_object_set_new(results, "buckets", sweep_buckets(c, world, data));
    if (sweep == SCALING_ALL || sweep == SCALING_BATCH)
        json_object_set_new(results, "batch", sweep_batch(c, world, data));
    if (sweep == SCALING_ALL || sweep == SCALING_DEVICES)
        json_object_set_new(results, "scaling", sweep_devices(c, world, data));
    json_object_set_new(report, "sweep", results);
    if (world->rank == 0) report_write(report, c.output_dir);
}
