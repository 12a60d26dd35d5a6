/* TEST variants: float asan
 * The picture of a schedule: a box for each action that takes time, in the colour of its kind, from its begin to its end on the
 * row of its stage, with the number of its micro-batch where there is room; several schedules have one scale. */
#include "chapters/09_pipeline_parallel/gantt.h"
#include "tests/svg.h"
#include "tests/tap.h"

#include <math.h>

/* Two stages with two chunks each; F 1 s, B 1 s, W 1 s. The times are those of a schedule, more or less: what is drawn does not
 * ask. */
enum { STAGES = 2, ACTIONS = 6 };
static Action first[ACTIONS] = {{ACTION_FORWARD, false, 0, 10, 0}, {ACTION_FORWARD, false, 3, 10, 0},
                                {ACTION_BACKWARD, true, 3, 10, 0}, {ACTION_BACKWARD, true, 0, 10, 0},
                                {ACTION_WEIGHTS, false, 0, 10, 0}, {ACTION_WEIGHTS, false, 3, 10, 0}},
              second[ACTIONS] = {{ACTION_FORWARD, false, 1, 20, 0}, {ACTION_FORWARD, false, 2, 20, 0},
                                 {ACTION_BACKWARD, true, 2, 20, 0}, {ACTION_BACKWARD, true, 1, 20, 0},
                                 {ACTION_WEIGHTS, false, 1, 20, 0}, {ACTION_WEIGHTS, false, 2, 20, 0}};
static Interval first_times[ACTIONS] = {{5, 6}, {8, 9}, {9, 10}, {12, 13}, {13, 14}, {14, 15}},
                second_times[ACTIONS] = {{6, 7}, {7, 8}, {10, 11}, {11, 12}, {12, 13}, {13, 13}};
static Action *actions[STAGES] = {first, second};
static Interval *intervals[STAGES] = {first_times, second_times};
static int stage_of[] = {0, 1, 1, 0};
static int64_t counts[STAGES] = {ACTIONS, ACTIONS};

static int count(const char *text, const char *piece) {
    int found = 0;
    for (const char *at = text; (at = strstr(at, piece)); at++) found++;
    return found;
}

static char *drawing(const Gantt *gantt, const char *folder) {
    char *path = xprintf("%s/gantt.svg", folder);
    file_remove(path);
    ok(gantt_draw(gantt, path), "drawn");
    char *svg = file_exists(path) ? file_read(path, NULL) : xstrdup("");
    free(path);
    return svg;
}

/* A colour is more of this than of the others. */
static bool mostly(const SvgBox *b, ActionKind kind) {
    return kind == ACTION_FORWARD    ? b->blue > b->green && b->green > b->red
           : kind == ACTION_BACKWARD ? b->red > b->green && b->green > b->blue
                                     : b->green > b->blue && b->blue > b->red;
}

static double light(const SvgBox *b) { return b->red + b->green + b->blue; }

/* boxes: of one part, in the order of its actions, a second so many pixels wide. */
static void check_part(const SvgBox *boxes, double pixels, const char *which) {
    bool kinds = true, places = true, rows = true, shades = true;
    double left = boxes[0].left;
    for (int stage = 0, n = 0; stage < STAGES; stage++)
        for (int i = 0; i < ACTIONS; i++) {
            Interval when = intervals[stage][i];
            if (when.end == when.begin) continue;
            const SvgBox *b = &boxes[n++];
            kinds &= mostly(b, actions[stage][i].kind);
            places &= fabs(b->left - left - pixels * (when.begin - 5)) < 0.1 &&
                      fabs(b->right - left - pixels * (when.end - 5)) < 0.1;
            rows &= fabs(b->top - boxes[0].top - stage * (b->bottom - b->top)) < 0.1;
            for (int k = 0; k < i; k++) /* the same kind of another chunk of the stage */
                if (actions[stage][k].kind == actions[stage][i].kind)
                    shades &=
                        (actions[stage][k].chunk < actions[stage][i].chunk) == (light(b - i + k) < light(b));
        }
    ok(kinds, "%s: each box has the colour of its kind", which);
    ok(places, "... from the action's begin to its end");
    ok(rows, "... on its stage's row, the first one on top");
    ok(shades, "... paler in a stage's later chunk");
}

int main(void) {
    enum { DRAWN = 2 * ACTIONS - 1, MOST = 64, KEY = 5 }; /* one action takes no time */
    char *folder = file_temp_folder("shard-gantt");
    Schedule schedule = {NULL, STAGES, 4, 21, stage_of, actions, counts};
    PlanTimes times = {.actions = intervals, .begin = 5, .seconds = 10},
              longer = {.actions = intervals, .begin = 5, .seconds = 500};
    GanttPart parts[] = {{"it's the first", &schedule, &times}, {"the second", &schedule, &times}};
    Gantt gantt = {"a title", parts, 1, 2, "pairs of seconds"};
    SvgBox boxes[MOST] = {0};
    double x, y, unit, five;
    char *svg = drawing(&gantt, folder);
    ok(svg_boxes(svg, boxes, MOST) == DRAWN + KEY,
       "as many boxes as actions that take time, and those of the key");
    double pixels = boxes[KEY].right - boxes[KEY].left;
    check_part(&boxes[KEY], pixels, "alone");
    ok(count(svg, ">10<") == ACTIONS && count(svg, ">20<") == ACTIONS - 1, "each with its micro-batch");
    ok(svg_text_place(svg, "pairs of seconds", &unit, &y) && svg_text_place(svg, "5", &five, &y) &&
           fabs(five - boxes[KEY].left - 10 * pixels) < 0.1,
       "the axis counts in the unit");
    ok(svg_text_place(svg, "a title", &x, &y) && svg_text_place(svg, "stage 1", &x, &five) && five > y &&
           strstr(svg, "it's the first"),
       "titles, and names of the stages");
    ok(strstr(svg, "W its half") && strstr(svg, "a stage's chunks"), "a key of all that is seen");
    free(svg);

    parts[0].times = &longer;
    gantt.count = 2;
    svg = drawing(&gantt, folder);
    ok(svg_boxes(svg, boxes, MOST) == 2 * DRAWN + KEY, "two parts have twice as many boxes");
    double narrow = boxes[KEY].right - boxes[KEY].left;
    check_part(&boxes[KEY], narrow, "the first of two");
    check_part(&boxes[KEY + DRAWN], narrow, "the second");
    ok(fabs(pixels / narrow - 50) < 1, "both on the scale of the longer one");
    ok(boxes[KEY + DRAWN].top > boxes[KEY + DRAWN - 1].bottom + 10, "one below the other");
    ok(count(svg, ">10<") == 0 && count(svg, ">20<") == 0, "no number where there is no room for it");
    free(svg);
    file_remove(folder);
    free(folder);
    return tap_done();
}
