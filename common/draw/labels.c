#include "common/draw/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pixels: between a point and its label; to the next places further out, where a leader is drawn; between a line
 * across the picture and its label. */
static const double GAP = 7, RING = 8, LINE_GAP = 3;
/* A place is the better the lower its cost. These are beside the pixels between label and point. */
static const double COST_OF_CURVE = 24, COST_OF_SIDE = 0.5;

double label_width(const char *text, double font) {
    double width = 0; /* of DejaVu Sans, in parts of the font's size */
    for (; *text; text++) {
        if (((unsigned char)*text & 0xc0) == 0x80) continue; /* inside of a letter */
        width += strchr("iljtfr.,:;'|()[] I", *text) ? 0.4
                 : strchr("mwMW@%+=<>", *text)       ? 0.98
                 : *text >= 'A' && *text <= 'Z'      ? 0.75
                                                     : 0.64;
    }
    return width * font;
}

/* ---- boxes and lines ---- */

bool label_boxes_meet(LabelBox a, LabelBox b) {
    return a.left < b.right && b.left < a.right && a.bottom < b.top && b.bottom < a.top;
}

static bool inside(LabelBox a, LabelBox frame) {
    return a.left >= frame.left && a.right <= frame.right && a.bottom >= frame.bottom && a.top <= frame.top;
}

/* Cuts [*from, *to], the part of a line that is still there, to where start + t * step lies in [low, high]. */
static void clip(double start, double step, double low, double high, double *from, double *to) {
    double a = (low - start) / step, b = (high - start) / step;
    if (step == 0) {
        if (start <= low || start >= high) *to = *from - 1;
        return;
    }
    *from = fmax(*from, fmin(a, b));
    *to = fmin(*to, fmax(a, b));
}

static bool line_meets(LabelLine l, LabelBox b) {
    double from = 0, to = 1;
    clip(l.x1, l.x2 - l.x1, b.left, b.right, &from, &to);
    clip(l.y1, l.y2 - l.y1, b.bottom, b.top, &from, &to);
    return from <= to;
}

int64_t labels_covered(const LabelField *field, LabelBox box) {
    int64_t count = 0;
    for (int64_t i = 0; i < field->point_count; i++) count += label_boxes_meet(field->points[i], box);
    for (int64_t i = 0; i < field->curve_count; i++) count += line_meets(field->curves[i], box);
    return count;
}

/* ---- places ---- */

/* What stands already: the labels that are placed. */
typedef struct {
    const LabelField *field;
    const Label *labels;
    int count;
} Scene;

static LabelBox point_of(const Label *l) { return (LabelBox){l->x - 1, l->y - 1, l->x + 1, l->y + 1}; }

/* A leader may only touch what stands where it begins. */
static bool free_of_labels(const Scene *s, const Label *at) {
    LabelBox begin = point_of(at);
    if (!inside(at->box, s->field->frame)) return false;
    for (int i = 0; i < s->count; i++) {
        const Label *other = &s->labels[i];
        if (!other->placed) continue;
        if (label_boxes_meet(at->box, other->box)) return false;
        if (other->has_leader && line_meets(other->leader, at->box)) return false;
        if (at->has_leader && line_meets(at->leader, other->box) && !label_boxes_meet(other->box, begin))
            return false;
    }
    return true;
}

static bool free_of_points(const Scene *s, const Label *at) {
    LabelBox begin = point_of(at);
    for (int64_t i = 0; i < s->field->point_count; i++) {
        LabelBox point = s->field->points[i];
        if (label_boxes_meet(point, at->box)) return false;
        if (at->has_leader && line_meets(at->leader, point) && !label_boxes_meet(point, begin)) return false;
    }
    return true;
}

/* Of the pieces of curves that `box` would stand on or touch. */
static double cost_of_curves(const LabelField *field, LabelBox box) {
    static const double WIDTH = 2; /* about half of a line's */
    LabelBox wide = {box.left - WIDTH, box.bottom - WIDTH, box.right + WIDTH, box.top + WIDTH};
    LabelField curves = *field;
    curves.point_count = 0;
    return COST_OF_CURVE * (double)labels_covered(&curves, wide);
}

static double cost_of_points(const LabelField *field, LabelBox box) {
    LabelField points = *field;
    points.curve_count = 0;
    return COST_OF_CURVE * (double)labels_covered(&points, box);
}

static LabelBox box_around(double x, double y, const Label *l) {
    return (LabelBox){x - l->width / 2, y - l->height / 2, x + l->width / 2, y + l->height / 2};
}

/* Beside the point: the usual places first. (1,0): on its right, in the middle; (1,1): on its right and above. */
static const double beside[][2] = {{1, 0},  {1, 1},   {1, -1},  {0, 1},    {0, -1},   {-1, 0},
                                   {-1, 1}, {-1, -1}, {0.5, 1}, {0.5, -1}, {-0.5, 1}, {-0.5, -1}};
