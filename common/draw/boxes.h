/* boxes: a picture of coloured rectangles with words in them, for what is laid out in space rather than over time:
 * which device holds what. Drawn by gnuplot, as plots.h says. */
#ifndef BOXES_H
#define BOXES_H

#include "common/base/base.h"

/* x, y: the upper left corner, in units of the picture; y points down. */
typedef struct {
    double x, y, width, height;
    int color;        /* 0: an empty frame; -1: words alone; 1 and up as in plots.h, pale */
    const char *text; /* UTF-8, in the middle; NULL: none */
    double font;      /* size of the letters in points; 0: 11 */
} Box;

typedef struct {
    const char *title; /* NULL: none */
    const Box *boxes;  /* drawn in this order, so a frame may come over its parts */
    int count;
    double width, height; /* of all that is to be seen, in units */
    int pixels;           /* of one unit */
} Boxes;

/* Draws into `path` (.svg: SVG, anything else: PNG) and waits for it. False, after a warning, when that failed. */
bool boxes_draw(const Boxes *boxes, const char *path);

#endif
