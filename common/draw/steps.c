#include "common/draw/steps.h"

#include "common/draw/gnuplot.h"
#include "common/draw/labels.h"
#include "common/draw/rows.h"

#include <math.h>

static const double GAP = 20, FONT = 9, PIXELS_OF_POINT = 4.0 / 3; /* pixels, points */
static const double PALE = 0.4;

typedef struct {
    Str *script, data, plots;
    const Steps *steps;
    Rows rows;
    double row;  /* pixels of each, and GAP above it */
    double most; /* what reaches to the top of a row */
} Drawing;

static double most_of(const Steps *s) {
    double most = 0;
    for (int r = 0; r < s->count; r++) {
        const StepsRow *row = &s->rows[r];
        if (isfinite(row->level)) most = fmax(most, row->level);
        for (int c = 0; c < STEPS_CURVES; c++)
            for (int64_t i = 0; i < row->curve[c].count; i++) most = fmax(most, row->curve[c].y[i]);
    }
    return most > 0 ? most : 1;
}

/* Room for the labels of the levels. */
static int right_of(const Steps *s) {
    double widest = 0;
    for (int r = 0; r < s->count; r++)
        if (isfinite(s->rows[r].level))
            widest = fmax(widest, label_width(s->rows[r].level_label, PIXELS_OF_POINT * FONT));
    return 24 + (int)widest;
}

/* Pixels from the top of the first row. */
static double base_of(const Drawing *d, int r) { return (r + 1) * (GAP + d->row); }
static double height_of(const Drawing *d, double y) { return y / d->most * d->row; }

static void add_curve(Drawing *d, int r, int c) {
    const StepsCurve *curve = &d->steps->rows[r].curve[c];
    if (curve->count == 0) return;
    const char *color = gnuplot_color(c + 1);
    double base = base_of(d, r), before = base;
    str_printf(&d->data, "$steps%d_%d << END\n", r, c);
    for (int64_t i = 0; i < curve->count; i++) {
        double y = base - height_of(d, curve->y[i]);
        str_printf(&d->data, "%.9g %.9g\n%.9g %.9g\n", curve->x[i], before, curve->x[i], y);
        before = y;
    }
    str_printf(&d->data, "%.9g %.9g\nEND\n", curve->x[curve->count - 1], base);
    if (c == 0)
        str_printf(&d->plots,
                   ", $steps%d_%d with filledcurves closed fillstyle solid 1 noborder linecolor rgb '#%s'", r,
                   c, gnuplot_shade(color, PALE).text);
    str_printf(&d->plots, ", $steps%d_%d with lines linewidth 1.5 linecolor rgb '#%s'", r, c, color);
}

static void add_row(Drawing *d, int r) {
    const StepsRow *row = &d->steps->rows[r];
    double base = base_of(d, r), level = base - height_of(d, row->level);
    char most[24];
    snprintf(most, sizeof most, "%.3g", d->most);
    rows_name(d->script, &d->rows, row->name, base - d->row / 2);
    rows_name(d->script, &d->rows, most, base - d->row);
    rows_name(d->script, &d->rows, "0", base);
    str_printf(
        d->script,
        "set arrow from graph 0,first %.9g to graph 1,first %.9g nohead linecolor rgb '#888888' front\n",
        base, base);
    for (int c = 0; c < STEPS_CURVES; c++) add_curve(d, r, c);
    if (!isfinite(row->level)) return;
    str_printf(d->script,
               "set arrow from graph 0,first %.9g to graph 1,first %.9g nohead dashtype (10,6) linewidth 1.5 "
               "linecolor rgb '#444444' front\n",
               level, level);
    rows_note(d->script, &d->rows, row->level_label, level);
}

static void add_key(Drawing *d) {
    double x = d->rows.left;
    for (int c = 0; c < STEPS_CURVES; c++) {
        if (!d->steps->curve_labels[c]) continue;
        GnuplotShade shade = gnuplot_shade(gnuplot_color(c + 1), c == 0 ? PALE : 1);
        x = rows_key_color(d->script, &d->rows, x, shade.text);
        x = rows_key_text(d->script, &d->rows, x, d->steps->curve_labels[c]);
    }
}

bool steps_draw(const Steps *steps, const char *path) {
    Str script = {0};
    Drawing d = {.script = &script, .steps = steps, .most = most_of(steps)};
    d.row = fmax(36, fmin(70, 480.0 / steps->count));
    d.rows = (Rows){.title = steps->title,
                    .x_label = steps->x_label,
                    .longest = steps->longest,
                    .height = steps->count * (d.row + GAP),
                    .left = 100,
                    .right = right_of(steps)};
    rows_begin(&script, &d.rows, path);
    add_key(&d);
    for (int r = 0; r < steps->count; r++) add_row(&d, r);
    if (d.data.count) str_add(&script, d.data.data, d.data.count);
    bool drawn = rows_end(&script, d.plots.count ? d.plots.data : "", path);
    str_free(&script);
    str_free(&d.data);
    str_free(&d.plots);
    return drawn;
}
