#include "chapters/09_pipeline_parallel/gantt.h"

#include "common/draw/gnuplot.h"
#include "common/draw/labels.h"
#include "common/draw/pictures.h"
#include "common/draw/rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* pixels: above the rows of each part; that a stage's name takes */
enum { PART_TITLE = 32 };
static const double NAME = 14;
/* More than these are no picture any more. */
enum { MOST_ROWS = 2000, MOST_ACTIONS = 40000 };
static const double PIXELS_OF_POINT = 4.0 / 3;

typedef struct {
    Str *script;
    const Gantt *gantt;
    bool seen[ACTION_KINDS];
    int places; /* the most chunks that a stage of any part has */
    double row; /* pixels of each */
    Rows rows;
} Drawing;

/* ---- shades: the first chunk of a stage is the darkest ---- */

static int chunks_of_a_stage(const Schedule *s) {
    int most = 1;
    for (int stage = 0; stage < s->stages; stage++) {
        int chunks = 0;
        for (int c = 0; c < s->chunks; c++) chunks += s->stage_of[c] == stage;
        most = chunks > most ? chunks : most;
    }
    return most;
}

/* place: of the chunk among those of its stage, of which there are `places` at most. */
static GnuplotShade shade(ActionKind kind, int place, int places) {
    static const int colors[ACTION_KINDS] = {1, 2, 3}; /* blue, vermillion, green */
    static const double DARK = 0.85, PALE = 0.3, ALONE = 0.6;
    double part = places > 1 ? DARK - (DARK - PALE) * place / (places - 1) : ALONE;
    return gnuplot_shade(gnuplot_color(colors[kind]), part);
}

static GnuplotShade shade_of(const Schedule *s, const Action *action) {
    int place = 0;
    for (int c = 0; c < action->chunk; c++) place += s->stage_of[c] == s->stage_of[action->chunk];
    return shade(action->kind, place, chunks_of_a_stage(s));
}

/* ---- one part: x in units of time, y in pixels ---- */

/* In the middle of a box, in the largest letters in which the number of any micro-batch would fit; otherwise nothing. */
static void add_number(const Drawing *d, const Schedule *s, int64_t number, double x, double y, double width,
                       const char *color) {
    static const double fonts[] = {9, 8, 7, 6}, MARGIN = 2;
    char widest[24];
    snprintf(widest, sizeof widest, "%" PRId64, s->microbatches - 1);
    for (int i = 0; i < COUNT_OF(fonts); i++) {
        double height = PIXELS_OF_POINT * fonts[i];
        if (label_width(widest, height) + MARGIN > width || height > d->row) continue;
        str_printf(d->script,
                   "set label '%" PRId64 "' at %.9g,%.9g center font 'Sans,%g' front textcolor rgb '#%s'\n",
                   number, x, y, fonts[i], gnuplot_ink_on(color));
        return;
    }
}

/* when: seconds from the schedule's first action on. */
static void add_action(const Drawing *d, const Schedule *s, const Action *action, Interval when, double top) {
    static const double NARROW = 4; /* pixels: a border would be all that is seen */
    double unit = d->gantt->unit, seconds = when.end - when.begin, bottom = top + d->row,
           width = seconds / unit / d->rows.longest * rows_width(&d->rows);
    if (!(seconds > 0)) return;
    GnuplotShade fill = shade_of(s, action);
    str_printf(d->script,
               "set object rectangle from %.9g,%.9g to %.9g,%.9g fillstyle solid %s fillcolor rgb '#%s'\n",
               when.begin / unit, top, when.end / unit, bottom,
               width < NARROW ? "noborder" : "border rgb '#444444' linewidth 0.5", fill.text);
    add_number(d, s, action->microbatch, (when.begin + when.end) / (2 * unit), (top + bottom) / 2, width,
               fill.text);
}

