#include "common/draw/plots.h"

#include "common/draw/gnuplot.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- the script ---- */

typedef struct {
    double low, high;
} Range;

static void add_text(Str *script, const char *what, const char *text, const char *how) {
    if (!text) return;
    str_printf(script, "set %s ", what);
    gnuplot_quoted(script, text);
    str_printf(script, " %s textcolor rgb '#333333'\n", how);
}

static double x_of(const PlotSeries *series, int64_t i) { return series->x ? series->x[i] : (double)i; }

/* The ends of the float range leave room for arithmetic with any number that is drawn. */
static bool drawable(double v, bool logarithmic) {
    return fabs(v) <= FLT_MAX && (!logarithmic || v >= FLT_MIN); /* false for NAN */
}

static bool shown(const Plot *plot, const PlotSeries *series, int64_t i) {
    return drawable(x_of(series, i), plot->log_x) && drawable(series->y[i], plot->log_y);
}

static void widen(Range *range, double v) {
    range->low = fmin(range->low, v);
    range->high = fmax(range->high, v);
}

/* What is seen: all points and levels, and some room; one unit around where there is nothing or one value. */
static void find_ranges(const Plot *plot, Range *x, Range *y) {
    *x = *y = (Range){INFINITY, -INFINITY};
    for (int s = 0; s < plot->series_count; s++)
        for (int64_t i = 0; i < plot->series[s].count; i++)
            if (shown(plot, &plot->series[s], i)) {
                widen(x, x_of(&plot->series[s], i));
                widen(y, plot->series[s].y[i]);
            }
    for (int l = 0; l < plot->level_count; l++)
        if (drawable(plot->levels[l].y, plot->log_y)) widen(y, plot->levels[l].y);
    if (x->low > x->high) *x = (Range){plot->log_x ? 0.1 : 0, 1};
    if (y->low > y->high) *y = (Range){1, 1};
    if (x->low == x->high)
        *x = plot->log_x ? (Range){x->low / 2, x->high * 2} : (Range){x->low - 1, x->high + 1};
    double below = plot->level_count ? 0.10 : 0.05; /* a level's label may stand under its line */
    if (plot->log_y) {
        double ratio = fmax(y->high / y->low, 1.5);
        *y = (Range){y->low / pow(ratio, below), y->high * pow(ratio, 0.05)};
    } else {
        double span = y->high > y->low ? y->high - y->low : fmax(1, fabs(y->high));
        *y = (Range){y->low - below * span, y->high + 0.05 * span};
        if (plot->y_from_zero) y->low = fmin(y->low, 0);
    }
}

/* On a log scale gnuplot marks whole decades only, which a loss rarely spans. */
static void add_log_tics(Str *script, char axis, Range y) {
    static const double steps[][8] = {{1, 0}, {1, 3, 0}, {1, 2, 5, 0}, {1, 1.5, 2, 3, 4, 5, 7, 0}};
    double decades = log10(y.high / y.low);
    const double *step = steps[decades > 5 ? 0 : decades > 2.5 ? 1 : decades > 1.2 ? 2 : 3];
    const char *separator = "";
    str_printf(script, "set logscale %c\nset %ctics (", axis, axis);
    for (int power = (int)floor(log10(y.low)); power <= log10(y.high); power++)
        for (int i = 0; step[i] > 0; i++) {
            double tic = step[i] * pow(10, power);
            if (tic < y.low || tic > y.high) continue;
            str_printf(script, "%s%.9g", separator, tic);
            separator = ", ";
        }
    str_printf(script, ")\n");
}

/* The lowest level, which curves come down onto, has its label under the line, the others above it. */
static void add_levels(Str *script, const Plot *plot) {
    double lowest = INFINITY;
    for (int l = 0; l < plot->level_count; l++)
        if (drawable(plot->levels[l].y, plot->log_y)) lowest = fmin(lowest, plot->levels[l].y);
    for (int l = 0; l < plot->level_count; l++) {
        const PlotLevel *level = &plot->levels[l];
        if (!drawable(level->y, plot->log_y)) continue;
        str_printf(
            script,
            "set arrow from graph 0, first %.9g to graph 1, first %.9g nohead dashtype (10,6) linewidth 1.5 "
            "linecolor rgb '#666666' back\nset label ",
            level->y, level->y);
        gnuplot_quoted(script, level->label);
        str_printf(script, " at graph 0.99, first %.9g right offset 0,%s front textcolor rgb '#444444'\n",
                   level->y, level->y > lowest ? "0.6" : "-0.7");
    }
}

