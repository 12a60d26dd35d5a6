#include "chapters/09_pipeline_parallel/plan.h"

#include "chapters/09_pipeline_parallel/plan_proof.h"

#include <stdlib.h>

int64_t plan_gone_by(const Plan *plan, int chunk, int64_t microbatch) {
    return plan->gone_by[chunk * plan->schedule->microbatches + microbatch];
}

/* ---- what a stage holds ---- */

static int64_t most_in_flight(const Action *actions, int64_t count) {
    int64_t now = 0, most = 0;
    for (int64_t k = 0; k < count; k++) {
        if (actions[k].kind == ACTION_FORWARD) most = max64(most, ++now);
        if (actions[k].kind == ACTION_WEIGHTS ||
            (actions[k].kind == ACTION_BACKWARD && !actions[k].inputs_only))
            now--;
    }
    return most;
}

/* ---- messages ---- */

/* The stage that needs what an action makes; -1: none, or its own. And *need: which of its actions. */
static int receiver_of(const Plan *plan, int stage, const Action *a, int64_t *need) {
    const Schedule *s = plan->schedule;
    int chunk = a->kind == ACTION_FORWARD ? a->chunk + 1 : a->chunk - 1;
    if (a->kind == ACTION_WEIGHTS || chunk < 0 || chunk >= s->chunks || s->stage_of[chunk] == stage)
        return -1;
    *need = plan_index(plan, a->kind, chunk, a->microbatch);
    return s->stage_of[chunk];
}

typedef struct {
    int64_t need, at; /* the action that needs it; the one in front of which it is asked for */
    int from;
} Ask;

/* Of one pair, in the order in which they are sent: asked for in that order, one action ahead of the need if that leaves
 * the order. A gradient cannot be asked for before that has gone out which it is the gradient of. */
static void place_asks(const Plan *plan, int stage, Ask *asks, int64_t count) {
    const Action *actions = plan->schedule->actions[stage];
    int64_t latest = INT64_MAX, earliest = 0;
    for (int64_t j = count; j-- > 0;) {
        latest = min64(latest, max64(asks[j].need - 1, 0));
        asks[j].at = latest;
    }
    for (int64_t j = 0; j < count; j++) {
        const Action *a = &actions[asks[j].need];
        if (a->kind == ACTION_BACKWARD)
            earliest = max64(earliest, plan_index(plan, ACTION_FORWARD, a->chunk, a->microbatch) + 1);
        asks[j].at = max64(asks[j].at, earliest);
    }
}

/* Whoever has a message from this stage knows that it has asked for all that stands before the action which sent that. */
static void note_asked(Plan *plan, int stage, int from, const Ask *asks, int64_t count) {
    const Schedule *s = plan->schedule;
    const Action *actions = s->actions[stage];
    int64_t known = INT64_MAX, at = s->counts[stage];
    for (int64_t j = count; j-- > 0;) { /* later asks stand further behind */
        for (; at > asks[j].at; at--) {
            int64_t need;
            if (receiver_of(plan, stage, &actions[at - 1], &need) == from) known = min64(known, need + 1);
        }
        const Action *a = &actions[asks[j].need];
        if (a->kind == ACTION_BACKWARD)
            plan->gone_by[(a->chunk + 1) * s->microbatches + a->microbatch] = known;
    }
}

static void make_steps(Plan *plan, int stage, const Ask *asks, int64_t count) {
    const Schedule *s = plan->schedule;
    const Action *actions = s->actions[stage];
    int64_t *behind = xcalloc((size_t)s->counts[stage] + 1, sizeof *behind); /* of action k: its step */
    plan->counts[stage] = s->counts[stage] + count;
    plan->steps[stage] = xmalloc((size_t)max64(plan->counts[stage], 1) * sizeof(PlanStep));
    for (int64_t j = 0; j < count; j++) behind[asks[j].at]++;
    for (int64_t k = 0, step = 0; k < s->counts[stage]; k++) {
        int64_t asked = behind[k], peer_need;
        behind[k] = step; /* where the first ask in front of it goes */
        step += asked + 1;
        int peer = receiver_of(plan, stage, &actions[k], &peer_need);
        plan->messages[stage] += peer >= 0;
        plan->steps[stage][step - 1] = (PlanStep){PLAN_ACT, actions[k], peer};
    }
    for (int64_t j = 0; j < count; j++) {
        const Action *a = &actions[asks[j].need];
        PlanKind kind = a->kind == ACTION_FORWARD ? PLAN_ASK_INPUT : PLAN_ASK_GRADIENT;
        plan->steps[stage][behind[asks[j].at]++] = (PlanStep){kind, *a, asks[j].from};
    }
    free(behind);
}

static void put_in_receives(Plan *plan, int stage) {
    const Schedule *s = plan->schedule;
    Ask *asks = xmalloc((size_t)max64(s->counts[stage], 1) * sizeof *asks); /* one an action at most */
    int64_t count = 0;
    for (int from = 0; from < s->stages; from++) {
        int64_t first = count;
        for (int64_t k = 0; k < s->counts[from]; k++) {
            int64_t need;
            if (receiver_of(plan, from, &s->actions[from][k], &need) == stage)
                asks[count++] = (Ask){.need = need, .from = from};
        }
        place_asks(plan, stage, asks + first, count - first);
        note_asked(plan, stage, from, asks + first, count - first);
    }
    make_steps(plan, stage, asks, count);
    free(asks);
}

/* ---- all of it ---- */

Plan *plan_new(const Schedule *s, char **problem, char **hint) {
    Plan *plan = xcalloc(1, sizeof *plan);
    size_t stages = (size_t)s->stages, slots = (size_t)(s->chunks * s->microbatches * ACTION_KINDS);
    *plan = (Plan){.schedule = s,
                   .steps = xcalloc(stages, sizeof(PlanStep *)),
                   .counts = xcalloc(stages, sizeof(int64_t)),
                   .in_flight = xcalloc(stages, sizeof(int64_t)),
                   .messages = xcalloc(stages, sizeof(int64_t)),
                   .index = xmalloc(slots * sizeof(int64_t)),
                   .gone_by = xcalloc(slots / ACTION_KINDS, sizeof(int64_t))};
    for (size_t i = 0; i < slots; i++) plan->index[i] = -1;
    for (int stage = 0; stage < s->stages; stage++) plan->actions += s->counts[stage];
    plan->order = xmalloc((size_t)max64(plan->actions, 1) * sizeof *plan->order);
    Refusal refusal = {0};
    if (!plan_prove(plan, &refusal)) {
        plan_delete(plan);
        *problem = refusal.problem;
        *hint = refusal.hint;
        return NULL;
    }
    for (int stage = 0; stage < s->stages; stage++) {
        plan->in_flight[stage] = most_in_flight(s->actions[stage], s->counts[stage]);
        put_in_receives(plan, stage);
    }
    return plan;
}

void plan_delete(Plan *plan) {
    if (!plan) return;
    for (int stage = 0; stage < plan->schedule->stages; stage++) free(plan->steps[stage]);
    free(plan->steps);
    free(plan->counts);
    free(plan->in_flight);
    free(plan->messages);
    free(plan->order);
    free(plan->index);
    free(plan->gone_by);
    free(plan);
}
