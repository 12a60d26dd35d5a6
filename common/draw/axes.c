#include "common/draw/axes.h"

#include "common/draw/gnuplot.h"

#include <float.h>
#include <math.h>

/* ---- what can be drawn ---- */

/* The ends of the float range leave room for arithmetic with any number that is drawn. */
static bool drawable(double v, bool logarithmic) {
    return fabs(v) <= FLT_MAX && (!logarithmic || v >= FLT_MIN); /* false for NAN */
}

static bool is_zero(const Plot *plot, double y) { return plot->log_y && plot->zero_label && y == 0; }

double axes_point_x(const PlotSeries *series, int64_t i) { return series->x ? series->x[i] : (double)i; }

double axes_point_y(const Axes *axes, const PlotSeries *series, int64_t i) {
    return axes->zero > 0 && series->y[i] == 0 ? axes->zero : series->y[i];
}

bool axes_show_point(const Plot *plot, const PlotSeries *series, int64_t i) {
    return drawable(axes_point_x(series, i), plot->log_x) &&
           (drawable(series->y[i], plot->log_y) || is_zero(plot, series->y[i]));
}

bool axes_show_level(const Plot *plot, const PlotLevel *level) { return drawable(level->y, plot->log_y); }

bool axes_filled(const PlotSeries *series) {
    return series->style == PLOT_AREA || series->style == PLOT_BARS;
}

/* ---- ranges ---- */

static void widen(Range *range, double v) {
    range->low = fmin(range->low, v);
    range->high = fmax(range->high, v);
}

static Range finite_x(Range x, bool logarithmic) {
    if (x.low > x.high) return (Range){logarithmic ? 0.1 : 0, 1};
    if (x.low < x.high) return x;
    return logarithmic ? (Range){x.low / 2, x.high * 2} : (Range){x.low - 1, x.high + 1};
}

Axes axes_of(const Plot *plot) {
    Range x = {INFINITY, -INFINITY}, y = x;
    bool zeros = false, whole = true, filled = false;
    for (int s = 0; s < plot->series_count; s++)
        for (int64_t i = 0; i < plot->series[s].count; i++) {
            const PlotSeries *series = &plot->series[s];
            if (!axes_show_point(plot, series, i)) continue;
            double half = series->style == PLOT_BARS ? PLOT_BAR_WIDTH / 2 : 0;
            widen(&x, axes_point_x(series, i) - half);
            widen(&x, axes_point_x(series, i) + half);
            filled |= axes_filled(series);
            whole &= axes_point_x(series, i) == floor(axes_point_x(series, i));
            if (is_zero(plot, series->y[i]))
                zeros = true;
            else
                widen(&y, series->y[i]);
        }
    for (int l = 0; l < plot->level_count; l++)
        if (axes_show_level(plot, &plot->levels[l])) widen(&y, plot->levels[l].y);
    /* beside nothing but zeros stand some numbers that are small */
    if (y.low > y.high) y = zeros ? (Range){1e-8, 1e-6} : (Range){1, 1};
    Axes axes = {.log_x = plot->log_x, .log_y = plot->log_y, .whole_x = whole, .x = finite_x(x, plot->log_x)};
    double below = plot->level_count ? 0.10 : 0.05; /* a level's label may stand under its line */
    if (plot->log_y) {
        double ratio = fmax(y.high / y.low, 1.5);
        y = (Range){y.low / pow(ratio, below), y.high * pow(ratio, 0.05)};
        axes.numbers = y.low;
        if (zeros) {
            axes.zero = y.low / pow(ratio, 0.15);
            y.low = axes.zero / pow(ratio, 0.2);
        }
    } else {
        double span = y.high > y.low ? y.high - y.low : fmax(1, fabs(y.high));
        y = (Range){y.low - below * span, y.high + 0.05 * span};
        if (plot->y_from_zero) y.low = fmin(y.low, 0);
        if (filled) y.low = 0; /* what is filled stands on the axis */
    }
    axes.y = y;
    return axes;
}

static double part(double v, Range range, bool logarithmic) {
    return logarithmic ? log(v / range.low) / log(range.high / range.low)
                       : (v - range.low) / (range.high - range.low);
}

double axes_x_part(const Axes *axes, double x) { return part(x, axes->x, axes->log_x); }
double axes_y_part(const Axes *axes, double y) { return part(y, axes->y, axes->log_y); }

/* ---- the script ---- */

/* On a log scale gnuplot marks whole decades only, which a loss rarely spans. About `room` marks, or fewer. */
static void add_log_tics(Str *script, char axis, Range range, double zero, double room) {
    static const double steps[][8] = {{1, 1.5, 2, 3, 4, 5, 7, 0}, {1, 2, 5, 0}, {1, 3, 0}, {1, 0}};
    static const int counts[COUNT_OF(steps)] = {7, 3, 2, 1};
    double decades = log10(range.high / range.low);
    int fine = 0, stride = 1;
    while (fine < COUNT_OF(steps) - 1 && decades * counts[fine] > room) fine++;
    while (decades / stride > room) stride++;
    const char *separator = "";
    str_printf(script, "set logscale %c\nset %ctics (", axis, axis);
    if (zero > 0) {
        str_printf(script, "'0' %.9g", zero);
        separator = ", ";
    }
    for (int power = stride * (int)floor(log10(range.low) / stride); power <= log10(range.high);
         power += stride)
        for (int i = 0; steps[fine][i] > 0; i++) {
            double tic = steps[fine][i] * pow(10, power);
            if (tic < range.low || tic > range.high) continue;
            str_printf(script, "%s%.9g", separator, tic);
            separator = ", ";
        }
    str_printf(script, ")\n");
}

static void add_marks(Str *script, const Plot *plot) {
    static const double LINES_DOWN = 2.1;
    str_printf(script, "set xtics scale 0 (");
    for (int i = 0, written = 0; i < plot->mark_count; i++) {
        if (plot->marks[i].line) continue;
        str_printf(script, "%s", written++ ? ", " : "");
        gnuplot_quoted(script, plot->marks[i].text);
        str_printf(script, " %.9g", plot->marks[i].x);
    }
    str_printf(script, ")\n");
    for (int i = 0; i < plot->mark_count; i++) {
        if (!plot->marks[i].line) continue;
        str_printf(script, "set label ");
        gnuplot_quoted(script, plot->marks[i].text);
        str_printf(script, " at first %.9g, graph 0 offset 0,-%g center textcolor rgb '#333333'\n",
                   plot->marks[i].x, LINES_DOWN);
    }
}

void axes_write(Str *script, const Axes *axes, const Plot *plot, double width, double height) {
    static const double PIXELS_X = 100, PIXELS_Y = 40; /* for each mark */
    str_printf(script, "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n", axes->x.low, axes->x.high,
               axes->y.low, axes->y.high);
    if (plot->mark_count)
        add_marks(script, plot);
    else if (axes->whole_x && !axes->log_x && axes->x.high - axes->x.low < 10)
        str_printf(script, "set xtics 1\n");
    if (axes->log_x) add_log_tics(script, 'x', axes->x, 0, width / PIXELS_X);
    if (axes->log_y)
        add_log_tics(script, 'y', (Range){axes->numbers, axes->y.high}, axes->zero, height / PIXELS_Y);
}
