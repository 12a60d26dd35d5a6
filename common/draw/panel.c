#include "common/draw/panel.h"

#include "common/draw/field.h"
#include "common/draw/gnuplot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What gnuplot makes of 'Sans,12', in pixels: a letter's height, a line, a letter in its margins and keys. */
static const double FONT = 16, LINE = 18.7, LETTER = 10.2;
static const double SMALL_FONT = 13.3; /* 'Sans,10', beside points */

/* What is written onto the panel, and where: place i of the labels is that of words[i]. */
typedef struct {
    const char *text; /* NULL: the key, which gnuplot writes */
    const char *font, *color;
} Words;

typedef struct {
    const Plot *plot;
    Field field;
    int rows;           /* of the key above the frame; 0: */
    const char *corner; /* where the key stands inside it */
    Label *labels;
    Words *words;
    int label_count;
} Panel;

/* ---- where the words are ---- */

static void plan(Panel *p, Label label, const char *text, const char *font, const char *color) {
    p->words[p->label_count] = (Words){text, font, color};
    p->labels[p->label_count++] = label;
}

static Label text_label(LabelKind kind, double x, double y, const char *text, double font) {
    return (Label){.kind = kind, .x = x, .y = y, .width = label_width(text, font), .height = font};
}

/* How many entries the key has, and their width: gnuplot gives all that of the longest, and each a piece of its line. */
static int measure_key(const Plot *plot, double *width) {
    size_t longest = 0;
    int entries = 0;
    for (int s = 0; s < plot->series_count; s++) {
        const char *label = plot->series[s].label;
        if (!label) continue;
        if (strlen(label) > longest) longest = strlen(label);
        entries++;
    }
    *width = LETTER * (double)(longest + 5);
    return entries;
}

/* The corner of the frame where a key hides the least, how much that is, and its place. */
static const char *key_corner(const Field *field, int64_t *hides, LabelBox *place) {
    static const char *const corners[] = {"top right", "bottom right", "top left", "bottom left"};
    LabelBox frame = field->frame;
    double width, height = LINE * (measure_key(field->plot, &width) + 0.8);
    double left = frame.left + LETTER, right = frame.right - LETTER - width;
    double bottom = frame.bottom + 4, top = frame.top - 4 - height;
    const char *best = NULL;
    for (int c = 0; c < COUNT_OF(corners); c++) {
        double x = c < 2 ? right : left, y = c % 2 ? bottom : top;
        LabelBox box = {x, y, x + width, y + height};
        int64_t covered = labels_covered(&field->curves, box);
        if (best && covered >= *hides) continue;
        best = corners[c];
        *hides = covered;
        *place = box;
    }
    return best;
}

static int key_columns(const Plot *plot, double room) {
    double width;
    measure_key(plot, &width);
    return (int)fmax(1, room / width);
}

/* How many rows of the key stand above the frame: one where that is enough, else none if there is a corner inside, or
 * if the rows would leave too little of the frame. */
static int key_rows(const Plot *plot, const Axes *axes, LabelBox frame) {
    double width;
    int entries = measure_key(plot, &width), columns = key_columns(plot, frame.right - frame.left);
    int rows = (entries + columns - 1) / columns;
    if (rows <= 1) return 1;
    if (rows * LINE > 0.5 * (frame.top - frame.bottom)) return 0;
    Field field = field_of(plot, axes, frame);
    int64_t hides;
    LabelBox place;
    key_corner(&field, &hides, &place);
    field_free(&field);
    return hides > 0 ? rows : 0;
}

static void plan_key(Panel *p) {
    int64_t hides;
    Label key = {.kind = LABEL_FIXED};
    p->corner = key_corner(&p->field, &hides, &key.box);
    plan(p, key, NULL, NULL, NULL);
}

