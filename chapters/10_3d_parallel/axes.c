#include "chapters/10_3d_parallel/axes.h"

#include "chapters/05_data_parallel/scaling.h"
#include "chapters/10_3d_parallel/axes_point.h"
#include "common/draw/pictures.h"
#include "common/draw/plots.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MOST_POINTS = 64 };

typedef struct {
    const Run *run;
    Config config;
    const DeviceModel *model;
    double ideal; /* seconds of the products of a step, on all devices at their best */
    AxesPoint points[MOST_POINTS];
    int count;
} Axes;

/* ---- the table ---- */

static void print_head(const Axes *a) {
    printf("\n---- %d devices, %" PRId64 " windows a step, by the clock of %s ----\n",
           a->run->job.world->size, a->config.global_batch, a->model->name);
    printf("%-13s %4s %8s %9s %5s %6s %26s %26s %8s %9s\n", "data x pipe", "", "", "", "MFU", "bubble",
           "- ms waited along -", "- MB sent along -", "MB on a", "ms, two");
    printf("%-13s %4s %8s %9s %5s %6s %8s %8s %8s %8s %8s %8s %8s %9s\n", "  x tensor", "ZeRO", "m x", "ms",
           "%", "%", "data", "pipe", "tensor", "data", "pipe", "tensor", "device", "a node");
}

static void print_point(const Axes *a, const AxesPoint *p) {
    char mesh[32], micro[32];
    snprintf(mesh, sizeof mesh, "%d x %d x %d", p->d, p->p, p->t);
    snprintf(micro, sizeof micro, "%" PRId64 " x %" PRId64, p->microbatches, p->windows);
    printf("%-13s %4" PRId64 " %8s %9.3f %5.1f %6.1f", mesh, p->zero_stage, micro, 1e3 * p->step,
           100 * a->ideal / p->step, 100 * p->bubble);
    for (int axis = 0; axis < MESH_AXES; axis++) printf(" %8.3f", 1e3 * p->waited[axis]);
    for (int axis = 0; axis < MESH_AXES; axis++) printf(" %8.3f", 1e-6 * p->sent[axis]);
    printf(" %8.1f %9.3f\n", 1e-6 * p->memory, 1e3 * p->apart);
}

static void try_point(Axes *a, int d, int p, int t, int64_t zero_stage) {
    if (a->count == MOST_POINTS) return;
    AxesPoint *point = &a->points[a->count];
    char *problem = axes_point(point, &a->config, a->run->job.world, a->run->data, d, p, t, zero_stage);
    if (problem)
        printf("%d x %d x %d      %s\n", d, p, t, problem);
    else
        print_point(a, &a->points[a->count++]);
    free(problem);
}

static void try_all(Axes *a) {
    int n = a->run->job.world->size;
    for (int t = 1; t <= n; t++)
        for (int p = 1; p <= n / t; p++) {
            if (n % (p * t)) continue;
            int d = n / (p * t);
            try_point(a, d, p, t, 0);
            if (d > 1) try_point(a, d, p, t, 1);
            if (d == n || (d > 1 && p > 1 && t > 1)) try_point(a, d, p, t, 3);
        }
}

/* ---- what each axis is for ---- */

static const AxesPoint *find(const Axes *a, int d, int p, int t, int64_t zero_stage) {
    for (int i = 0; i < a->count; i++) {
        const AxesPoint *x = &a->points[i];
        if (x->d == d && x->p == p && x->t == t && x->zero_stage == zero_stage) return x;
    }
    return NULL;
}

/* The mesh that has most devices along one axis, and the others along data; of stages, no more than layers. */
static const AxesPoint *most_along(const Axes *a, MeshAxis axis) {
    int n = a->run->job.world->size;
    int64_t most = axis == MESH_PIPE ? min64(n, a->config.model.L) : n;
    for (int size = (int)most; size > 1; size--) {
        const AxesPoint *x = n % size              ? NULL
                             : axis == MESH_TENSOR ? find(a, n / size, 1, size, 0)
                                                   : find(a, n / size, size, 1, 0);
        if (x) return x;
    }
    return NULL;
}

typedef double Measure(const AxesPoint *point);
static double step_of(const AxesPoint *p) { return p->step; }
static double apart_of(const AxesPoint *p) { return p->apart; }
static double memory_of(const AxesPoint *p) { return p->memory; }

static const AxesPoint *least(const Axes *a, Measure *of) {
    const AxesPoint *best = &a->points[0];
    for (int i = 1; i < a->count; i++)
        if (of(&a->points[i]) < of(best) * (1 - 1e-9)) best = &a->points[i];
    return best;
}

static void print_line(const char *what, const AxesPoint *p, MeshAxis axis, const char *cost,
                       const char *when) {
    if (!p) return;
    char mesh[48];
    snprintf(mesh, sizeof mesh, "%d x %d x %d%s%.0" PRId64, p->d, p->p, p->t, p->zero_stage ? ", ZeRO " : "",
             p->zero_stage);
    printf("%-8s %-20s %9.3f ms %9.1f MB a device; sends %9.3f MB along %s, waits %.3f ms\n", what, mesh,
           1e3 * p->step, 1e-6 * p->memory, 1e-6 * p->sent[axis], mesh_axis_names[axis],
           1e3 * p->waited[axis]);
    printf("         %s\n         use it %s\n", cost, when);
}

static void print_best(const Axes *a, const char *what, Measure *of, double unit, int digits,
                       const char *name) {
    const AxesPoint *p = least(a, of);
    printf("%-42s %d x %d x %d, ZeRO %" PRId64 ": %.*f %s\n", what, p->d, p->p, p->t, p->zero_stage, digits,
           unit * of(p), name);
}

