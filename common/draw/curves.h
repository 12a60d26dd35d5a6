/* curves: what a picture over two axes is to show. plots.h draws it. */
#ifndef CURVES_H
#define CURVES_H

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

typedef struct Plot {
    const char *title, *x_label, *y_label; /* UTF-8, taken literally; NULL: none */
    bool log_x, log_y;
    bool y_from_zero; /* so that lengths can be compared; not with log_y */
    const char *
        zero_label; /* on a log scale: points at y = 0 are drawn too, on a line of this name below all others.
                               NULL: they leave a gap */
    const PlotSeries *series;
    int series_count;
    const PlotLevel *levels;
    int level_count;
    int width, height;        /* pixels of the whole picture; 0: 960 x 540, or 760 with a second panel */
    const struct Plot *below; /* NULL, or a second panel with the same x axis, whose words are its own; its
                                 title, size and below do not count */
} Plot;

#endif
