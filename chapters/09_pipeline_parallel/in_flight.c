#include "chapters/09_pipeline_parallel/in_flight.h"

#include "common/draw/steps.h"

#include <inttypes.h>
#include <stdlib.h>

InFlight in_flight_of(const Schedule *s, const PlanTimes *times, int stage) {
    int64_t count = s->counts[stage];
    InFlight f = {.times = xmalloc((size_t)max64(count, 1) * sizeof(double)),
                  .held = xmalloc((size_t)max64(count, 1) * sizeof(double))};
    double held = 0;
    for (int64_t k = 0; k < count; k++) {
        const Action *a = &s->actions[stage][k];
        bool begins = a->kind == ACTION_FORWARD,
             ends = a->kind == ACTION_WEIGHTS || (a->kind == ACTION_BACKWARD && !a->inputs_only);
        if (!begins && !ends) continue;
        const Interval *when = &times->actions[stage][k];
        held += begins ? 1 : -1;
        double moment = (begins ? when->begin : when->end) - times->begin;
        if (f.count == 0 || moment > f.times[f.count - 1]) f.times[f.count++] = moment;
        f.held[f.count - 1] = held; /* of several at the same moment the last counts */
    }
    return f;
}

void in_flight_free(InFlight *f) {
    free(f->times);
    free(f->held);
    *f = (InFlight){0};
}

void in_flight_draw(const Plan *plan, ScheduleKind kind, const PlanTimes *times, const char *title,
                    double unit, const char *unit_name, const char *path) {
    const Schedule *s = plan->schedule;
    int p = s->stages, v = s->chunks / p;
    InFlight *flights = xmalloc((size_t)p * sizeof *flights);
    StepsRow *rows = xmalloc((size_t)p * sizeof *rows);
    char **words = xmalloc(2 * (size_t)p * sizeof *words);
    for (int stage = 0; stage < p; stage++) {
        InFlight *f = &flights[stage];
        *f = in_flight_of(s, times, stage);
        for (int64_t i = 0; i < f->count; i++) f->times[i] /= unit;
        bool formula = kind != SCHEDULE_KINDS;
        int64_t most =
            formula ? schedule_in_flight_formula(kind, p, v, s->microbatches, stage) : plan->in_flight[stage];
        words[2 * stage] = xprintf("stage %d", stage);
        words[2 * stage + 1] = xprintf("%" PRId64 " by %s", most, formula ? "formula" : "the plan");
        rows[stage] = (StepsRow){.name = words[2 * stage],
                                 .curve = {{f->times, f->held, f->count}},
                                 .level = (double)most,
                                 .level_label = words[2 * stage + 1]};
    }
    Steps steps = {
        .title = title,
        .x_label = unit_name,
        .curve_labels = {v > 1 ? "micro-batches in flight, in each chunk" : "micro-batches in flight"},
        .longest = times->seconds / unit,
        .rows = rows,
        .count = p};
    steps_draw(&steps, path);
    for (int stage = 0; stage < p; stage++) in_flight_free(&flights[stage]);
    for (int i = 0; i < 2 * p; i++) free(words[i]);
    free(words);
    free(flights);
    free(rows);
}
