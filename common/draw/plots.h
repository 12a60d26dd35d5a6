/* plots: pictures, drawn by gnuplot. A run never depends on them: where gnuplot is missing, fails or hangs
 * there is one warning with a hint, and the program goes on (gnuplot.h says how). */
#ifndef PLOTS_H
#define PLOTS_H

#include "common/base/base.h"

typedef enum { PLOT_LINE, PLOT_THIN_LINE, PLOT_POINTS, PLOT_LINE_POINTS, PLOT_DASHED } PlotStyle;

/* One curve. Points that are not finite (or not above 0 on a log scale) leave a gap. */
typedef struct {
    const char *label; /* in the key; NULL: not there */
    const double *x;   /* count; NULL: 0, 1, 2 ... */
    const double *y;   /* count */
    int64_t count;
    PlotStyle style;
    int color;                /* 0: its place in the list; 1 and up: the place it shares its colour with */
    const char *const *texts; /* count, one beside each point; NULL: none */
} PlotSeries;

/* A dashed line across the picture, with its label at it. Left out when y is not finite. */
typedef struct {
    double y;
    const char *label;
} PlotLevel;

typedef struct {
    const char *title, *x_label, *y_label; /* UTF-8, taken literally; NULL: none */
    bool log_x, log_y;
    bool y_from_zero; /* so that lengths can be compared; not with log_y */
    bool key_low;     /* the key stands in the lower right corner */
    const PlotSeries *series;
    int series_count;
    const PlotLevel *levels;
    int level_count;
    int width, height; /* pixels; 0: 960 x 540 */
} Plot;

/* Draws into `path` (.svg: SVG, anything else: PNG) and waits for it. False, after a warning,
 * when that failed. */
bool plot_draw(const Plot *plot, const char *path);
/* Starts drawing and returns; left out when the picture before is still being drawn. For
 * redrawing in training. */
bool plot_draw_behind(const Plot *plot, const char *path);
/* Waits for the picture that plot_draw_behind began, if any. */
void plot_wait(void);

#endif
