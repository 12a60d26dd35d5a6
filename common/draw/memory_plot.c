#include "common/draw/memory_plot.h"

#include "common/comm/clock.h"
#include "common/draw/plots.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    double time;
    int64_t bytes[MEMORY_CLASSES]; /* from then on */
} Moment;

struct MemoryPlot {
    Device *device;
    Moment *moments;
    int64_t count, capacity;
    bool holds;
};

static void changed(void *context) {
    MemoryPlot *p = context;
    if (p->holds) return;
    double now = queue_now(&p->device->queue);
    if (p->count == 0 || p->moments[p->count - 1].time < now) {
        if (p->count == p->capacity) {
            p->capacity = 2 * p->capacity + 256;
            p->moments = xrealloc(p->moments, (size_t)p->capacity * sizeof *p->moments);
        }
        p->moments[p->count++].time = now;
    }
    memcpy(p->moments[p->count - 1].bytes, p->device->memory.now, sizeof p->device->memory.now);
}

MemoryPlot *memory_plot_new(Device *device) {
    MemoryPlot *p = xcalloc(1, sizeof *p);
    p->device = device;
    p->holds = true;
    device->observer = (MemoryObserver){changed, p};
    return p;
}

void memory_plot_delete(MemoryPlot *p) {
    p->device->observer = (MemoryObserver){0};
    free(p->moments);
    free(p);
}

void memory_plot_begin(MemoryPlot *p) {
    p->count = 0;
    p->holds = false;
    changed(p);
}

void memory_plot_hold(MemoryPlot *p) {
    changed(p); /* the step's end */
    p->holds = true;
}

/* ---- the picture ---- */

/* From the bottom up: what stays in most ways to train, then what rises and falls. */
static const MemoryClass order[MEMORY_CLASSES] = {MEMORY_PARAMETERS, MEMORY_GRADIENTS, MEMORY_OPTIMIZER,
                                                  MEMORY_COMMUNICATION, MEMORY_ACTIVATIONS};

/* Of the first `classes` in that order. */
static double sum_of(const Moment *m, int classes) {
    int64_t sum = 0;
    for (int k = 0; k < classes; k++) sum += m->bytes[order[k]];
    return (double)sum;
}

double memory_plot_most(const MemoryPlot *p) {
    double most = 0;
    for (int64_t i = 0; i < p->count; i++) most = fmax(most, sum_of(&p->moments[i], MEMORY_CLASSES));
    return most;
}

void memory_plot_class(const MemoryPlot *p, MemoryClass class, double begin, double end, int64_t count,
                       double *most) {
    double span = (end - begin) / (double)count;
    for (int64_t k = 0; k < count; k++) most[k] = 0;
    for (int64_t i = 0; i < p->count && span > 0; i++) {
        double from = (p->moments[i].time - begin) / span, to = i + 1 < p->count
                                                                    ? (p->moments[i + 1].time - begin) / span
                                                                    : INFINITY; /* until the next moment */
        for (int64_t k = (int64_t)fmax(floor(from), 0); k < count && (double)k < to; k++)
            most[k] = fmax(most[k], (double)p->moments[i].bytes[class]);
    }
}

void memory_plot_draw(const MemoryPlot *p, const char *title, double level, const char *level_label,
                      const char *path) {
    if (p->count == 0) return;
    double seconds = p->moments[p->count - 1].time - p->moments[0].time, unit = seconds < 1e-3 ? 1e6 : 1e3;
    int64_t points = 2 * p->count - 1; /* each moment's bytes stay until the next */
    double *x = xmalloc((size_t)points * sizeof *x), *y[MEMORY_CLASSES];
    PlotSeries series[MEMORY_CLASSES];
    for (int k = 0; k < MEMORY_CLASSES; k++) {
        int classes = MEMORY_CLASSES - k; /* the whole stack first: later ones lie over it */
        y[k] = xmalloc((size_t)points * sizeof *y[k]);
        for (int64_t i = 0; i < p->count; i++) {
            x[2 * i] = unit * (p->moments[i].time - p->moments[0].time);
            y[k][2 * i] = 1e-6 * sum_of(&p->moments[i], classes);
            if (i > 0) {
                x[2 * i - 1] = x[2 * i];
                y[k][2 * i - 1] = y[k][2 * i - 2];
            }
        }
        series[k] =
            (PlotSeries){memory_class_names[order[classes - 1]], x, y[k], points, PLOT_AREA, classes, NULL};
    }
    PlotLevel levels[] = {{1e-6 * level, level_label}};
    Plot plot = {.title = title,
                 .x_label = unit > 1e5 ? "microseconds of the step" : "milliseconds of the step",
                 .y_label = "MB on the device",
                 .series = series,
                 .series_count = MEMORY_CLASSES,
                 .levels = levels,
                 .level_count = 1};
    plot_draw(&plot, path);
    for (int k = 0; k < MEMORY_CLASSES; k++) free(y[k]);
    free(x);
}
