#include "common/draw/boxes.h"

#include "common/draw/gnuplot.h"

/* Behind `set label`: what, where, how large. */
static void add_text(Str *script, const char *text, double x, double y, double font) {
    str_printf(script, "set label ");
    gnuplot_quoted(script, text);
    str_printf(script, " at %.9g,%.9g center front font ',%g' textcolor rgb '#222222'\n", x, y, font);
}

static void add_box(Str *script, const Box *b) {
    if (b->color >= 0) {
        str_printf(script, "set object rectangle from %.9g,%.9g to %.9g,%.9g fillstyle ", b->x, b->y,
                   b->x + b->width, b->y + b->height);
        if (b->color > 0)
            str_printf(script, "solid 0.45 noborder fillcolor rgb '#%s'\n", gnuplot_color(b->color));
        else
            str_printf(script, "empty border linecolor rgb '#333333' linewidth 1.5\n");
    }
    if (b->text)
        add_text(script, b->text, b->x + b->width / 2, b->y + b->height / 2, b->font > 0 ? b->font : 11);
}

bool boxes_draw(const Boxes *boxes, const char *path) {
    const double title = boxes->title ? 1.0 : 0;
    double height = boxes->height + title; /* the title stands above, at y < 0 */
    Str script = {0};
    gnuplot_terminal(&script, path, (int)(boxes->width * boxes->pixels), (int)(height * boxes->pixels));
    str_printf(&script,
               "unset border\nunset tics\nunset key\n"
               "set lmargin 0\nset rmargin 0\nset tmargin 0\nset bmargin 0\n"
               "set xrange [0:%.9g]\nset yrange [%.9g:%.9g]\n",
               boxes->width, boxes->height, -title);
    if (boxes->title) add_text(&script, boxes->title, boxes->width / 2, -title / 2, 14);
    for (int i = 0; i < boxes->count; i++) add_box(&script, &boxes->boxes[i]);
    str_printf(&script, "plot NaN\n");
    GnuplotJob job;
    bool drawn = gnuplot_start(&job, &script, path) && gnuplot_wait(&job);
    str_free(&script);
    return drawn;
}
