#include "common/draw/timeline.h"

#include "common/draw/gnuplot.h"
#include "common/draw/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* What a span is: a phase of the step, or, behind those, a kind of call. */
enum {
    KINDS = PHASES + (int)COMM_KINDS,
    COMM_ROW = 100, /* of the trace, below the phases */
    FIRST_STREAM_ROW
};

typedef struct {
    double kind, begin, end; /* doubles all, to travel as such */
    char about[16];          /* two of them; "": nobody said */
} Span;
enum { SPAN_NUMBERS = sizeof(Span) / sizeof(double) };

static const double ABOUT_FONT = 12; /* pixels, of 'Sans,9' */

struct Timeline {
    const Mesh *mesh;
    Profile *profile;
    Trace *trace;
    bool *stream_named; /* of each stream of the device's that has carried calls: its row has a name */
    int stream_count;
    Span *spans;
    int64_t count, capacity;
    bool holds;
};

static void add(Timeline *t, int kind, double begin, double end, const char *about) {
    if (t->count == t->capacity) {
        t->capacity = 2 * t->capacity + 64;
        t->spans = xrealloc(t->spans, (size_t)t->capacity * sizeof *t->spans);
    }
    Span *span = &t->spans[t->count++];
    *span = (Span){.kind = kind, .begin = begin, .end = end};
    snprintf(span->about, sizeof span->about, "%s", about);
}

static void phase_done(void *context, Phase phase, double begin, double end) {
    Timeline *t = context;
    if (!t->holds) add(t, (int)phase, begin, end, "");
}

/* ---- the trace ---- */

/* The same for sender and receiver. Groups of one axis share a name, so the ranks are those of the world. */
static int64_t arrow_id(const CommEvent *event, int from, int to) {
    const int *world_rank = event->comm->world_rank;
    int64_t parts[] = {event->number, world_rank[from], world_rank[to]};
    return (int64_t)(XXH64(parts, sizeof parts, XXH64(event->comm->name, strlen(event->comm->name), 0)) >>
                     12);
}

static TraceRow row_of(Timeline *t, const CommEvent *event) {
    TraceRow row = {trace_device(t->trace), COMM_ROW};
    if (!event->stream) return row;
    int stream = event->stream_number;
    row.row = FIRST_STREAM_ROW + stream;
    while (t->stream_count <= stream) {
        t->stream_named = xrealloc(t->stream_named, (size_t)(t->stream_count + 1) * sizeof *t->stream_named);
        t->stream_named[t->stream_count++] = false;
    }
    if (!t->stream_named[stream]) trace_name_row(t->trace, row, event->stream);
    t->stream_named[stream] = true;
    return row;
}

static void trace_call(Timeline *t, const CommEvent *event) {
    Trace *trace = t->trace;
    const Comm *comm = event->comm;
    const CommCall *call = &event->call;
    TraceRow row = row_of(t, event);
    trace_span(trace, row, comm_kind_names[call->kind], event->begin, event->end,
               json_pack("{s:s, s:s, s:I, s:s*}", "call", comm_call_text(call).text, "group", comm->name,
                         "bytes", (json_int_t)(call->count * element_bytes(call->type)), "about",
                         event->about));
    if (call->kind == COMM_SEND)
        trace_arrow_from(trace, row, "message", arrow_id(event, comm->rank, call->peer), event->begin);
    if (call->kind == COMM_RECV)
        trace_arrow_to(trace, row, "message", arrow_id(event, call->peer, comm->rank),
                       event->end - fmin(1e-9, (event->end - event->begin) / 2)); /* the end lies outside */
}

static void call_done(void *context, const CommEvent *event) {
    Timeline *t = context;
    if (!t->holds)
        add(t, PHASES + (int)event->call.kind, event->begin, event->end, event->about ? event->about : "");
    if (t->trace) trace_call(t, event);
}

/* It lies over the phase in which the device has waited. */
static void waited(void *context, double begin, double end) {
    Timeline *t = context;
    if (!t->holds) add(t, PHASE_REDUCE, begin, end, "");
}

