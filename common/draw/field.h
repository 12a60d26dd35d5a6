/* field: the curves of a panel in pixels: what words must not stand on, and which curves hide others. */
#ifndef FIELD_H
#define FIELD_H

#include "common/draw/axes.h"
#include "common/draw/labels.h"

typedef struct {
    const Plot *plot;
    Axes axes;
    LabelBox frame;    /* around the curves, in pixels of the picture, y upwards */
    LabelField curves; /* the curves and levels as pieces of lines; their points, and what is filled */
} Field;

Field field_of(const Plot *plot, const Axes *axes, LabelBox frame);
void field_free(Field *field);
/* Pixels: of two numbers on the axes; of point i of a series. */
double field_x(const Field *field, double x);
double field_y(const Field *field, double y);
double field_point_x(const Field *field, const PlotSeries *series, int64_t i);
double field_point_y(const Field *field, const PlotSeries *series, int64_t i);
/* hidden (one a point of curve s): how many later curves lie over the piece of the line that ends at the point. The
 * largest of them. */
int field_hidden(const Field *field, int s, int *hidden);

#endif
