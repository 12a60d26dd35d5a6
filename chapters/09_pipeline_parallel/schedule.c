#include "chapters/09_pipeline_parallel/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

const char action_letters[ACTION_KINDS] = {'F', 'B', 'W'};
const char *const schedule_names[SCHEDULE_KINDS] = {"naive", "gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"};

/* ---- what a schedule is made of ---- */

Schedule *schedule_empty(const char *name, int stages, int chunks, int64_t microbatches) {
    Schedule *s = xmalloc(sizeof *s);
    *s = (Schedule){.name = xstrdup(name), .stages = stages, .chunks = chunks, .microbatches = microbatches};
    s->stage_of = xcalloc((size_t)chunks, sizeof *s->stage_of);
    s->actions = xcalloc((size_t)stages, sizeof(Action *));
    s->counts = xcalloc((size_t)stages, sizeof *s->counts);
    return s;
}

void schedule_add(Schedule *s, int stage, Action action) {
    int64_t count = s->counts[stage]++;
    if ((count & (count - 1)) == 0) /* 0, 1, 2, 4, 8 ...: it is full */
        s->actions[stage] = xrealloc(s->actions[stage], (size_t)max64(2 * count, 1) * sizeof(Action));
    s->actions[stage][count] = action;
}

void schedule_finish(Schedule *s) {
    int64_t m = s->microbatches;
    bool *split = xcalloc((size_t)(s->chunks * m), sizeof *split);
    for (int stage = 0; stage < s->stages; stage++)
        for (int64_t k = 0; k < s->counts[stage]; k++) {
            const Action *a = &s->actions[stage][k];
            if (a->kind == ACTION_WEIGHTS) split[a->chunk * m + a->microbatch] = true;
        }
    for (int stage = 0; stage < s->stages; stage++)
        for (int64_t k = 0; k < s->counts[stage]; k++) {
            Action *a = &s->actions[stage][k];
            a->inputs_only = a->kind == ACTION_BACKWARD && split[a->chunk * m + a->microbatch];
        }
    free(split);
}

void schedule_delete(Schedule *s) {
    if (!s) return;
    for (int stage = 0; stage < s->stages; stage++) free(s->actions[stage]);
    free(s->actions);
    free(s->counts);
    free(s->stage_of);
    free(s->name);
    free(s);
}

int schedule_chunks_per_stage(ScheduleKind kind, int virtual_stages) {
    if (kind == SCHEDULE_INTERLEAVED) return virtual_stages;
    return kind == SCHEDULE_ZB_V ? 2 : 1;
}

/* ---- one forward, one backward, and all that differ from it in how many forwards go first ---- */

/* The k-th forward of a stage with v chunks: the first p micro-batches through its first chunk, then through its second
 * one, and so on; then the next p micro-batches. Backward the chunks come in reverse. With v = 1 that is micro-batch k. */
static Action kth(ActionKind kind, int stage, int p, int v, int64_t k) {
    int64_t round = k / ((int64_t)p * v), within = k % ((int64_t)p * v);
    int chunk = (int)(within / p);
    if (kind == ACTION_BACKWARD) chunk = v - 1 - chunk;
    return (Action){.kind = kind, .chunk = chunk * p + stage, .microbatch = round * p + within % p};
}

/* How many forwards a stage does before it takes turns. */
static int64_t forwards_first(ScheduleKind kind, int stage, int p, int v, int64_t m) {
    switch (kind) {
    case SCHEDULE_NAIVE: return 0;
    case SCHEDULE_GPIPE: return m;
    case SCHEDULE_INTERLEAVED: return min64(v * m, 2 * (p - 1 - stage) + (int64_t)(v - 1) * p);
    default: return min64(m, p - 1 - stage);
    }
}

/* ZB-H1 puts off W by as many micro-batches as there are stages before: the later a stage begins, the more W it keeps for
 * the end, where the earlier ones still wait for gradients. */
