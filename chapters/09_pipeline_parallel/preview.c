#include "chapters/09_pipeline_parallel/preview.h"

#include "chapters/09_pipeline_parallel/gantt.h"
#include "chapters/09_pipeline_parallel/in_flight.h"
#include "common/draw/steps.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One schedule, worked through; with a problem there is none. */
typedef struct {
    ScheduleKind kind; /* SCHEDULE_KINDS: from a file */
    const char *name;
    Schedule *schedule;
    Plan *plan;
    PlanTimes times;
    char *problem, *hint;
    int chunks;   /* of a stage */
    double holds; /* activations of so many micro-batches, on the stage that holds most */
} Example;
enum { MOST = SCHEDULE_KINDS + 1, MOST_ACTIONS = 2000000 };

/* F, B and W of a stage's whole share take 1 each, those of a chunk its part of that. */
static void work_through(Example *e) {
    const Schedule *s = e->schedule;
    e->name = s->name;
    e->chunks = (int)ceil_div(s->chunks, s->stages);
    if (!(e->plan = plan_new(s, &e->problem, &e->hint))) return;
    double part = (double)s->stages / s->chunks;
    for (int stage = 0; stage < s->stages; stage++)
        e->holds = fmax(e->holds, part * (double)e->plan->in_flight[stage]);
    ChunkCost *costs = xmalloc((size_t)s->chunks * sizeof *costs);
    for (int c = 0; c < s->chunks; c++) costs[c] = (ChunkCost){{part, part, part}};
    e->times = plan_times(e->plan, &(PlanCosts){.chunks = costs});
    free(costs);
}

static Example example_of(ScheduleKind kind, int p, int v, int64_t m) {
    Example e = {.kind = kind, .name = schedule_names[kind]};
    if ((e.problem = schedule_problem(kind, p, v, m, &e.hint))) return e;
    e.schedule = schedule_new(kind, p, v, m);
    work_through(&e);
    return e;
}

static void example_free(Example *e) {
    if (e->plan) plan_times_free(&e->times, e->plan);
    plan_delete(e->plan);
    schedule_delete(e->schedule);
    free(e->problem);
    free(e->hint);
}

/* ---- what the formulas say; NAN, -1: there is none ---- */

static double bubble_formula(const Example *e) {
    const Schedule *s = e->schedule;
    return e->kind == SCHEDULE_KINDS
               ? NAN
               : schedule_bubble_formula(e->kind, s->stages, e->chunks, s->microbatches);
}

static double step_formula(const Example *e) {
    const Schedule *s = e->schedule;
    return e->kind == SCHEDULE_KINDS
               ? NAN
               : schedule_bubble_step_formula(e->kind, s->stages, e->chunks, s->microbatches);
}

static int64_t in_flight_formula(const Example *e, int stage) {
    const Schedule *s = e->schedule;
    return e->kind == SCHEDULE_KINDS
               ? -1
               : schedule_in_flight_formula(e->kind, s->stages, e->chunks, s->microbatches, stage);
}

/* Where there are formulas: do plan and times say the same? */
static bool exact(const Example *e) {
    if (e->kind == SCHEDULE_KINDS) return true;
    bool same = fabs(e->times.bubble - bubble_formula(e)) < 1e-9 &&
                fabs(e->times.bubble_step - step_formula(e)) < 1e-9;
    for (int stage = 0; stage < e->schedule->stages; stage++)
        same &= e->plan->in_flight[stage] == in_flight_formula(e, stage);
    return same;
}

/* ---- the table ---- */

/* "4 3 2 1", of all stages or, where there are many, "16 .. 1" of the first and the last. */
static void add_numbers(Str *text, const Example *e, bool formula) {
    enum { MANY = 5 };
    int p = e->schedule->stages;
    for (int stage = 0; stage < p; stage++) {
        if (p > MANY && stage > 0 && stage < p - 1) continue;
        str_printf(text, "%s%" PRId64,
                   stage == 0 ? ""
                   : p > MANY ? " .. "
                              : " ",
                   formula ? in_flight_formula(e, stage) : e->plan->in_flight[stage]);
    }
}

typedef struct {
    char text[32];
} NumberText;
static NumberText number_text(double x) { /* NAN: "-" */
    NumberText t;
    snprintf(t.text, sizeof t.text, isnan(x) ? "-" : "%.6f", x);
    return t;
}

