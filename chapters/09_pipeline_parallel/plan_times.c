#include "chapters/09_pipeline_parallel/plan.h"

#include <math.h>
#include <stdlib.h>

static double action_seconds(const PlanCosts *costs, PlanPlace at, const Action *a) {
    const Interval *took = costs->took ? &costs->took[at.stage][at.index] : NULL;
    if (took) return took->end - took->begin;
    const double *seconds = costs->chunks[a->chunk].seconds;
    bool whole = a->kind == ACTION_BACKWARD && !a->inputs_only;
    return seconds[a->kind] + (whole ? seconds[ACTION_WEIGHTS] : 0);
}

/* When each message is there, by the action that needs it, and until when each stage's link is taken. */
typedef struct {
    double **arrives; /* (stages), of each its actions */
    double *sent_until;
} Messages;

/* The action ends at `now`: what it has made goes to whoever needs it, as comm.c charges it by the model clock. */
static void send(const Plan *plan, const PlanCosts *costs, Messages *messages, int stage, const Action *a,
                 double now) {
    const Schedule *s = plan->schedule;
    int chunk = a->kind == ACTION_FORWARD ? a->chunk + 1 : a->chunk - 1;
    if (a->kind == ACTION_WEIGHTS || chunk < 0 || chunk >= s->chunks) return;
    int to = s->stage_of[chunk];
    if (to != stage && costs->message) {
        MessageCost cost = costs->message(costs->context, stage, to);
        messages->sent_until[stage] = fmax(messages->sent_until[stage], now) + cost.transfer;
        now = messages->sent_until[stage] + cost.latency;
    }
    messages->arrives[to][plan_index(plan, a->kind, chunk, a->microbatch)] = now;
}

PlanTimes plan_times_measured(const Schedule *s, Interval **actions) {
    PlanTimes t = {.actions = actions,
                   .busy = xcalloc((size_t)s->stages, sizeof(double)),
                   .span = xcalloc((size_t)s->stages, sizeof(Interval))};
    double first = INFINITY, last = -INFINITY, busy = 0;
    int longest = 0;
    for (int stage = 0; stage < s->stages; stage++) {
        int64_t count = s->counts[stage];
        t.span[stage] = (Interval){t.actions[stage][0].begin, t.actions[stage][count - 1].end};
        for (int64_t k = 0; k < count; k++)
            t.busy[stage] += t.actions[stage][k].end - t.actions[stage][k].begin;
        busy += t.busy[stage];
        first = fmin(first, t.span[stage].begin);
        last = fmax(last, t.span[stage].end);
        if (t.span[stage].end - t.span[stage].begin > t.span[longest].end - t.span[longest].begin)
            longest = stage;
    }
    t.begin = first;
    t.seconds = last - first;
    t.bubble = (t.span[longest].end - t.span[longest].begin) / t.busy[longest] - 1;
    t.bubble_step = t.seconds * s->stages / busy - 1;
    return t;
}

PlanTimes plan_times(const Plan *plan, const PlanCosts *costs) {
    const Schedule *s = plan->schedule;
    size_t stages = (size_t)s->stages;
    Interval **actions = xcalloc(stages, sizeof(Interval *));
    Messages messages = {xcalloc(stages, sizeof(double *)), xcalloc(stages, sizeof(double))};
    for (size_t stage = 0; stage < stages; stage++) {
        actions[stage] = xcalloc((size_t)s->counts[stage], sizeof(Interval));
        messages.arrives[stage] = xcalloc((size_t)s->counts[stage], sizeof(double));
    }
    for (int64_t i = 0; i < plan->actions; i++) {
        PlanPlace at = plan->order[i];
        const Action *a = &s->actions[at.stage][at.index];
        Interval *when = &actions[at.stage][at.index];
        double free_from = at.index ? when[-1].end : 0;
        when->begin = fmax(free_from, messages.arrives[at.stage][at.index]);
        when->end = when->begin + action_seconds(costs, at, a);
        send(plan, costs, &messages, at.stage, a, when->end);
    }
    for (size_t stage = 0; stage < stages; stage++) free(messages.arrives[stage]);
    free(messages.arrives);
    free(messages.sent_until);
    return plan_times_measured(s, actions);
}

void plan_times_free(PlanTimes *t, const Plan *plan) {
    for (int stage = 0; stage < plan->schedule->stages; stage++) free(t->actions[stage]);
    free(t->actions);
    free(t->busy);
    free(t->span);
    *t = (PlanTimes){0};
}
