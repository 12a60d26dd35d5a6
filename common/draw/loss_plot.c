#include "common/draw/loss_plot.h"
#include "common/run/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The points of one column that were measured. */
typedef struct {
    double *x, *y;
    int64_t count;
} Curve;

static Curve empty_curve(int64_t count) {
    size_t bytes = (size_t)count * sizeof(double);
    return (Curve){.x = xmalloc(bytes), .y = xmalloc(bytes)};
}

static void add_point(Curve *curve, double x, double y) {
    if (isnan(y)) return;
    curve->x[curve->count] = x;
    curve->y[curve->count++] = y;
}

static double loss_of(const MetricsRow *row, bool validation) {
    return validation ? row->val_loss : row->loss;
}

static Curve take(const MetricsTable *table, bool validation, bool by_tokens) {
    Curve curve = empty_curve(table->count);
    for (int64_t i = 0; i < table->count; i++) {
        const MetricsRow *row = &table->rows[i];
        add_point(&curve, by_tokens ? 1e-6 * (double)row->tokens : (double)row->step,
                  loss_of(row, validation));
    }
    return curve;
}

/* |loss - loss of the first run| at the steps that both have. */
static Curve take_difference(const MetricsTable *first, const MetricsTable *table, bool validation) {
    Curve curve = empty_curve(table->count);
    for (int64_t i = 0, j = 0; metrics_same_step(first, table, &i, &j); i++, j++)
        add_point(&curve, (double)table->rows[j].step,
                  fabs(loss_of(&table->rows[j], validation) - loss_of(&first->rows[i], validation)));
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

/* The curves of one panel, two a run. */
typedef struct {
    Curve *curves;
    PlotSeries *series;
    int count;
} Curves;

static Curves no_curves(int runs) {
    size_t most = 2 * (size_t)runs;
    return (Curves){xcalloc(most, sizeof(Curve)), xcalloc(most, sizeof(PlotSeries)), 0};
}

/* Takes over the two curves. A name that both have stands in the key once. */
static void add_run(Curves *all, const Curve curves[2], const char *const names[2], const int colors[2]) {
    bool one_name = !strcmp(names[0], names[1]) && curves[1].count > 0;
    for (int v = 0; v < 2; v++) {
        const Curve *c = &curves[v];
        all->curves[all->count] = *c;
        all->series[all->count++] = (PlotSeries){
            .label = c->count == 0 || (v == 0 && one_name) ? NULL : xstrdup(names[v]),
            .x = c->x,
            .y = c->y,
            .count = c->count,
            .style = v ? PLOT_LINE_POINTS : PLOT_THIN_LINE,
            .color = colors[v],
        };
    }
}

static void free_curves(Curves *all) {
    for (int i = 0; i < all->count; i++) {
        free(all->curves[i].x);
        free(all->curves[i].y);
        free((char *)(uintptr_t)all->series[i].label);
    }
    free(all->curves);
    free(all->series);
}

static void add_losses(Curves *all, const LossPlot *plot, int r, const MetricsTable *table) {
    bool several = plot->run_count > 1;
    const char *name = plot->runs[r].name;
    add_run(all, (Curve[]){take(table, false, plot->by_tokens), take(table, true, plot->by_tokens)},
            several ? (const char *const[]){name, name} : (const char *const[]){"training", "validation"},
            several ? (const int[]){1 + r, 1 + r} : (const int[]){1, 2});
}

static void add_differences(Curves *all, const LossPlot *plot, int r, const MetricsTable *first,
                            const MetricsTable *table) {
    char *name = xprintf("|%s - %s|", plot->runs[r].name, plot->runs[0].name);
    add_run(all, (Curve[]){take_difference(first, table, false), take_difference(first, table, true)},
            (const char *const[]){name, name}, (const int[]){1 + r, 1 + r});
    free(name);
}

static MetricsTable read_run(const LossPlot *plot, int r) {
    char *csv = xprintf("%s/loss.csv", plot->runs[r].folder);
    MetricsTable table = metrics_read(csv);
    if (*table.fault && !plot->behind) warn("'%s': %s", csv, table.fault);
    free(csv);
    return table;
}

bool plot_loss(const LossPlot *plot, const char *path) {
    int n = plot->run_count, level_count = 0;
    Curves losses = no_curves(n), differences = no_curves(n);
    PlotLevel *levels = xcalloc((size_t)(2 * n), sizeof *levels);
    MetricsTable first = read_run(plot, 0);
    for (int r = 0; r < n; r++) {
        const LossCurve *run = &plot->runs[r];
        MetricsTable table = r ? read_run(plot, r) : first;
        add_losses(&losses, plot, r, &table);
        if (r > 0) {
            add_differences(&differences, plot, r, &first, &table);
            metrics_free(&table);
        }
        add_level(levels, &level_count, run->entropy_floor,
                  plot->floor_label ? plot->floor_label : "entropy floor");
        add_level(levels, &level_count, run->trigram_loss, "trigram model");
    }
    metrics_free(&first);
    const char *x_label = plot->by_tokens ? "millions of tokens" : "step";
    Plot below = {.x_label = x_label,
                  .y_label = "difference",
                  .log_y = true,
                  .zero_label = "equal to the bit",
                  .series = differences.series,
                  .series_count = differences.count};
    Plot picture = {.title = plot->title,
                    .x_label = plot->difference ? NULL : x_label,
                    .y_label = plot->y_label ? plot->y_label : "loss (nats per token)",
                    .log_y = plot->log_y,
                    .series = losses.series,
                    .series_count = losses.count,
                    .levels = levels,
                    .level_count = level_count,
                    .below = plot->difference ? &below : NULL};
    bool drawn = plot->behind ? plot_draw_behind(&picture, path) : plot_draw(&picture, path);
    for (int i = 0; i < level_count; i++) free((char *)(uintptr_t)levels[i].label);
    free_curves(&losses);
    free_curves(&differences);
    free(levels);
    return drawn;
}