enum { AROUND = 48 }; /* places in each ring further out */

/* Place k in the ring at `distance`: the box touches, from outside, a rectangle of that distance around the point. */
static void try_place(Label *try, double distance, int k) {
    double sx, sy;
    try->has_leader = distance > GAP;
    if (try->has_leader) {
        double angle = 2 * acos(-1) * k / AROUND;
        sx = fmin(fmax(1.42 * cos(angle), -1), 1);
        sy = fmin(fmax(1.42 * sin(angle), -1), 1);
    } else {
        sx = beside[k][0], sy = beside[k][1];
        if (sx != 0 && sy != 0) distance *= 0.7;
    }
    try->box = box_around(try->x + sx * (try->width / 2 + distance),
                          try->y + sy * (try->height / 2 + distance), try);
    try->leader = (LabelLine){try->x, try->y, fmin(fmax(try->x, try->box.left), try->box.right),
                              fmin(fmax(try->y, try->box.bottom), try->box.top)};
}

static void place_at(const Scene *s, Label *label, int first_ring) {
    LabelBox frame = s->field->frame;
    double best = INFINITY, most = fmax(frame.right - frame.left, frame.top - frame.bottom);
    Label try = *label;
    for (double distance = GAP + first_ring * RING; distance < most && distance - GAP < best;
         distance += RING)
        for (int k = 0; k < (distance > GAP ? AROUND : COUNT_OF(beside)); k++) {
            try_place(&try, distance, k);
            double cost = try.has_leader ? distance : COST_OF_SIDE * k;
            if (cost >= best || !free_of_labels(s, &try) || !free_of_points(s, &try)) continue;
            cost += cost_of_curves(s->field, try.box);
            if (cost >= best) continue;
            best = cost;
            *label = try;
            label->placed = true;
        }
}

/* From the right to the left, above and below. */
static void place_along(const Scene *s, Label *label) {
    LabelBox frame = s->field->frame;
    double best = INFINITY, height = label->height / 2 + LINE_GAP;
    double first = frame.right - label->width / 2 - GAP, stride = label->width / 4;
    Label try = *label;
    for (int step = 0; first - step * stride > frame.left; step++)
        for (int other = 0; other < 2; other++) {
            double x = first - step * stride;
            bool above = (label->kind == LABEL_ABOVE) != other;
            try.box = box_around(x, label->y + (above ? height : -height), label);
            double cost = 0.02 * (frame.right - x) + COST_OF_SIDE * other;
            if (cost >= best || !free_of_labels(s, &try)) continue;
            cost += cost_of_curves(s->field, try.box) + cost_of_points(s->field, try.box);
            if (cost >= best) continue;
            best = cost;
            *label = try;
            label->placed = true;
        }
}

/* One label after the other, label i not nearer than first_ring[i]; how many have a place. */
static int place_all(const LabelField *field, Label *labels, int count, const int *first_ring) {
    Scene scene = {field, labels, count};
    int placed = 0;
    for (int i = 0; i < count; i++) {
        labels[i].placed = labels[i].kind == LABEL_FIXED;
        labels[i].has_leader = false;
    }
    for (int i = 0; i < count; i++) {
        if (labels[i].kind == LABEL_AT) place_at(&scene, &labels[i], first_ring[i]);
        if (labels[i].kind == LABEL_ABOVE || labels[i].kind == LABEL_BELOW) place_along(&scene, &labels[i]);
        placed += labels[i].placed;
    }
    return placed;
}

/* The neighbours of labels without a place stand further away in the next round. */
static void make_room(const Label *labels, int count, int *first_ring) {
    static const double NEAR = 60;
    for (int i = 0; i < count; i++) {
        bool crowded = false;
        for (int j = 0; j < count; j++)
            crowded |= !labels[j].placed && fabs(labels[j].x - labels[i].x) < NEAR &&
                       fabs(labels[j].y - labels[i].y) < NEAR;
        first_ring[i] += crowded;
    }
}

void labels_place(const LabelField *field, Label *labels, int count) {
    enum { ROUNDS = 12 };
    size_t bytes = (size_t)count * sizeof *labels;
    Label *round = xmalloc(bytes);
    int *first_ring = xcalloc((size_t)count + 1, sizeof *first_ring);
    int most = -1;
    memcpy(round, labels, bytes);
    for (int r = 0; r < ROUNDS && most < count; r++) {
        int placed = place_all(field, round, count, first_ring);
        if (placed > most) {
            most = placed;
            memcpy(labels, round, bytes);
        }
        make_room(round, count, first_ring);
    }
    free(round);
    free(first_ring);
}