/* The lowest level, which curves come down onto, has its label under the line, the others above it. */
static void plan_levels(Panel *p) {
    const Plot *plot = p->plot;
    double lowest = INFINITY;
    for (int l = 0; l < plot->level_count; l++)
        if (axes_show_level(plot, &plot->levels[l])) lowest = fmin(lowest, plot->levels[l].y);
    for (int l = 0; l < plot->level_count; l++) {
        const PlotLevel *level = &plot->levels[l];
        if (!axes_show_level(plot, level)) continue;
        LabelKind kind = level->y > lowest ? LABEL_ABOVE : LABEL_BELOW;
        plan(p, text_label(kind, 0, field_y(&p->field, level->y), level->label, FONT), level->label,
             "Sans,12", "444444");
    }
    if (p->field.axes.zero > 0)
        plan(p, text_label(LABEL_BELOW, 0, field_y(&p->field, p->field.axes.zero), plot->zero_label, FONT),
             plot->zero_label, "Sans,12", "444444");
}

static const char *series_color(const Plot *plot, int s) {
    return gnuplot_color(plot->series[s].color > 0 ? plot->series[s].color : s + 1);
}

static void plan_texts(Panel *p) {
    for (int s = 0; s < p->plot->series_count; s++) {
        const PlotSeries *series = &p->plot->series[s];
        for (int64_t i = 0; series->texts && i < series->count; i++) {
            const char *text = series->texts[i];
            if (!*text || !axes_show_point(p->plot, series, i)) continue;
            plan(p,
                 text_label(LABEL_AT, field_point_x(&p->field, series, i),
                            field_point_y(&p->field, series, i), text, SMALL_FONT),
                 text, "Sans,10", series_color(p->plot, s));
        }
    }
}

static void place_words(Panel *p) {
    int64_t most = 2 + p->plot->level_count;
    for (int s = 0; s < p->plot->series_count; s++)
        if (p->plot->series[s].texts) most += p->plot->series[s].count;
    p->labels = xmalloc((size_t)most * sizeof *p->labels);
    p->words = xmalloc((size_t)most * sizeof *p->words);
    if (p->rows == 0) plan_key(p);
    plan_levels(p);
    plan_texts(p);
    labels_place(&p->field.curves, p->labels, p->label_count);
}

/* ---- the script ---- */

/* `set WHAT 'text' HOW`, in the colour of all that is written around a panel. */
static void add_text(Str *script, const char *what, const char *text, const char *how) {
    if (!text) return;
    str_printf(script, "set %s ", what);
    gnuplot_quoted(script, text);
    str_printf(script, " %s textcolor rgb '#333333'\n", how);
}

/* As parts of the frame: gnuplot's may be some pixels wider or narrower than ours. */
static void add_place(Str *script, const Panel *p, double x, double y) {
    str_printf(script, "graph %.5f, graph %.5f",
               (x - p->field.frame.left) / (p->field.frame.right - p->field.frame.left),
               (y - p->field.frame.bottom) / (p->field.frame.top - p->field.frame.bottom));
}

static void add_words(Str *script, const Panel *p) {
    for (int i = 0; i < p->label_count; i++) {
        const Label *label = &p->labels[i];
        const Words *words = &p->words[i];
        if (!label->placed || !words->text) continue;
        if (label->has_leader) {
            str_printf(script, "set arrow from ");
            add_place(script, p, label->leader.x1, label->leader.y1);
            str_printf(script, " to ");
            add_place(script, p, label->leader.x2, label->leader.y2);
            str_printf(script, " nohead linewidth 0.7 linecolor rgb '#%s' front\n", words->color);
        }
        str_printf(script, "set label ");
        gnuplot_quoted(script, words->text);
        str_printf(script, " at ");
        add_place(script, p, label->box.left, (label->box.bottom + label->box.top) / 2);
        str_printf(script, " left font '%s' front textcolor rgb '#%s'\n", words->font, words->color);
    }
}

static void add_level(Str *script, double y) {
    str_printf(script,
               "set arrow from graph 0, first %.9g to graph 1, first %.9g nohead dashtype (10,6) "
               "linewidth 1.5 linecolor rgb '#666666' back\n",
               y, y);
}

