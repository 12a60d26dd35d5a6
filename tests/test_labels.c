/* TEST variants: float asan
 * Labels: whatever points there are, no label stands on another one, on a point, on a leader or outside the frame; the
 * usual place where there is room, a leader where it is far, none where there is no place at all. */
#include "common/draw/labels.h"
#include "tests/tap.h"

#include <string.h>

static const LabelBox frame = {100, 50, 900, 500};

/* Whether the line from (x1,y1) to (x2,y2) comes into the box: looked for in small steps. */
static bool line_enters(LabelLine l, LabelBox b) {
    bool inside = false;
    for (int i = 1; i < 1000; i++) {
        double t = i / 1000.0, x = l.x1 + t * (l.x2 - l.x1), y = l.y1 + t * (l.y2 - l.y1);
        inside |= x > b.left + 0.01 && x < b.right - 0.01 && y > b.bottom + 0.01 && y < b.top - 0.01;
    }
    return inside;
}

static bool overlap(LabelBox a, LabelBox b) {
    return fmax(a.left, b.left) < fmin(a.right, b.right) && fmax(a.bottom, b.bottom) < fmin(a.top, b.top);
}

/* What is wrong with the labels, "" when nothing is. */
static const char *fault(const LabelField *f, const Label *labels, int count) {
    for (int i = 0; i < count; i++) {
        const Label *a = &labels[i];
        if (!a->placed) continue;
        if (a->kind != LABEL_FIXED && (fabs(a->box.right - a->box.left - a->width) > 1e-9 ||
                                       fabs(a->box.top - a->box.bottom - a->height) > 1e-9))
            return "a box is not as large as its text";
        if (a->box.left < f->frame.left || a->box.right > f->frame.right || a->box.bottom < f->frame.bottom ||
            a->box.top > f->frame.top)
            return "a label is outside the frame";
        for (int64_t p = 0; a->kind == LABEL_AT && p < f->point_count; p++)
            if (overlap(a->box, f->points[p])) return "a label stands on a point";
        if (a->has_leader && (a->leader.x1 != a->x || a->leader.y1 != a->y))
            return "a leader begins elsewhere";
        for (int j = 0; j < count; j++) {
            const Label *b = &labels[j];
            if (j == i || !b->placed) continue;
            if (overlap(a->box, b->box)) return "two labels overlap";
            LabelBox begin = {b->x - 1, b->y - 1, b->x + 1, b->y + 1};
            if (b->has_leader && !overlap(begin, a->box) && line_enters(b->leader, a->box))
                return "a leader runs through a label";
        }
    }
    return "";
}

static int placed(const Label *labels, int count) {
    int n = 0;
    for (int i = 0; i < count; i++) n += labels[i].placed;
    return n;
}

static uint32_t state = 1;
static double random_up_to(double limit) {
    state = state * 1664525u + 1013904223u;
    return limit * (state >> 8) / (1 << 24);
}

enum { MOST = 60, ROUNDS = 6 };
typedef struct {
    LabelBox points[MOST];
    Label labels[MOST];
} Scene;

static LabelField scene_field(const Scene *s, int count) {
    return (LabelField){.frame = frame, .points = s->points, .point_count = count};
}

static void put(Scene *s, int i, double x, double y, double width) {
    s->points[i] = (LabelBox){x - 3, y - 3, x + 3, y + 3};
    s->labels[i] = (Label){.kind = LABEL_AT, .x = x, .y = y, .width = width, .height = 13};
}

static void test_crowds(void) {
    static Scene s, again;
    const struct {
        const char *what;
        int count;
        double spread_x, spread_y;
    } crowds[] = {{"all over the frame", MOST, 800, 450},
                  {"in a heap", 30, 120, 60},
                  {"on one place", 20, 0, 0},
                  {"in a column", 30, 0, 200},
                  {"in a row", 30, 300, 0}};
    for (int c = 0; c < COUNT_OF(crowds); c++) {
        int n = crowds[c].count, many = 0;
        const char *wrong = "";
        bool same = true;
        for (int round = 0; round < ROUNDS; round++) {
            for (int i = 0; i < n; i++)
                put(&s, i, 500 + random_up_to(crowds[c].spread_x) - crowds[c].spread_x / 2,
                    275 + random_up_to(crowds[c].spread_y) - crowds[c].spread_y / 2, 20 + random_up_to(60));
            LabelField f = scene_field(&s, n);
            again = s;
            labels_place(&f, s.labels, n);
            labels_place(&f, again.labels, n);
            for (int i = 0; i < n; i++)
                same &= !memcmp(&s.labels[i].box, &again.labels[i].box, sizeof(LabelBox));
            if (!*wrong) wrong = fault(&f, s.labels, n);
            many += placed(s.labels, n);
        }
        ok(!*wrong, "points %s: nothing stands on anything %s", crowds[c].what, wrong);
        ok(100 * many >= 98 * ROUNDS * n, "points %s: %d of %d labels have a place", crowds[c].what, many,
           ROUNDS * n);
        ok(same, "points %s: the same places the second time", crowds[c].what);
    }
}