static void add_series(Str *script, const Plot *plot, int s) {
    static const char *const styles[] = {
        [PLOT_LINE] = "lines linewidth 2 linecolor rgb '#%s'",
        [PLOT_THIN_LINE] = "lines linewidth 1.2 linecolor rgb '#70%s'", /* partly transparent */
        [PLOT_POINTS] = "points pointtype 7 pointsize 0.6 linecolor rgb '#%s'",
        [PLOT_LINE_POINTS] = "linespoints linewidth 2 pointtype 7 pointsize 0.8 linecolor rgb '#%s'",
        [PLOT_DASHED] = "lines linewidth 2 dashtype (8,5) linecolor rgb '#%s'",
    };
    const PlotSeries *series = &plot->series[s];
    const char *color = gnuplot_color(series->color > 0 ? series->color : s + 1);
    str_printf(script, ", $series%d using 1:2 with ", s);
    str_printf(script, styles[series->style], color);
    if (series->label) {
        str_printf(script, " title ");
        gnuplot_quoted(script, series->label);
    } else {
        str_printf(script, " notitle");
    }
    if (series->texts)
        str_printf(script,
                   ", $series%d using 1:2:3 with labels left offset 0.7,0.35 font ',10' textcolor rgb '#%s' "
                   "notitle",
                   s, color);
}

/* A word of a data block: in double quotes, without anything that ends or escapes it. */
static void add_word(Str *script, const char *text) {
    str_add(script, " \"", 2);
    for (; *text; text++)
        str_add(script, (unsigned char)*text < 0x20 || *text == '"' || *text == '\\' ? " " : text, 1);
    str_add(script, "\"", 1);
}

static void write_script(Str *script, const Plot *plot, const char *path) {
    Range x, y;
    find_ranges(plot, &x, &y);
    gnuplot_terminal(script, path, plot->width ? plot->width : 960, plot->height ? plot->height : 540);
    size_t key_width = 0; /* in letters; each entry has a piece of its line as well */
    for (int i = 0; i < plot->series_count; i++)
        if (plot->series[i].label) key_width += strlen(plot->series[i].label) + 8;
    bool key_above = !plot->key_low && key_width >= 1 && key_width <= 80; /* a longer one would not fit */
    str_printf(script,
               "set border 3 linecolor rgb '#888888'\n"
               "set tics nomirror out scale 0.5 textcolor rgb '#333333'\n"
               "set grid linetype 1 linewidth 1 linecolor rgb '#e6e6e6'\n"
               "set key %s reverse Left samplen 2.5 textcolor rgb '#333333'\n"
               "set format '%%g'\nset rmargin 3\nset tmargin %g\n",
               key_above       ? "at graph 0.5, 1.06 center center horizontal"
               : plot->key_low ? "inside bottom right vertical"
                               : "inside top right vertical",
               key_above     ? 4.5
               : plot->title ? 3.0
                             : 1.5);
    str_printf(script, "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n", x.low, x.high, y.low, y.high);
    add_text(script, "label", plot->title,
             "at screen 0.5, 0.955 center font ',14'"); /* gnuplot's own: under the key */
    add_text(script, "xlabel", plot->x_label, "");
    add_text(script, "ylabel", plot->y_label, "");
    if (plot->log_x) add_log_tics(script, 'x', x);
    if (plot->log_y) add_log_tics(script, 'y', y);
    add_levels(script, plot);
    for (int s = 0; s < plot->series_count; s++) {
        const PlotSeries *series = &plot->series[s];
        str_printf(script, "$series%d << END\n", s);
        for (int64_t i = 0; i < series->count; i++)
            if (shown(plot, series, i)) {
                str_printf(script, "%.9g %.9g", x_of(series, i), series->y[i]);
                if (series->texts) add_word(script, series->texts[i]);
                str_printf(script, "\n");
            } else {
                str_printf(script, "\n"); /* a gap */
            }
        str_printf(script, "NaN NaN \"\"\nEND\n");
    }
    str_printf(script, "plot NaN notitle"); /* so that there is something to plot, come what may */
    for (int s = 0; s < plot->series_count; s++) add_series(script, plot, s);
    str_printf(script, "\n");
}

/* ---- pictures ---- */

static GnuplotJob behind;

static bool start(GnuplotJob *job, const Plot *plot, const char *path) {
    Str script = {0};
    write_script(&script, plot, path);
    bool started = gnuplot_start(job, &script, path);
    str_free(&script);
    return started;
}

bool plot_draw(const Plot *plot, const char *path) {
    GnuplotJob job;
    plot_wait(); /* it may be drawing the same picture */
    return start(&job, plot, path) && gnuplot_wait(&job);
}

bool plot_draw_behind(const Plot *plot, const char *path) {
    bool drawn;
    if (behind.child && !gnuplot_collect(&behind, &drawn)) return true;
    return start(&behind, plot, path);
}

void plot_wait(void) {
    if (behind.child) gnuplot_wait(&behind);
}