static const struct {
    const char *how;
    double width; /* of the line; of the points */
} styles[] = {
    [PLOT_LINE] = {"lines linewidth %g linecolor rgb '#%s'", 2},
    [PLOT_THIN_LINE] = {"lines linewidth %g linecolor rgb '#%s'", 1.2},
    [PLOT_POINTS] = {"points pointtype 7 pointsize %g linecolor rgb '#%s'", 0.6},
    [PLOT_LINE_POINTS] = {"linespoints linewidth %g pointtype 7 pointsize 0.8 linecolor rgb '#%s'", 2},
    [PLOT_DASHED] = {"lines linewidth %g dashtype (8,5) linecolor rgb '#%s'", 2},
    [PLOT_AREA] = {"filledcurves y1=0 fillstyle solid 1 noborder linewidth %g linecolor rgb '#%s'", 1},
    [PLOT_BARS] = {"boxes fillstyle solid 1 noborder linewidth %g linecolor rgb '#%s'", 1},
};

/* Thin lines are partly transparent, unless they are to be seen on others. */
static void add_series(Str *script, const Plot *plot, int s, bool on_others) {
    const PlotSeries *series = &plot->series[s];
    char color[16];
    snprintf(color, sizeof color, "%s%s", series->style == PLOT_THIN_LINE && !on_others ? "70" : "",
             series_color(plot, s));
    str_printf(script, ", $series%d using 1:2 with ", s);
    str_printf(script, styles[series->style].how, styles[series->style].width, color);
    if (series->label) {
        str_printf(script, " title ");
        gnuplot_quoted(script, series->label);
    } else {
        str_printf(script, " notitle");
    }
}

static void add_point(Str *script, const Panel *p, const PlotSeries *series, int64_t i) {
    str_printf(script, "%.9g %.9g\n", axes_point_x(series, i), axes_point_y(&p->field.axes, series, i));
}

static void add_data(Str *script, const Panel *p, int s) {
    const PlotSeries *series = &p->plot->series[s];
    str_printf(script, "$series%d << END\n", s);
    for (int64_t i = 0; i < series->count; i++)
        if (axes_show_point(p->plot, series, i))
            add_point(script, p, series, i);
        else
            str_printf(script, "\n"); /* a gap */
    str_printf(script, "NaN NaN\nEND\n");
}

/* The pieces of a curve that later ones lie over, $hidden0 .., are drawn first, and the wider the more there are. */
static void add_hidden(Str *data, Str *plots, const Panel *p, int s) {
    static const double WIDER = 2, WIDEST = 10;
    const PlotSeries *series = &p->plot->series[s];
    int *hidden = xcalloc((size_t)series->count, sizeof *hidden), most = field_hidden(&p->field, s, hidden);
    if (most > 0) {
        str_printf(data, "$hidden%d << END\n", s);
        for (int64_t i = 1; i < series->count; i++) {
            if (!hidden[i]) continue;
            if (!hidden[i - 1]) {
                str_printf(data, "\n");
                add_point(data, p, series, i - 1);
            }
            add_point(data, p, series, i);
        }
        str_printf(data, "END\n");
        str_printf(plots, ", $hidden%d using 1:2 with lines linewidth %g linecolor rgb '#%s' notitle", s,
                   fmin(styles[series->style].width + WIDER * most, WIDEST), series_color(p->plot, s));
    }
    free(hidden);
}

static void add_key(Str *script, const Panel *p) {
    LabelBox frame = p->field.frame;
    if (p->rows > 0)
        str_printf(script, "set key at graph 0.5, %.4f center center horizontal maxcols %d",
                   1 + LINE * (0.75 + p->rows / 2.0) / (frame.top - frame.bottom),
                   key_columns(p->plot, frame.right - frame.left));
    else
        str_printf(script, "set key inside %s vertical", p->corner);
    str_printf(script, " reverse Left samplen 2.5 textcolor rgb '#333333'\n");
}

static bool has_second_line(const Plot *plot) {
    for (int i = 0; i < plot->mark_count; i++)
        if (plot->marks[i].line) return true;
    return false;
}

