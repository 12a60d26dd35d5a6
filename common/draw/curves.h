/* curves: what a picture over two axes is to show. plots.h draws it. */
#ifndef CURVES_H
#define CURVES_H

#include "common/base/base.h"

/* The last two are filled from 0 up to their points, so not with log_y, and each lies over those before it: sums of fewer and
 * fewer parts, one series each, make a stack. A bar is PLOT_BAR_WIDTH of x wide, with its point in the middle. */
typedef enum {
    PLOT_LINE,
    PLOT_THIN_LINE,
    PLOT_POINTS,
    PLOT_LINE_POINTS,
    PLOT_DASHED,
    PLOT_AREA,
    PLOT_BARS
} PlotStyle;
#define PLOT_BAR_WIDTH 0.8

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

/* A text below the x axis, in the place of a number; line 1: below those of line 0. */
typedef struct {
    double x;
    int line;
    const char *text;
} PlotMark;

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
    const PlotMark *marks; /* NULL: numbers */
    int mark_count;
    int width, height;        /* pixels of the whole picture; 0: 960 x 540, or 760 with a second panel */
    const struct Plot *below; /* NULL, or a second panel with the same x axis, whose words are its own; its
                                 title, size and below do not count */
} Plot;

#endif