static void print_example(const Example *e) {
    if (!e->plan) {
        printf("%-12s %s: %s\n", e->name, e->problem, e->hint);
        return;
    }
    Str plan = {0}, formula = {0};
    NumberText bubble = number_text(bubble_formula(e)), step = number_text(step_formula(e));
    int64_t messages = 0;
    for (int stage = 0; stage < e->schedule->stages; stage++) messages += e->plan->messages[stage];
    add_numbers(&plan, e, false);
    if (e->kind != SCHEDULE_KINDS) add_numbers(&formula, e, true);
    printf("%-12s %6d %8.2f %9.6f %9s %9.6f %9s %6.4g %9" PRId64 "  %-18s %s\n", e->name, e->chunks,
           e->times.seconds, e->times.bubble, bubble.text, e->times.bubble_step, step.text, e->holds,
           messages, plan.data, formula.data ? formula.data : "");
    str_free(&plan);
    str_free(&formula);
}

/* The quickest that holds at most so much; -1: none. */
static int quickest(const Example *examples, int count, double holds) {
    int best = -1;
    for (int i = 0; i < count; i++)
        if (examples[i].plan && examples[i].holds <= holds &&
            (best < 0 || examples[i].times.seconds < examples[best].times.seconds - 1e-9))
            best = i;
    return best;
}

static void print_table(const Example *examples, int count, int p, int64_t m) {
    printf("\n---- schedules of %d stages and %" PRId64
           " micro-batches: F, B and W of a stage take 1 each, messages nothing ----\n",
           p, m);
    printf("%-12s %6s %8s %9s %9s %9s %9s %6s %9s  %-16s %s\n", "schedule", "chunks", "time", "bubble",
           "formula", "step's", "formula", "holds", "messages", "in flight", "formula");
    int all = 0, right = 0;
    for (int i = 0; i < count; i++) {
        const Example *e = &examples[i];
        print_example(e);
        if (!e->plan || e->kind == SCHEDULE_KINDS) continue;
        all++;
        right += exact(e);
    }
    printf("chunks: on a stage. bubble: idle over busy time, of the stage that takes longest; step's: of "
           "all stages, "
           "from the\nfirst action to the last. holds: activations of so many micro-batches, on the fullest "
           "stage. in "
           "flight: micro-\nbatches, counted in each chunk, of each stage\n");
    printf("%d of %d schedules do what their formulas say\n", right, all);
    const Example *plain = &examples[SCHEDULE_1F1B];
    int best = quickest(examples, count, INFINITY), lean = quickest(examples, count, plain->holds);
    if (best < 0 || lean < 0) return;
    printf("quickest: %s, %.2f; of those that hold no more than 1f1b: %s, %.2f, against 1f1b's %.2f\n",
           examples[best].name, examples[best].times.seconds, examples[lean].name,
           examples[lean].times.seconds, plain->times.seconds);
}

/* ---- pictures and files ---- */

static void draw_gantt(const Example *examples, int count, const char *title, const char *unit,
                       const char *folder, const char *name) {
    GanttPart parts[MOST];
    char *titles[MOST], *path = xprintf("%s/%s", folder, name);
    int drawn = 0;
    for (int i = 0; i < count; i++) {
        const Example *e = &examples[i];
        if (!e->plan) continue;
        titles[drawn] = xprintf("%s: %.4g, bubble %.4g", e->name, e->times.seconds, e->times.bubble);
        parts[drawn] = (GanttPart){titles[drawn], e->schedule, &e->times};
        drawn++;
    }
    gantt_draw(&(Gantt){title, parts, drawn, 1, unit}, path);
    for (int i = 0; i < drawn; i++) free(titles[i]);
    free(path);
}

