#include "common/draw/plots.h"

#include "common/draw/gnuplot.h"
#include "common/draw/panel.h"

static GnuplotJob behind;

static bool start(GnuplotJob *job, const Plot *plot, const char *path) {
    Str script = {0};
    picture_write(&script, plot, path);
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
