#include "common/draw/field.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double field_x(const Field *f, double x) {
    return f->frame.left + axes_x_part(&f->axes, x) * (f->frame.right - f->frame.left);
}

double field_y(const Field *f, double y) {
    return f->frame.bottom + axes_y_part(&f->axes, y) * (f->frame.top - f->frame.bottom);
}

double field_point_x(const Field *f, const PlotSeries *series, int64_t i) {
    return field_x(f, axes_point_x(series, i));
}

double field_point_y(const Field *f, const PlotSeries *series, int64_t i) {
    return field_y(f, axes_point_y(&f->axes, series, i));
}

/* What point i of a series that is filled has below it: a bar, or the piece of an area behind the point before. */
static LabelBox filled_box(const Field *f, const PlotSeries *series, int64_t i) {
    double x = axes_point_x(series, i), y = field_point_y(f, series, i), half = PLOT_BAR_WIDTH / 2;
    if (series->style == PLOT_BARS)
        return (LabelBox){field_x(f, x - half), f->frame.bottom, field_x(f, x + half), y};
    int64_t before = i > 0 && axes_show_point(f->plot, series, i - 1) ? i - 1 : i;
    return (LabelBox){field_point_x(f, series, before), f->frame.bottom, field_x(f, x),
                      fmax(y, field_point_y(f, series, before))};
}

/* Whether there is a line from point i - 1 to point i. */
static bool joined(const Plot *plot, const PlotSeries *series, int64_t i) {
    return i > 0 && series->style != PLOT_POINTS && !axes_filled(series) &&
           axes_show_point(plot, series, i - 1) && axes_show_point(plot, series, i);
}

static void find_curves(Field *f) {
    static const double RADIUS = 3.5; /* of a point */
    const Plot *plot = f->plot;
    int64_t most = plot->level_count + 1;
    for (int s = 0; s < plot->series_count; s++) most += plot->series[s].count;
    LabelBox *points = xmalloc((size_t)most * sizeof *points);
    LabelLine *curves = xmalloc((size_t)most * sizeof *curves);
    int64_t point_count = 0, curve_count = 0;
    for (int s = 0; s < plot->series_count; s++) {
        const PlotSeries *series = &plot->series[s];
        bool pointed = series->style == PLOT_POINTS || series->style == PLOT_LINE_POINTS;
        for (int64_t i = 0; i < series->count; i++) {
            if (!axes_show_point(plot, series, i)) continue;
            double x = field_point_x(f, series, i), y = field_point_y(f, series, i);
            if (pointed) points[point_count++] = (LabelBox){x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS};
            if (axes_filled(series)) points[point_count++] = filled_box(f, series, i);
            if (joined(plot, series, i))
                curves[curve_count++] =
                    (LabelLine){field_point_x(f, series, i - 1), field_point_y(f, series, i - 1), x, y};
        }
    }
    for (int l = 0; l < plot->level_count; l++)
        if (axes_show_level(plot, &plot->levels[l])) {
            double y = field_y(f, plot->levels[l].y);
            curves[curve_count++] = (LabelLine){f->frame.left, y, f->frame.right, y};
        }
    f->curves = (LabelField){f->frame, points, point_count, curves, curve_count};
}

/* Whether the piece of `under` that ends at each of its points lies on a piece of `over`. */
static void find_shared(const Field *f, const PlotSeries *under, const PlotSeries *over, bool *shared) {
    static const double SAME = 1.5; /* pixels */
    bool before = false;            /* the point before is on both curves */
    int64_t j = 0;
    for (int64_t i = 0; i < under->count; i++) {
        double x = axes_point_x(under, i);
        while (j < over->count && axes_point_x(over, j) < x) j++;
        bool here = j < over->count && axes_point_x(over, j) == x &&
                    fabs(field_point_y(f, over, j) - field_point_y(f, under, i)) < SAME;
        shared[i] = here && before && joined(f->plot, under, i) && joined(f->plot, over, j);
        before = here;
    }
}

int field_hidden(const Field *f, int s, int *hidden) {
    static const double SHORTEST = 60; /* pixels: curves that only cross share less */
    const PlotSeries *under = &f->plot->series[s];
    bool *shared = xcalloc((size_t)under->count + 1, sizeof *shared);
    int most = 0;
    memset(hidden, 0, (size_t)under->count * sizeof *hidden);
    for (int later = s + 1; later < f->plot->series_count; later++) {
        find_shared(f, under, &f->plot->series[later], shared);
        for (int64_t i = 1, end; i < under->count; i = end + 1) {
            for (end = i; end < under->count && shared[end];) end++;
            double width = end > i ? field_point_x(f, under, end - 1) - field_point_x(f, under, i - 1) : 0;
            double height = end > i ? field_point_y(f, under, end - 1) - field_point_y(f, under, i - 1) : 0;
            for (int64_t k = i; k < end && hypot(width, height) > SHORTEST; k++)
                if (++hidden[k] > most) most = hidden[k];
        }
    }
    free(shared);
    return most;
}

Field field_of(const Plot *plot, const Axes *axes, LabelBox frame) {
    Field f = {.plot = plot, .axes = *axes, .frame = frame};
    find_curves(&f);
    return f;
}

void field_free(Field *f) {
    free((void *)(uintptr_t)f->curves.points);
    free((void *)(uintptr_t)f->curves.curves);
}
