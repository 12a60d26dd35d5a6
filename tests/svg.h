/* svg: where things are in the pictures that gnuplot draws as SVG. */
#ifndef TESTS_SVG_H
#define TESTS_SVG_H

#include "common/base/base.h"

#include <stdlib.h>
#include <string.h>

/* Where the text stands, in units of the picture from its upper left corner; false when it does not. */
static bool svg_text_place(const char *svg, const char *text, double *x, double *y) {
    static const char before[] = "translate(";
    char *piece = xprintf("<text>%s</text>", text);
    const char *at = strstr(svg, piece), *place = NULL;
    for (const char *p = svg; at && (p = strstr(p, before)) && p < at; p++) place = p;
    free(piece);
    return place && sscanf(place + strlen(before), "%lf,%lf", x, y) == 2;
}

#endif
