/* labels: where the words in a picture stand, so that none stands on another one, on a point or outside. Plain
 * geometry in pixels, y upwards; the same input gives the same places. */
#ifndef LABELS_H
#define LABELS_H

#include "common/base/base.h"

typedef struct {
    double left, bottom, right, top;
} LabelBox;

typedef struct {
    double x1, y1, x2, y2;
} LabelLine;

/* LABEL_AT a point (x,y), on any side of it, further away with a leader (a thin line to its point) where there is no room.
 * LABEL_ABOVE and LABEL_BELOW a line across the picture at y, as far to the right as there is room, on the other side
 * where there is none; x does not count. LABEL_FIXED: stands at `box` whatever comes. */
typedef enum { LABEL_AT, LABEL_ABOVE, LABEL_BELOW, LABEL_FIXED } LabelKind;

typedef struct {
    LabelKind kind;
    double x, y;
    double width, height; /* of the text */
    /* what labels_place finds out: */
    bool placed; /* false: there is no room, leave it out */
    LabelBox box;
    bool has_leader;
    LabelLine leader;
} Label;

/* What the labels are placed between. A label stands inside the frame and on no other label; one that belongs to a point
 * stands on no point at all. On a curve labels stand only where all other places are worse. */
typedef struct {
    LabelBox frame;
    const LabelBox *points; /* as large as they are drawn */
    int64_t point_count;
    const LabelLine *curves; /* in pieces */
    int64_t curve_count;
} LabelField;

/* Finds places for count labels, one after the other, those that are LABEL_FIXED before all others. */
void labels_place(const LabelField *field, Label *labels, int count);
/* The points and pieces of curves that touch `box`. */
int64_t labels_covered(const LabelField *field, LabelBox box);
bool label_boxes_meet(LabelBox a, LabelBox b);

/* The width of a line of UTF-8 text in pixels, in a sans-serif font of so many pixels: an estimate, rather too large. */
double label_width(const char *text, double font);

#endif