static void print_uses(const Axes *a) {
    int n = a->run->job.world->size;
    printf("\n---- what each axis is for ----\n");
    print_line("data", find(a, n, 1, 1, 0), MESH_DATA,
               "divides the batch; each device holds all, and sends all gradients once a step, however large "
               "the batch",
               "while the model fits on a device, and the batch is large enough to be shared");
    print_line("ZeRO", find(a, n, 1, 1, 3), MESH_DATA,
               "divides what is kept as well; weights are gathered twice for each micro-batch",
               "when the model does not fit, before anything else");
    print_line("tensor", most_along(a, MESH_TENSOR), MESH_TENSOR,
               "divides each layer, its activations too; devices meet four times in a layer, with all tokens",
               "among devices that are near each other, when a layer or its activations do not fit, or the "
               "batch cannot be shared further");
    print_line("pipe", most_along(a, MESH_PIPE), MESH_PIPE,
               "divides the layers; from stage to stage goes an activation for each micro-batch, and its "
               "gradient back; "
               "stages are idle at both ends of a step",
               "between devices that are far apart, with at least four micro-batches for each stage");
    print_best(a, "the fastest step", step_of, 1e3, 3, "ms");
    print_best(a, "... where there are two devices on a node", apart_of, 1e3, 3, "ms");
    print_best(a, "the least on a device", memory_of, 1e-6, 1, "MB");
}

/* ---- the picture: what a device holds, and what a step takes ---- */

enum { KINDS = 4 };
static int kind_of(const AxesPoint *p) { return p->p > 1 && p->t > 1 ? 3 : p->t > 1 ? 2 : p->p > 1 ? 1 : 0; }

static void draw(const Axes *a) {
    static const char *const names[KINDS] = {"data alone", "pipe, no tensor", "tensor, no pipe", "both"};
    double x[KINDS][MOST_POINTS], y[KINDS][MOST_POINTS];
    char texts[KINDS][MOST_POINTS][48];
    const char *beside[KINDS][MOST_POINTS];
    PlotSeries series[KINDS];
    for (int k = 0; k < KINDS; k++)
        series[k] =
            (PlotSeries){.label = names[k], .x = x[k], .y = y[k], .style = PLOT_POINTS, .texts = beside[k]};
    for (int i = 0; i < a->count; i++) {
        const AxesPoint *p = &a->points[i];
        int k = kind_of(p), at = (int)series[k].count++;
        x[k][at] = 1e-6 * p->memory;
        y[k][at] = 1e3 * p->step;
        snprintf(texts[k][at], sizeof texts[k][at], "%d x %d x %d%s%.0" PRId64, p->d, p->p, p->t,
                 p->zero_stage ? " Z" : "", p->zero_stage);
        beside[k][at] = texts[k][at];
    }
    char *title = xprintf("A step on %d devices of %s: data x pipe x tensor, Z: stage of ZeRO",
                          a->run->job.world->size, a->model->name);
    char *path = xprintf("%s/axes.png", a->config.output_dir);
    Plot plot = {.title = title,
                 .x_label = "megabytes on a device",
                 .y_label = "milliseconds",
                 .y_from_zero = true,
                 .series = series,
                 .series_count = KINDS};
    plot_draw(&plot, path);
    free(title);
    free(path);
}

/* ---- all of it ---- */

static json_t *result_of(const Axes *a) {
    json_t *rows = json_array();
    for (int i = 0; i < a->count; i++) {
        const AxesPoint *p = &a->points[i];
        json_array_append_new(
            rows,
            json_pack("{s:i, s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "data", p->d, "pipe",
                      p->p, "tensor", p->t, "zero_stage", (json_int_t)p->zero_stage, "microbatches",
                      (json_int_t)p->microbatches, "step_s", p->step, "two_a_node_step_s", p->apart, "bubble",
                      p->bubble, "bytes_a_device", p->memory, "sent_along_data", p->sent[MESH_DATA],
                      "sent_along_pipe", p->sent[MESH_PIPE], "sent_along_tensor", p->sent[MESH_TENSOR]));
    }
    return rows;
}

void axes_run(const Run *run) {
    Comm *world = run->job.world;
    Axes *a = xcalloc(1, sizeof *a);
    *a = (Axes){.run = run, .config = run->config, .model = device_model(run->config.device_model)};
    Config *c = &a->config;
    scaling_check_devices(world, NULL);
    run_take_folder(run);
    int64_t asked = c->global_batch / world->size,
            windows = scaling_windows(asked, world->size, run->flops_per_token * (double)c->model.T);
    if (windows < asked)
        printf("fitted to a few seconds a step: %" PRId64 " of %" PRId64 " windows\n", windows * world->size,
               c->global_batch);
    if (windows < asked) c->global_batch = windows * world->size;
    a->ideal = run->flops_per_token * (double)(c->global_batch * c->model.T) / world->size / a->model->flops;
    print_head(a);
    try_all(a);
    print_uses(a);
    json_t *report = report_new(run->chapter, run->argc, run->argv);
    json_object_set_new(report, "sweep", json_pack("{s:o}", "axes", result_of(a)));
    report_set_integer(report, "devices", world->size);
    if (run_speaks(run)) {
        draw(a);
        report_write(report, c->output_dir);
    }
    json_decref(report);
    pictures_print_place(c->output_dir, NULL, NULL);
    free(a);
}