static void add_part(const Drawing *d, const GanttPart *part, double top) {
    const Schedule *s = part->schedule;
    rows_text(d->script, part->title, 0, top + PART_TITLE - 4, 11);
    top += PART_TITLE;
    for (int stage = 0; stage < s->stages; stage++) {
        double y = top + stage * d->row;
        char name[24];
        snprintf(name, sizeof name, "stage %d", stage);
        if (stage % (int)ceil(NAME / d->row) == 0) rows_name(d->script, &d->rows, name, y + d->row / 2);
        for (int64_t i = 0; i < s->counts[stage]; i++) {
            Interval when = part->times->actions[stage][i];
            when.begin -= part->times->begin;
            when.end -= part->times->begin;
            add_action(d, s, &s->actions[stage][i], when, y);
        }
    }
    str_printf(d->script,
               "set object rectangle from 0,%.9g to %.9g,%.9g fillstyle empty border rgb '#888888' linewidth "
               "1\n",
               top, part->times->seconds / d->gantt->unit, top + s->stages * d->row);
}

/* ---- around the parts ---- */

/* False: there is too much. */
static bool look(Drawing *d) {
    enum { MANY_ROWS = 100 };
    int rows = 0;
    int64_t actions = 0;
    double longest = 0;
    d->places = 1;
    for (int p = 0; p < d->gantt->count; p++) {
        const GanttPart *part = &d->gantt->parts[p];
        const Schedule *s = part->schedule;
        int places = chunks_of_a_stage(s);
        d->places = places > d->places ? places : d->places;
        longest = fmax(longest, part->times->seconds);
        rows += s->stages;
        for (int stage = 0; stage < s->stages; stage++) {
            actions += s->counts[stage];
            for (int64_t i = 0; i < s->counts[stage]; i++) d->seen[s->actions[stage][i].kind] = true;
        }
    }
    d->row = fmin(26, fmax(600.0 / rows, rows <= MANY_ROWS ? NAME : 3));
    d->rows = (Rows){.title = d->gantt->title,
                     .x_label = d->gantt->unit_name,
                     .longest = longest / d->gantt->unit,
                     .height = PART_TITLE * d->gantt->count + d->row * rows,
                     .left = 84,
                     .right = 24};
    return rows <= MOST_ROWS && actions <= MOST_ACTIONS;
}

static double add_key_entry(const Drawing *d, double x, const char *color, const char *text) {
    return rows_key_text(d->script, &d->rows, rows_key_color(d->script, &d->rows, x, color), text);
}

static void add_key(const Drawing *d) {
    enum { MOST_SHADES = 4 };
    const char *const names[ACTION_KINDS] = {
        "F forward",
        d->seen[ACTION_WEIGHTS] ? "B backward (where there is W: its half to the inputs)" : "B backward",
        "W its half to the weights"};
    double x = d->rows.left;
    for (int kind = 0; kind < ACTION_KINDS; kind++)
        if (d->seen[kind]) x = add_key_entry(d, x, shade(kind, 0, 1).text, names[kind]);
    int shades = d->places < MOST_SHADES ? d->places : MOST_SHADES;
    if (shades == 1) return;
    for (int place = 0; place < shades - 1; place++)
        x = rows_key_color(d->script, &d->rows, x, shade(ACTION_FORWARD, place, shades).text);
    add_key_entry(d, x, shade(ACTION_FORWARD, shades - 1, shades).text, "a stage's chunks");
}

bool gantt_draw(const Gantt *gantt, const char *path) {
    Str script = {0};
    Drawing d = {.script = &script, .gantt = gantt};
    if (!look(&d)) {
        warn("no picture '%s': so many actions cannot be seen on it", path);
        pictures_note(path, false);
        return false;
    }
    rows_begin(&script, &d.rows, path);
    add_key(&d);
    double top = 0;
    for (int p = 0; p < gantt->count; p++) {
        add_part(&d, &gantt->parts[p], top);
        top += PART_TITLE + d.row * gantt->parts[p].schedule->stages;
    }
    bool drawn = rows_end(&script, "", path);
    str_free(&script);
    return drawn;
}