static void panel_write(Str *script, const Plot *plot, const Axes *axes, LabelBox frame, int rows) {
    Panel p = {.plot = plot, .field = field_of(plot, axes, frame), .rows = rows};
    place_words(&p);
    add_key(script, &p);
    bool second = has_second_line(plot);
    if (second) str_printf(script, "set bmargin %g\n", plot->x_label ? 5 : 3.5);
    add_text(script, "xlabel", plot->x_label, second ? "offset 0,-1.2" : "");
    add_text(script, "ylabel", plot->y_label, "");
    axes_write(script, axes, plot, frame.right - frame.left, frame.top - frame.bottom);
    add_words(script, &p);
    for (int l = 0; l < plot->level_count; l++)
        if (axes_show_level(plot, &plot->levels[l])) add_level(script, plot->levels[l].y);
    if (axes->zero > 0) add_level(script, axes->zero);
    Str plots = {0};
    for (int s = 0; s < plot->series_count; s++) {
        add_data(script, &p, s);
        add_hidden(script, &plots, &p, s);
    }
    bool some_hidden = plots.count > 0;
    for (int s = 0; s < plot->series_count; s++) add_series(&plots, plot, s, some_hidden);
    /* NaN: so that there is something to plot, come what may */
    str_printf(script, "plot NaN notitle%s\n", plots.count ? plots.data : "");
    str_free(&plots);
    field_free(&p.field);
    free(p.labels);
    free(p.words);
}

static void add_style(Str *script) {
    str_printf(script,
               "set border 3 linecolor rgb '#888888'\n"
               "set tics nomirror out scale 0.5 textcolor rgb '#333333'\n"
               "set grid linetype 1 linewidth 1 linecolor rgb '#e6e6e6'\n"
               "set format '%%g'\n"
               "set boxwidth %g\n",
               PLOT_BAR_WIDTH);
}

static void add_margins(Str *script, LabelBox frame, int width, int height) {
    str_printf(script,
               "set lmargin at screen %.5f\nset rmargin at screen %.5f\n"
               "set bmargin at screen %.5f\nset tmargin at screen %.5f\n",
               frame.left / width, frame.right / width, frame.bottom / height, frame.top / height);
}

void picture_write(Str *script, const Plot *plot, const char *path) {
    int width = plot->width ? plot->width : 960, height = plot->height  ? plot->height
                                                          : plot->below ? 760
                                                                        : 540;
    Axes axes = axes_of(plot);
    LabelBox frame = {plot->below ? 110 : 80, 64, width - 31, height - 3 * LINE};
    int rows = key_rows(plot, &axes, frame);
    double above = rows > 0 ? 3.5 + rows : plot->title ? 3 : 1.5; /* lines, of the title and the key */
    frame.top = height - above * LINE;
    gnuplot_terminal(script, path, width, height);
    add_style(script);
    char place[60];
    snprintf(place, sizeof place, "at screen 0.5, %.4f center font ',14'", 1 - 24.0 / height);
    add_text(script, "label", plot->title, place); /* gnuplot's own title is under the key */
    if (!plot->below) {                            /* gnuplot knows how much room its numbers need */
        str_printf(script, "set rmargin 3\nset tmargin %g\n", above);
        panel_write(script, plot, &axes, frame, rows);
        return;
    }
    Axes axes_below = axes_of(plot->below);
    axes_below.x = axes.x;
    LabelBox below = frame;
    below.top = frame.bottom + 0.36 * (frame.top - frame.bottom);
    int rows_below = key_rows(plot->below, &axes_below, below);
    frame.bottom = below.top + (rows_below > 0 ? 1.5 + rows_below : 1) * LINE;
    str_printf(script, "set multiplot\n");
    add_margins(script, frame, width, height);
    str_printf(script, "set format x ''\n");
    panel_write(script, plot, &axes, frame, rows);
    str_printf(script, "reset\n");
    add_style(script);
    add_margins(script, below, width, height);
    panel_write(script, plot->below, &axes_below, below, rows_below);
    str_printf(script, "unset multiplot\n");
}