static void take_turns(Schedule *s, ScheduleKind kind, int stage, int v) {
    int p = s->stages;
    int64_t total = v * s->microbatches, first = forwards_first(kind, stage, p, v, s->microbatches);
    int64_t put_off = kind == SCHEDULE_ZB_H1 ? stage : total;
    for (int64_t k = 0; k < total + first; k++) {
        if (k < total) schedule_add(s, stage, kth(ACTION_FORWARD, stage, p, v, k));
        int64_t back = k - first;
        if (back >= 0) schedule_add(s, stage, kth(ACTION_BACKWARD, stage, p, v, back));
        if (back >= put_off) schedule_add(s, stage, kth(ACTION_WEIGHTS, stage, p, v, back - put_off));
    }
    for (int64_t k = max64(total - put_off, 0); k < total && kind == SCHEDULE_ZB_H1; k++)
        schedule_add(s, stage, kth(ACTION_WEIGHTS, stage, p, v, k));
}

/* ---- down and up again ---- */

enum { DOWN, UP };
typedef struct {
    Schedule *schedule;
    int stage;
    int64_t done[ACTION_KINDS]
                [2]; /* micro-batches, in the chunk on the way down and in the one on the way up */
} Turns;

/* The next micro-batch in one of the stage's chunks, unless there are no more. */
static void next(Turns *t, ActionKind kind, int way) {
    int64_t microbatch = t->done[kind][way]++;
    if (microbatch >= t->schedule->microbatches) return;
    int chunk = way == DOWN ? t->stage : 2 * t->schedule->stages - 1 - t->stage;
    schedule_add(t->schedule, t->stage, (Action){.kind = kind, .chunk = chunk, .microbatch = microbatch});
}

/* The order of Qi et al. 2024, figure 3, which wants 2p - 1 micro-batches: with fewer, the others are left out. */
static void down_and_up(Schedule *s, int stage) {
    Turns t = {.schedule = s, .stage = stage};
    int p = s->stages;
    int64_t m = max64(s->microbatches, 2 * p - 1);
    for (int i = 0; i < 2 * (p - stage) - 1; i++) next(&t, ACTION_FORWARD, DOWN);
    for (int i = 0; i < stage; i++) {
        next(&t, ACTION_FORWARD, UP);
        next(&t, ACTION_FORWARD, DOWN);
    }
    for (int i = 0; i < p - stage; i++)
        for (ActionKind kind = 0; kind < ACTION_KINDS; kind++) next(&t, kind, UP);
    while (t.done[ACTION_FORWARD][UP] < m) {
        if (t.done[ACTION_FORWARD][DOWN] < m) next(&t, ACTION_FORWARD, DOWN);
        next(&t, ACTION_BACKWARD, DOWN);
        next(&t, ACTION_WEIGHTS, DOWN);
        for (ActionKind kind = 0; kind < ACTION_KINDS; kind++) next(&t, kind, UP);
    }
    for (int i = 0; i < stage; i++) {
        next(&t, ACTION_BACKWARD, DOWN);
        next(&t, ACTION_BACKWARD, UP);
    }
    for (int i = 0; i < p - stage; i++) {
        next(&t, ACTION_BACKWARD, DOWN);
        next(&t, ACTION_WEIGHTS, DOWN);
    }
    while (t.done[ACTION_WEIGHTS][UP] < m) next(&t, ACTION_WEIGHTS, UP);
    while (t.done[ACTION_WEIGHTS][DOWN] < m) next(&t, ACTION_WEIGHTS, DOWN);
}

/* ---- all of them ---- */

Schedule *schedule_new(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches) {
    int v = schedule_chunks_per_stage(kind, virtual_stages);
    Schedule *s = schedule_empty(schedule_names[kind], stages, stages * v, microbatches);
    for (int chunk = 0; chunk < s->chunks; chunk++)
        s->stage_of[chunk] =
            kind == SCHEDULE_ZB_V && chunk >= stages ? s->chunks - 1 - chunk : chunk % stages;
    for (int stage = 0; stage < stages; stage++)
        if (kind == SCHEDULE_ZB_V)
            down_and_up(s, stage);
        else
            take_turns(s, kind, stage, v);
    schedule_finish(s);
    return s;
}