static void observe(const Mesh *mesh, CommObserver observer) {
    for (int axis = 0; axis < MESH_AXES; axis++) mesh->axis[axis]->observer = observer;
}

Timeline *timeline_new(const Mesh *mesh, Profile *profile, Trace *trace) {
    Timeline *t = xcalloc(1, sizeof *t);
    *t = (Timeline){.mesh = mesh, .profile = profile, .trace = trace};
    profile_listen(profile, phase_done, t);
    observe(mesh, (CommObserver){call_done, t, waited});
    if (trace) trace_name_row(trace, (TraceRow){trace_device(trace), COMM_ROW}, "communication");
    return t;
}

void timeline_delete(Timeline *t) {
    if (!t) return;
    comm_tell_late();
    profile_listen(t->profile, NULL, NULL);
    observe(t->mesh, (CommObserver){0});
    free(t->stream_named);
    free(t->spans);
    free(t);
}

void timeline_clear(Timeline *t) {
    comm_tell_late(); /* of calls between two steps */
    t->count = 0;
    t->holds = false;
}

void timeline_hold(Timeline *t) {
    comm_tell_late();
    t->holds = true;
}

/* ---- the picture ---- */

/* Row r of the result are the `most` spans of rank r, those behind the last one with the kind -1; on rank 0 alone. */
static Span *gather(Timeline *t, int64_t *most) {
    Comm *world = t->mesh->world;
    int32_t largest = (int32_t)t->count;
    comm_all_reduce(world, NULL, &largest, &largest, 1, TYPE_I32, REDUCE_MAX);
    while (t->count < largest) add(t, -1, 0, 0, "");
    Span *all = xmalloc((size_t)max64((int64_t)world->size * largest, 1) * sizeof *all);
    comm_all_gather(world, NULL, t->spans, all, (int64_t)largest * SPAN_NUMBERS, TYPE_F64);
    *most = largest;
    return all;
}

static const char *kind_name(int kind) {
    return kind < PHASES ? phase_names[kind] : comm_kind_names[kind - PHASES];
}

/* Waiting is pale; everything else has the colour of its place among what is seen. */
static const char *kind_color(int kind, const bool *seen) {
    if (kind == PHASE_REDUCE) return "dddddd";
    int place = 1;
    for (int k = 0; k < kind; k++) place += seen[k] && k != PHASE_REDUCE;
    return gnuplot_color(place);
}

static const char *key_name(int kind) { return kind == PHASE_REDUCE ? "waiting" : kind_name(kind); }

/* The key stands in rows below the name of the x axis; leaves room for them. */
static void add_key(Str *s, const bool *seen, int width, int height) {
    static const double LETTER = 10.2, LINE = 18.7; /* pixels, of gnuplot's key */
    int longest = 0, entries = 0;
    for (int kind = 0; kind < KINDS; kind++)
        if (seen[kind]) {
            int letters = (int)strlen(key_name(kind));
            if (letters > longest) longest = letters;
            entries++;
        }
    int columns = (int)(width / (LETTER * (longest + 5)));
    int rows = (entries + columns - 1) / columns;
    str_printf(s, "set bmargin %g\nset key at screen 0.5, screen %.5f center center horizontal maxcols %d\n",
               3.6 + rows, LINE * (0.4 + rows / 2.0) / height, columns);
}

/* ---- what calls are about ---- */

/* Whether another span of its half of the row lies over the span. */
static bool overlapped(const Span *row, int64_t most, int64_t i) {
    for (int64_t k = 0; k < most; k++)
        if (k != i && row[k].kind >= PHASES && row[k].begin < row[i].end && row[i].begin < row[k].end)
            return true;
    return false;
}

