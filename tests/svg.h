/* svg: where things are in the pictures that gnuplot draws as SVG. */
#ifndef TESTS_SVG_H
#define TESTS_SVG_H

#include "common/base/base.h"

#include <stdlib.h>
#include <string.h>

/* Where the text stands, in units of the picture from its upper left corner; false when it does not. */
static inline bool svg_text_place(const char *svg, const char *text, double *x, double *y) {
    static const char before[] = "translate(";
    char *piece = xprintf("<text>%s</text>", text);
    const char *at = strstr(svg, piece), *place = NULL;
    for (const char *p = svg; at && (p = strstr(p, before)) && p < at; p++) place = p;
    free(piece);
    return place && sscanf(place + strlen(before), "%lf,%lf", x, y) == 2;
}

typedef struct {
    unsigned red, green, blue;
    double left, top, right, bottom;
} SvgBox;

/* The filled rectangles of the picture, in the order in which they are drawn: `most` of them at most; returns how many. */
static inline int svg_boxes(const char *svg, SvgBox *boxes, int most) {
    int count = 0;
    for (const char *at = svg; count < most && (at = strstr(at, "<polygon fill = ")); at++) {
        SvgBox *b = &boxes[count];
        double x1, y1, x2, y2, x3, y3; /* corners, one after the other around it */
        if (sscanf(at, "<polygon fill = 'rgb(%u, %u, %u)' points = '%lf,%lf %lf,%lf %lf,%lf", &b->red,
                   &b->green, &b->blue, &x1, &y1, &x2, &y2, &x3, &y3) != 9)
            continue;
        *b = (SvgBox){
            b->red,           b->green, b->blue, x1 < x3 ? x1 : x3, y1 < y3 ? y1 : y3, x1 < x3 ? x3 : x1,
            y1 < y3 ? y3 : y1};
        count++;
    }
    return count;
}

#endif