char *schedule_problem(ScheduleKind kind, int p, int virtual_stages, int64_t m, char **hint) {
    const char *name = schedule_names[kind];
    int v = schedule_chunks_per_stage(kind, virtual_stages);
    if (p < 1) {
        *hint = xprintf("at least 1 stage");
        return xprintf("schedule '%s' on %d stages", name, p);
    }
    if (v < 1) {
        *hint = xprintf("--virtual-stages 1 or more");
        return xprintf("schedule '%s' with %d chunks a stage", name, v);
    }
    if (m < 1) {
        *hint = xprintf("at least %d micro-batch%s", kind == SCHEDULE_INTERLEAVED ? p : 1,
                        kind == SCHEDULE_INTERLEAVED && p > 1 ? "es" : "");
        return xprintf("schedule '%s' with %" PRId64 " micro-batches", name, m);
    }
    int64_t most = ACTIONS_MOST / ACTION_KINDS / p / v; /* micro-batches */
    if (kind == SCHEDULE_INTERLEAVED) most = most / p * p;
    if (m > most) {
        *hint = most ? xprintf("at most %" PRId64 " micro-batches", most) : xprintf("fewer chunks");
        return xprintf("schedule '%s' with %" PRId64 " micro-batches in %" PRId64 " chunks", name, m,
                       (int64_t)p * v);
    }
    if (kind == SCHEDULE_INTERLEAVED && m % p) {
        int64_t below = m / p * p, above = below + p;
        *hint = below ? xprintf("%" PRId64 " or %" PRId64 " micro-batches, or --pipeline-schedule 1f1b",
                                below, above)
                      : xprintf("%" PRId64 " micro-batches, or --pipeline-schedule 1f1b", above);
        return xprintf("schedule '%s' with %" PRId64
                       " micro-batches on %d stages, which does not divide them",
                       name, m, p);
    }
    return NULL;
}

/* ---- formulas ---- */

/* With F = B = W. Huang et al. 2019 and Narayanan et al. 2019 for gpipe and 1f1b: the first micro-batch's way to the last
 * stage and back, less its own time; it does not matter how long F and B take. Narayanan et al. 2021: v chunks make that
 * way v times as short. Qi et al. 2023: in zb-h1 only F and B lie on it, and 1 W is done meanwhile by each stage: with
 * (p-1)(F + B - W) a third of 1f1b's; with fewer micro-batches than stages there is less to do meanwhile. Qi et al. 2024:
 * none in zb-v, once there are 2p - 1 micro-batches to fill the way down and up. */
double schedule_bubble_formula(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches) {
    double p = stages, m = (double)microbatches;
    switch (kind) {
    case SCHEDULE_NAIVE: return p - 1;
    case SCHEDULE_INTERLEAVED: return (p - 1) / (virtual_stages * m);
    case SCHEDULE_ZB_H1: return (p - 1 + fmax(p - m, 0)) / (3 * m);
    case SCHEDULE_ZB_V: return fmax(2 * p - 1 - m, 0) / (3 * m);
    default: return (p - 1) / m;
    }
}

double schedule_bubble_step_formula(ScheduleKind kind, int p, int virtual_stages, int64_t m) {
    double own = schedule_bubble_formula(kind, p, virtual_stages, m);
    return kind == SCHEDULE_ZB_V ? fmax(own, (p - 1) / (6 * (double)m)) : own;
}

int64_t schedule_in_flight_formula(ScheduleKind kind, int p, int v, int64_t m, int stage) {
    switch (kind) {
    case SCHEDULE_NAIVE: return 1;
    case SCHEDULE_GPIPE: return m;
    case SCHEDULE_INTERLEAVED: return min64(v * m, 2 * (p - 1 - stage) + (int64_t)(v - 1) * p + 1);
    case SCHEDULE_ZB_H1: return min64(m, p);
    case SCHEDULE_ZB_V: return min64(min64(2 * m, m + 1 + stage), 2 * (int64_t)p);
    default: return min64(m, p - stage);
    }
}