/* All of the name, or what stands behind its last dot, where that is all there is room for. width: of the span, in pixels. */
static const char *fitting(const char *name, double width) {
    static const double MARGIN = 6;
    const char *dot = strrchr(name, '.');
    if (label_width(name, ABOUT_FONT) + MARGIN <= width) return name;
    return dot && label_width(dot + 1, ABOUT_FONT) + MARGIN <= width ? dot + 1 : NULL;
}

/* The i-th of all spans, as a rectangle. pixels: for a second. */
static void write_span(Str *s, const Span *all, int64_t i, int64_t most, double unit, double first,
                       double pixels, const bool *seen) {
    int kind = (int)all[i].kind;
    int64_t device = i / most;
    double top = (double)device + (kind < PHASES ? 0.1 : 0.5);
    str_printf(s,
               "set object rectangle from %.9g,%g to %.9g,%g fillstyle solid border rgb '#ffffff' "
               "linewidth 0.5 fillcolor rgb '#%s'\n",
               unit * (all[i].begin - first), top, unit * (all[i].end - first), top + 0.4,
               kind_color(kind, seen));
    const char *about = kind < PHASES || overlapped(&all[device * most], most, i - device * most)
                            ? NULL
                            : fitting(all[i].about, (all[i].end - all[i].begin) * pixels);
    if (!about || !*about) return;
    str_printf(s, "set label ");
    gnuplot_quoted(s, about);
    str_printf(s, " at %.9g,%g center font 'Sans,9' front textcolor rgb '#%s'\n",
               unit * ((all[i].begin + all[i].end) / 2 - first), top + 0.2,
               gnuplot_ink_on(kind_color(kind, seen)));
}

static void write_script(Str *s, const Span *all, int n, int64_t most, const char *title, const char *path) {
    bool seen[KINDS] = {false};
    double first = INFINITY, last = -INFINITY;
    for (int64_t i = 0; i < n * most; i++)
        if (all[i].kind >= 0) {
            first = fmin(first, all[i].begin);
            last = fmax(last, all[i].end);
            seen[(int)all[i].kind] |= all[i].end > all[i].begin;
        }
    double unit = last - first < 1e-3 ? 1e6 : 1e3;
    const int width = 1100, height = 150 + 55 * n;
    const double FRAME = width - 150; /* pixels, about, beside the names of the devices */
    gnuplot_terminal(s, path, width, height);
    str_printf(s, "set title ");
    gnuplot_quoted(s, title);
    str_printf(s, "\n");
    add_key(s, seen, width, height);
    str_printf(s,
               "set xlabel '%s'\nset xrange [0:%.9g]\nset yrange [%d:0]\nset border 3\nset tics "
               "nomirror\nset ytics (",
               unit > 1e5 ? "microseconds" : "milliseconds", unit * (last - first) * 1.01, n);
    for (int r = 0; r < n; r++) str_printf(s, "%s'device %d' %g", r ? ", " : "", r, r + 0.5);
    str_printf(s, ")\n");
    for (int over = 0; over < 2; over++) /* waiting, and calls, over the phases */
        for (int64_t i = 0; i < n * most; i++)
            if (all[i].kind >= 0 && over == (all[i].kind >= PHASES || (int)all[i].kind == PHASE_REDUCE))
                write_span(s, all, i, most, unit, first, FRAME / (last - first), seen);
    str_printf(s, "plot ");
    for (int kind = 0, drawn = 0; kind < KINDS; kind++)
        if (seen[kind])
            str_printf(s, "%sNaN with boxes fillstyle solid linecolor rgb '#%s' title '%s'",
                       drawn++ ? ", " : "", kind_color(kind, seen), key_name(kind));
    str_printf(s, "\n");
}

void timeline_draw(Timeline *t, const char *title, const char *path) {
    int64_t most;
    Span *all = gather(t, &most);
    if (t->mesh->world->rank == 0 && most > 0) {
        Str script = {0};
        GnuplotJob job;
        write_script(&script, all, t->mesh->world->size, most, title, path);
        if (gnuplot_start(&job, &script, path)) gnuplot_wait(&job);
        str_free(&script);
    }
    free(all);
}
