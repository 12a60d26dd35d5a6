/* steps: how something changes over time on each of several devices: a row for each, with the same scales, in which it is filled
 * from 0 up, and a line at the level that it is held against. Of a second curve, for comparison, only the line is drawn. */
#ifndef STEPS_H
#define STEPS_H

#include "common/base/base.h"

/* y[i] from x[i] on until x[i + 1]; the last one has no width. */
typedef struct {
    const double *x, *y;
    int64_t count;
} StepsCurve;

enum { STEPS_CURVES = 2 };
typedef struct {
    const char *name;               /* at its left */
    StepsCurve curve[STEPS_CURVES]; /* count 0: none */
    double level;                   /* NAN: none */
    const char *level_label;        /* at its right */
} StepsRow;

typedef struct {
    const char *title, *x_label;            /* title NULL: none */
    const char *curve_labels[STEPS_CURVES]; /* the key; NULL: none */
    double longest;                         /* of the x axis, which begins at 0 */
    const StepsRow *rows;
    int count;
} Steps;

/* Draws into `path` (.svg: SVG, anything else: PNG) and waits for it. False, after a warning, when that failed. */
bool steps_draw(const Steps *steps, const char *path);

#endif
