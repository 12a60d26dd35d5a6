#include "common/draw/rows.h"

#include "common/draw/gnuplot.h"
#include "common/draw/labels.h"

/* pixels above and below the rows */
enum { TITLE = 40, KEY = 26, AXIS = 62 };
static const double KEY_FONT = 11, GAP = 7, PIXELS_OF_POINT = 4.0 / 3;

static double picture_height(const Rows *rows) { return TITLE + KEY + rows->height + AXIS; }

/* From pixels of the picture, from its upper left corner, to gnuplot's screen. */
static double screen_x(double x) { return x / ROWS_WIDTH; }
static double screen_y(const Rows *rows, double y) { return 1 - y / picture_height(rows); }

double rows_width(const Rows *rows) { return ROWS_WIDTH - rows->left - rows->right; }

void rows_begin(Str *script, const Rows *rows, const char *path) {
    gnuplot_terminal(script, path, ROWS_WIDTH, (int)(picture_height(rows) + 0.5));
    str_printf(script,
               "set lmargin at screen %.6f\nset rmargin at screen %.6f\nset tmargin at screen %.6f\nset "
               "bmargin at screen %.6f\n",
               screen_x(rows->left), screen_x(ROWS_WIDTH - rows->right), screen_y(rows, TITLE + KEY),
               screen_y(rows, TITLE + KEY + rows->height));
    if (rows->title) {
        str_printf(script, "set label ");
        gnuplot_quoted(script, rows->title);
        str_printf(script, " at screen 0.5,screen %.6f center font 'Sans,14' textcolor rgb '#222222'\n",
                   screen_y(rows, TITLE / 2.0));
    }
    str_printf(script, "set xlabel ");
    gnuplot_quoted(script, rows->x_label);
    str_printf(
        script,
        " textcolor rgb '#333333'\nset xrange [0:%.9g]\nset yrange [%.9g:0]\nset border 1 linecolor rgb "
        "'#888888'\nset xtics nomirror out scale 0.5 textcolor rgb '#333333'\nset format x '%%g'\n"
        "unset ytics\nunset key\n",
        rows->longest, rows->height);
}

static void beside(Str *script, const char *text, double x, double y, const char *side) {
    str_printf(script, "set label ");
    gnuplot_quoted(script, text);
    str_printf(script, " at screen %.6f,first %.9g %s font 'Sans,9' textcolor rgb '#333333'\n", screen_x(x),
               y, side);
}

void rows_name(Str *script, const Rows *rows, const char *name, double y) {
    beside(script, name, rows->left - GAP, y, "right");
}

void rows_note(Str *script, const Rows *rows, const char *note, double y) {
    beside(script, note, ROWS_WIDTH - rows->right + GAP, y, "left");
}

void rows_text(Str *script, const char *text, double x, double y, double font) {
    str_printf(script, "set label ");
    gnuplot_quoted(script, text);
    str_printf(script, " at %.9g,%.9g left font 'Sans,%g' front textcolor rgb '#222222'\n", x,
               y - PIXELS_OF_POINT * font / 2, font);
}

double rows_key_color(Str *script, const Rows *rows, double x, const char *color) {
    static const double SIDE = 14;
    double middle = TITLE + KEY / 2.0;
    str_printf(script,
               "set object rectangle from screen %.6f,screen %.6f to screen %.6f,screen %.6f fillstyle solid "
               "border rgb '#444444' linewidth 0.5 fillcolor rgb '#%s'\n",
               screen_x(x), screen_y(rows, middle + SIDE / 2), screen_x(x + SIDE),
               screen_y(rows, middle - SIDE / 2), color);
    return x + SIDE;
}

double rows_key_text(Str *script, const Rows *rows, double x, const char *text) {
    static const double BEHIND = 22;
    str_printf(script, "set label ");
    gnuplot_quoted(script, text);
    str_printf(script, " at screen %.6f,screen %.6f left font 'Sans,%g' textcolor rgb '#333333'\n",
               screen_x(x + GAP), screen_y(rows, TITLE + KEY / 2.0), KEY_FONT);
    return x + GAP + label_width(text, PIXELS_OF_POINT * KEY_FONT) + BEHIND;
}

bool rows_end(Str *script, const char *plots, const char *path) {
    str_printf(script, "plot NaN%s\n", plots);
    GnuplotJob job;
    return gnuplot_start(&job, script, path) && gnuplot_wait(&job);
}
