/* schedules: what tests of pipelines need: every built-in one, and random ones that can be run, of any order. */
#ifndef SCHEDULES_H
#define SCHEDULES_H

#include "chapters/09_pipeline_parallel/plan.h"
#include "common/base/rng.h"

#include <stdlib.h>

/* The plan of a schedule that has no problem. */
static inline Plan *plan_of(const Schedule *schedule) {
    char *problem, *hint;
    Plan *plan = plan_new(schedule, &problem, &hint);
    CHECK(plan, hint, "%s", problem);
    return plan;
}

/* Whether all that an action needs is among those that are there: (chunks, microbatches, ACTION_KINDS). */
static inline bool could_act(const Schedule *s, const bool *there, ActionKind kind, int chunk, int64_t i) {
    const bool *own = &there[(chunk * s->microbatches + i) * ACTION_KINDS];
    const bool *above = own - s->microbatches * ACTION_KINDS, *below = own + s->microbatches * ACTION_KINDS;
    switch (kind) {
    case ACTION_FORWARD: return chunk == 0 || above[ACTION_FORWARD];
    case ACTION_BACKWARD: return own[ACTION_FORWARD] && (chunk == s->chunks - 1 || below[ACTION_BACKWARD]);
    default: return own[ACTION_BACKWARD];
    }
}

/* The chunks lie anywhere, one at least on each stage; each action is drawn among those that could be next. Some B have a
 * W. */
static inline Schedule *random_schedule(int stages, int chunks, int64_t microbatches, Rng *rng) {
    Schedule *s = schedule_empty("random", stages, chunks, microbatches);
    int shift = (int)rng_below(rng, (uint32_t)chunks);
    for (int chunk = 0; chunk < chunks; chunk++) {
        int k = (chunk + shift) % chunks;
        s->stage_of[chunk] = k < stages ? k : (int)rng_below(rng, (uint32_t)stages);
    }
    int count = chunks * (int)microbatches * ACTION_KINDS, open = 0;
    int *left = xmalloc((size_t)count * sizeof *left);
    bool *there = xcalloc((size_t)count, sizeof *there);
    uint32_t split = rng_below(rng, 3); /* none, some, all */
    for (int a = 0; a < count; a++)
        if (a % ACTION_KINDS != ACTION_WEIGHTS || rng_below(rng, 2) < split) left[open++] = a;
    while (open > 0) {
        int pick = (int)rng_below(rng, (uint32_t)open), a = left[pick];
        int chunk = a / ACTION_KINDS / (int)microbatches;
        Action action = {.kind = (ActionKind)(a % ACTION_KINDS),
                         .chunk = chunk,
                         .microbatch = a / ACTION_KINDS % microbatches};
        if (!could_act(s, there, action.kind, chunk, action.microbatch)) continue;
        schedule_add(s, s->stage_of[chunk], action);
        there[a] = true;
        left[pick] = left[--open];
    }
    schedule_finish(s);
    free(left);
    free(there);
    return s;
}

#endif