/* Of the first stage, and of the last one as a line over it; a chunk of v is 1/v of a stage's share, and counts as that. */
static void draw_in_flight(const Example *examples, int count, const char *unit, const char *folder) {
    StepsRow rows[MOST];
    InFlight flights[MOST][STEPS_CURVES];
    char *labels[MOST], *path = xprintf("%s/in-flight.png", folder);
    double longest = 0;
    int drawn = 0;
    for (int i = 0; i < count; i++) {
        const Example *e = &examples[i];
        if (!e->plan) continue;
        int last = e->schedule->stages - 1;
        double part = (double)e->schedule->stages / e->schedule->chunks,
               most = part *
                      (double)(e->kind == SCHEDULE_KINDS ? e->plan->in_flight[0] : in_flight_formula(e, 0));
        labels[drawn] = xprintf("%.4g by %s", most, e->kind == SCHEDULE_KINDS ? "the plan" : "formula");
        rows[drawn] = (StepsRow){.name = e->name, .level = most, .level_label = labels[drawn]};
        for (int c = 0; c < STEPS_CURVES; c++) {
            InFlight *f = &flights[drawn][c];
            *f = in_flight_of(e->schedule, &e->times, c == 0 ? 0 : last);
            for (int64_t k = 0; k < f->count; k++) f->held[k] *= part;
            rows[drawn].curve[c] = (StepsCurve){f->times, f->held, f->count};
        }
        longest = fmax(longest, e->times.seconds);
        drawn++;
    }
    steps_draw(&(Steps){.title = "Micro-batches whose activations a stage keeps",
                        .x_label = unit,
                        .curve_labels = {"the first stage", "the last stage"},
                        .longest = longest,
                        .rows = rows,
                        .count = drawn},
               path);
    for (int i = 0; i < drawn; i++) {
        free(labels[i]);
        for (int c = 0; c < STEPS_CURVES; c++) in_flight_free(&flights[i][c]);
    }
    free(path);
}

static void write_files(const Example *examples, int count, const char *folder) {
    for (int i = 0; i < count; i++) {
        if (!examples[i].schedule || examples[i].kind == SCHEDULE_KINDS) continue;
        char *path = xprintf("%s/%s.csv", folder, examples[i].name);
        schedule_write(examples[i].schedule, path);
        free(path);
    }
}

static json_t *example_json(const Example *e) {
    if (!e->plan) return json_pack("{s:s, s:s}", "schedule", e->name, "problem", e->problem);
    json_t *in_flight = json_array();
    for (int stage = 0; stage < e->schedule->stages; stage++)
        json_array_append_new(in_flight, json_integer(e->plan->in_flight[stage]));
    return json_pack("{s:s, s:f, s:f, s:f, s:o, s:b}", "schedule", e->name, "time", e->times.seconds,
                     "bubble", e->times.bubble, "bubble_step", e->times.bubble_step, "in_flight", in_flight,
                     "exact", exact(e));
}

/* ---- all of it ---- */

static Example example_from(const char *file) {
    Example e = {.kind = SCHEDULE_KINDS, .schedule = schedule_read(file)};
    work_through(&e);
    const char *slash = strrchr(file, '/');
    e.name = slash ? slash + 1 : file; /* which says more than the schedule's own */
    CHECK_USAGE(!e.problem, e.hint, "--schedule-file %s: %s", file, e.problem);
    return e;
}

json_t *preview_run(int p, int v, int64_t m, const char *file, const char *folder) {
    Example examples[MOST];
    int count = SCHEDULE_KINDS;
    if (file) {
        examples[count] = example_from(file);
        p = examples[count].schedule->stages;
        m = examples[count++].schedule->microbatches;
    }
    const int64_t most =
        MOST_ACTIONS / (p * schedule_chunks_per_stage(SCHEDULE_INTERLEAVED, v > 2 ? v : 2) * ACTION_KINDS);
    CHECK_USAGE(m <= most, xprintf("at most %" PRId64 " micro-batches do", max64(most, 1)),
                "all schedules of %d stages and %" PRId64 " micro-batches are too much to be looked at", p,
                m);
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) examples[kind] = example_of(kind, p, v, m);
    file_make_folder(folder);
    print_table(examples, count, p, m);
    char *title = xprintf("%d stages, %" PRId64 " micro-batches; F, B and W take 1 each", p, m);
    static const char unit[] = "time: 1 is a forward of a stage";
    draw_gantt(examples, 2, title, unit, folder,
               "naive.png"); /* takes so long that it would make all others small */
    draw_gantt(examples + 1, count - 1, title, unit, folder, "schedules.png");
    draw_in_flight(examples + 1, count - 1, unit, folder);
    write_files(examples, count, folder);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_array_append_new(list, example_json(&examples[i]));
        example_free(&examples[i]);
    }
    free(title);
    return list;
}
