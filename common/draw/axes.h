/* axes: the ranges of a panel, where a number stands between them, and the marks of a log scale. */
#ifndef AXES_H
#define AXES_H

#include "common/draw/curves.h"

typedef struct {
    double low, high;
} Range;

typedef struct {
    bool log_x, log_y;
    bool whole_x;   /* all x are whole numbers, such as steps or devices: no mark between them */
    Range x, y;     /* of the whole axes */
    double numbers; /* y from here up is marked with numbers */
    double zero;    /* where y = 0 stands on a log scale; 0: nowhere */
} Axes;

/* What is seen: all points and levels, and some room; one unit around where there is nothing or one value. */
Axes axes_of(const Plot *plot);
/* Whether point i of the series, the level, is one that can be drawn. */
bool axes_show_point(const Plot *plot, const PlotSeries *series, int64_t i);
bool axes_show_level(const Plot *plot, const PlotLevel *level);
/* Whether the space below its points belongs to the series. */
bool axes_filled(const PlotSeries *series);
/* Where point i stands: its x; its y, or the place of zero. */
double axes_point_x(const PlotSeries *series, int64_t i);
double axes_point_y(const Axes *axes, const PlotSeries *series, int64_t i);
/* 0 at the lower end of the axis, 1 at its upper end. */
double axes_x_part(const Axes *axes, double x);
double axes_y_part(const Axes *axes, double y);
/* Sets both axes, of so many pixels; the marks of `plot` instead of numbers, where it has some. */
void axes_write(Str *script, const Axes *axes, const Plot *plot, double width, double height);

#endif