/* The points of a roofline whose labels stood on each other: pixels from the upper left corner of 1100 x 720. */
static void test_roofline(void) {
    static const struct {
        double x, y;
        const char *text;
    } at[] = {
        {125, 545, "add"},       {159, 575, "embedding"}, {403, 284, "layernorm"}, {447, 275, "gelu"},
        {835, 160, "attention"}, {869, 93, "linear"},     {987, 100, "head_loss"}, {174, 628, "head_loss"},
        {388, 254, "layernorm"}, {475, 238, "gelu"},      {135, 500, "embedding"}, {155, 421, "head_loss"},
        {337, 326, "layernorm"}, {338, 407, "squares"},   {346, 299, "adamw"},     {854, 96, "linear"}};
    static Scene s;
    for (int i = 0; i < COUNT_OF(at); i++) put(&s, i, at[i].x, 720 - at[i].y, label_width(at[i].text, 13.3));
    LabelField f = scene_field(&s, COUNT_OF(at));
    f.frame = (LabelBox){78, 64, 1069, 663};
    labels_place(&f, s.labels, COUNT_OF(at));
    const char *wrong = fault(&f, s.labels, COUNT_OF(at));
    ok(!*wrong && placed(s.labels, COUNT_OF(at)) == COUNT_OF(at), "a roofline: all labels have a place %s",
       wrong);
    int leaders = 0;
    for (int i = 0; i < COUNT_OF(at); i++) leaders += s.labels[i].has_leader;
    ok(leaders <= 2, "most of them beside their points: %d leaders", leaders);
}

static void test_places(void) {
    static Scene s;
    put(&s, 0, 400, 300, 50);
    LabelField f = scene_field(&s, 1);
    labels_place(&f, s.labels, 1);
    const Label *l = &s.labels[0];
    ok(l->placed && !l->has_leader && l->box.left > 403 && l->box.bottom == 300 - 6.5,
       "alone: on the right of its point");
    put(&s, 0, 880, 300, 50);
    labels_place(&f, s.labels, 1);
    ok(l->placed && l->box.right <= 900 && !*fault(&f, l, 1), "at the right border: on another side");
    put(&s, 0, 400, 300, 50);
    f.curves = &(LabelLine){300, 300, 700, 300}, f.curve_count = 1;
    labels_place(&f, s.labels, 1);
    ok(l->placed && !line_enters(f.curves[0], l->box), "beside a curve, not on it");
    s.labels[1] = (Label){.kind = LABEL_FIXED, .box = {300, 200, 900, 400}}; /* a key over the point */
    labels_place(&f, s.labels, 2);
    ok(l->placed && l->has_leader && !overlap(l->box, s.labels[1].box),
       "out from under the key, with a leader");
    put(&s, 0, 400, 300, 900);
    labels_place(&f, s.labels, 1);
    ok(!l->placed, "wider than the frame: no place");
    ok(label_width("layernorm", 10) > 50 && label_width("layernorm", 10) < 75,
       "width: about as wide as it is drawn");
    ok(label_width("é", 10) == label_width("e", 10) || label_width("é", 10) == label_width("o", 10),
       "width: a letter of two bytes is one letter");
}

static void test_levels(void) {
    Label labels[] = {{.kind = LABEL_ABOVE, .y = 200, .width = 150, .height = 16},
                      {.kind = LABEL_BELOW, .y = 195, .width = 150, .height = 16},
                      {.kind = LABEL_ABOVE, .y = 190, .width = 150, .height = 16},
                      {.kind = LABEL_BELOW, .y = 190, .width = 150, .height = 16}};
    LabelField f = {.frame = frame};
    labels_place(&f, labels, COUNT_OF(labels));
    const char *wrong = fault(&f, labels, COUNT_OF(labels));
    ok(placed(labels, 4) == 4 && !*wrong, "levels that lie close together: no label on another %s", wrong);
    ok(labels[0].box.bottom > 200 && labels[1].box.top < 195, "above and below");
    f.curves = &(LabelLine){600, 100, 900, 300}, f.curve_count = 1;
    labels_place(&f, labels, 1);
    ok(labels[0].placed && !line_enters(f.curves[0], labels[0].box) && labels[0].box.right > 500,
       "a curve crosses the level: the label stands beside it");
}

int main(void) {
    test_crowds();
    test_roofline();
    test_places();
    test_levels();
    return tap_done();
}
