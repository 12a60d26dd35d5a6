#include "common/draw/field.h"

#include <math.h>
#include <stdlib.h>

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
        bool joined = false; /* to the point before */
        for (int64_t i = 0; i < series->count; i++) {
            bool seen = axes_show_point(plot, series, i);
            if (seen) {
                double x = field_point_x(f, series, i), y = field_point_y(f, series, i);
                if (pointed)
                    points[point_count++] = (LabelBox){x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS};
                if (joined)
                    curves[curve_count++] =
                        (LabelLine){field_point_x(f, series, i - 1), field_point_y(f, series, i - 1), x, y};
            }
            joined = seen && series->style != PLOT_POINTS;
        }
    }
    for (int l = 0; l < plot->level_count; l++)
        if (axes_show_level(plot, &plot->levels[l])) {
            double y = field_y(f, plot->levels[l].y);
            curves[curve_count++] = (LabelLine){f->frame.left, y, f->frame.right, y};
        }
    f->curves = (LabelField){f->frame, points, point_count, curves, curve_count};
}

/* Both run through the same places, for an eighth of this curve and two points at least: `over` hides `under`. */
static bool runs_over(const Field *f, const PlotSeries *over, const PlotSeries *under) {
    static const double SAME = 1.5; /* pixels */
    int64_t shared = 0;
    for (int64_t i = 0, j = 0; i < under->count && j < over->count;) {
        double apart = axes_point_x(over, j) - axes_point_x(under, i);
        if (apart == 0 && axes_show_point(f->plot, under, i) && axes_show_point(f->plot, over, j))
            shared += fabs(field_point_y(f, over, j) - field_point_y(f, under, i)) < SAME;
        if (!(apart > 0)) j++;
        if (!(apart < 0)) i++;
    }
    return shared >= 2 && 8 * shared >= under->count;
}

int field_hidden_by(const Field *f, int s) {
    int count = 0;
    for (int later = s + 1; later < f->plot->series_count; later++)
        count += f->plot->series[s].style != PLOT_POINTS && f->plot->series[later].style != PLOT_POINTS &&
                 runs_over(f, &f->plot->series[later], &f->plot->series[s]);
    return count;
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
