#include "common/draw/loss_plot.h"
#include "common/run/metrics.h"

#include <math.h>
#include <stdlib.h>

/* The points of one column that were measured. */
typedef struct {
    double *x, *y;
    int64_t count;
} Curve;

static Curve take(const MetricsTable *table, bool validation, bool by_tokens) {
    size_t bytes = (size_t)table->count * sizeof(double);
    Curve curve = {.x = xmalloc(bytes), .y = xmalloc(bytes)};
    for (int64_t i = 0; i < table->count; i++) {
        const MetricsRow *row = &table->rows[i];
        double y = validation ? row->val_loss : row->loss;
        if (isnan(y)) continue;
        curve.x[curve.count] = by_tokens ? 1e-6 * (double)row->tokens : (double)row->step;
        curve.y[curve.count++] = y;
    }
    return curve;
}

/* A level is drawn once, however many runs share it. */
static void add_level(PlotLevel *levels, int *count, double y, const char *what) {
    if (!isfinite(y)) return;
    for (int i = 0; i < *count; i++)
        if (levels[i].y == y) return;
    levels[*count] = (PlotLevel){y, xprintf("%s %.4g", what, y)};
    ++*count;
}

bool plot_loss(const LossPlot *plot, const char *path) {
    int n = plot->run_count, series_count = 0, level_count = 0;
    Curve *curves = xcalloc((size_t)(2 * n), sizeof *curves);
    PlotSeries *series = xcalloc((size_t)(2 * n), sizeof *series);
    PlotLevel *levels = xcalloc((size_t)(2 * n), sizeof *levels);
    for (int r = 0; r < n; r++) {
        const LossCurve *run = &plot->runs[r];
        char *csv = xprintf("%s/loss.csv", run->folder);
        MetricsTable table = metrics_read(csv);
        if (*table.fault && !plot->behind) warn("'%s': %s", csv, table.fault);
        for (int v = 0; v < 2; v++) {
            Curve *curve = &curves[2 * r + v];
            *curve = take(&table, v, plot->by_tokens);
            if (!curve->count) continue;
            series[series_count++] = (PlotSeries){.label = v ? "validation" : "training",
                                                  .x = curve->x,
                                                  .y = curve->y,
                                                  .count = curve->count,
                                                  .style = v ? PLOT_LINE_POINTS : PLOT_THIN_LINE,
                                                  .color = n == 1 ? 1 + v : 1 + r};
            /* of several runs the key shows the names, each once */
            if (n > 1) series[series_count - 1].label = run->name;
            if (n > 1 && v && curves[2 * r].count) series[series_count - 2].label = NULL;
        }
        add_level(levels, &level_count, run->entropy_floor,
                  plot->floor_label ? plot->floor_label : "entropy floor");
        add_level(levels, &level_count, run->trigram_loss, "trigram model");
        metrics_free(&table);
        free(csv);
    }
    Plot picture = {.title = plot->title,
                    .x_label = plot->by_tokens ? "millions of tokens" : "step",
                    .y_label = plot->y_label ? plot->y_label : "loss (nats per token)",
                    .log_y = plot->log_y,
                    .series = series,
                    .series_count = series_count,
                    .levels = levels,
                    .level_count = level_count};
    bool drawn = plot->behind ? plot_draw_behind(&picture, path) : plot_draw(&picture, path);
    for (int i = 0; i < level_count; i++) free((char *)(uintptr_t)levels[i].label);
    for (int i = 0; i < 2 * n; i++) free(curves[i].x), free(curves[i].y);
    free(levels);
    free(series);
    free(curves);
    return drawn;
}
