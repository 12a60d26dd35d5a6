/* The plan of chapter 09's pipelines. Of every built-in schedule and of random ones that can be run: receives are asked for
 * in the order in which the sender sends, never too late, never earlier than they need be, and a gradient not before that
 * went out which it is the gradient of; what is said to be gone has been asked for. How long a plan takes.
 *
 * TEST variants: float asan
 * TEST tier: more */
#include "tests/schedules.h"
#include "tests/tap.h"

#include <string.h>

static int more = 1; /* times as many random cases: 10 in `make test-all` */

/* ---- receives ---- */

typedef struct {
    int64_t need, at, earliest; /* of the receiver's actions; at: in front of which it is asked for */
} Receive;

/* The messages from one stage to another one, in the order of sending. Returns how many; -1: a step has a peer that its
 * action has not. */
static int64_t receives_of(const Plan *plan, int from, int to, Receive *receives) {
    const Schedule *s = plan->schedule;
    int64_t count = 0;
    for (int64_t i = 0; i < plan->counts[from]; i++) {
        const PlanStep *step = &plan->steps[from][i];
        if (step->kind != PLAN_ACT || step->peer != to) continue;
        const Action *a = &step->action;
        int chunk = a->kind == ACTION_FORWARD ? a->chunk + 1 : a->chunk - 1;
        if (a->kind == ACTION_WEIGHTS || chunk < 0 || chunk >= s->chunks || s->stage_of[chunk] != to)
            return -1;
        Receive *r = &receives[count++];
        *r = (Receive){.need = -1, .at = -1};
        for (int64_t k = 0; k < s->counts[to]; k++) {
            const Action *b = &s->actions[to][k];
            if (b->chunk != chunk || b->microbatch != a->microbatch) continue;
            if (b->kind == a->kind) r->need = k;
            if (b->kind == ACTION_FORWARD && a->kind == ACTION_BACKWARD) r->earliest = k + 1;
        }
    }
    return count;
}

/* The asks of `to` for messages of `from`, in its order: each is that of the sender. */
static bool asks_in_order(const Plan *plan, int from, int to, Receive *receives, int64_t count) {
    int64_t action = 0, asked = 0;
    for (int64_t i = 0; i < plan->counts[to]; i++) {
        const PlanStep *step = &plan->steps[to][i];
        action += step->kind == PLAN_ACT;
        if (step->kind == PLAN_ACT || step->peer != from) continue;
        if (asked == count) return false;
        Receive *r = &receives[asked++];
        const Action *a = &plan->schedule->actions[to][r->need];
        if (step->action.kind != a->kind || step->action.chunk != a->chunk ||
            step->action.microbatch != a->microbatch ||
            step->kind != (a->kind == ACTION_FORWARD ? PLAN_ASK_INPUT : PLAN_ASK_GRADIENT))
            return false;
        r->at = action;
    }
    return asked == count;
}

/* One action ahead of the need of this message or of a later one; later only where a gradient among it and those before
 * cannot be asked for yet. */
static bool asks_in_time(const Receive *receives, int64_t count) {
    int64_t earliest = 0;
    for (int64_t j = 0; j < count; j++) {
        int64_t ahead = INT64_MAX;
        for (int64_t i = j; i < count; i++) ahead = min64(ahead, receives[i].need - 1);
        earliest = max64(earliest, receives[j].earliest);
        if (receives[j].at > receives[j].need || receives[j].at < receives[j].earliest) return false;
        if (receives[j].at != max64(ahead, earliest)) return false;
    }
    return true;
}

static bool actions_kept(const Plan *plan, int stage) {
    int64_t k = 0;
    for (int64_t i = 0; i < plan->counts[stage]; i++) {
        const PlanStep *step = &plan->steps[stage][i];
        if (step->kind != PLAN_ACT) continue;
        const Action *a = &step->action, *b = &plan->schedule->actions[stage][k++];
        if (a->kind != b->kind || a->chunk != b->chunk || a->microbatch != b->microbatch) return false;
        if (a->inputs_only != b->inputs_only) return false;
    }
    return k == plan->schedule->counts[stage];
}

static const char *wrong_receives(const Plan *plan) {
    const Schedule *s = plan->schedule;
    for (int from = 0; from < s->stages; from++) {
        if (!actions_kept(plan, from)) return "the actions are not the schedule's";
        Receive *receives = xmalloc((size_t)s->counts[from] * sizeof *receives);
        int64_t messages = 0;
        const char *wrong = NULL;
        for (int to = 0; to < s->stages; to++) {
            int64_t count = receives_of(plan, from, to, receives);
            if (count < 0 || (to == from && count > 0)) wrong = "a message that nobody needs";
            if (wrong) break;
            messages += count;
            if (!asks_in_order(plan, from, to, receives, count))
                wrong = "asks are not in the order of sending";
            else if (!asks_in_time(receives, count))
                wrong = "asks are too early or too late";
        }
        free(receives);
        if (!wrong && messages != plan->messages[from]) wrong = "the number of messages";
        if (wrong) return wrong;
    }
    return NULL;
}

/* Messages in all: two for each micro-batch at each border between chunks that lie on different stages. */
static bool right_total(const Plan *plan) {
    const Schedule *s = plan->schedule;
    int64_t total = 0, borders = 0;
    for (int stage = 0; stage < s->stages; stage++) total += plan->messages[stage];
    for (int chunk = 1; chunk < s->chunks; chunk++) borders += s->stage_of[chunk] != s->stage_of[chunk - 1];
    return total == 2 * borders * s->microbatches;
}

/* Each action once, and all that it needs before it. */
static bool right_order(const Plan *plan) {
    const Schedule *s = plan->schedule;
    bool *there = xcalloc((size_t)(s->chunks * s->microbatches * ACTION_KINDS), sizeof *there), right = true;
    for (int64_t i = 0; i < plan->actions && right; i++) {
        const Action *a = &s->actions[plan->order[i].stage][plan->order[i].index];
        bool *own = &there[(a->chunk * s->microbatches + a->microbatch) * ACTION_KINDS + a->kind];
        right = !*own && could_act(s, there, a->kind, a->chunk, a->microbatch);
        right &= plan_index(plan, a->kind, a->chunk, a->microbatch) == plan->order[i].index;
        *own = true;
    }
    free(there);
    return right;
}

/* ---- what is known to be gone ---- */

enum { MOST_STAGES = 8 };

/* How far each stage must be so that one can be as far as it is. */
typedef struct {
    const Plan *plan;
    int64_t steps[MOST_STAGES], actions[MOST_STAGES];
} Least;

static void go_on(Least *least, int stage, int64_t actions) {
    const Plan *plan = least->plan;
    while (least->actions[stage] < actions) {
        const PlanStep *step = &plan->steps[stage][least->steps[stage]++];
        const Action *a = &step->action;
        if (step->kind != PLAN_ACT) continue;
        int chunk = a->kind == ACTION_FORWARD ? a->chunk - 1 : a->chunk + 1;
        if (a->kind != ACTION_WEIGHTS && chunk >= 0 && chunk < plan->schedule->chunks)
            if (plan->schedule->stage_of[chunk] != stage)
                go_on(least, plan->schedule->stage_of[chunk],
                      plan_index(plan, a->kind, chunk, a->microbatch) + 1);
        least->actions[stage]++;
    }
}

/* Whether the stage to which B of this sends has asked for it, as far as it is. */
static bool was_asked(const Least *least, int chunk, int64_t microbatch) {
    int to = least->plan->schedule->stage_of[chunk - 1];
    for (int64_t i = 0; i < least->steps[to]; i++) {
        const PlanStep *step = &least->plan->steps[to][i];
        if (step->kind == PLAN_ASK_GRADIENT && step->action.chunk == chunk - 1 &&
            step->action.microbatch == microbatch)
            return true;
    }
    return false;
}

/* However slow the others are, what is known to have been asked for has been. */
static bool gone_in_time(const Plan *plan) {
    const Schedule *s = plan->schedule;
    for (int stage = 0; stage < s->stages; stage++) {
        Least least = {.plan = plan};
        for (int64_t done = 1; done <= s->counts[stage]; done++) {
            go_on(&least, stage, done);
            for (int64_t k = 0; k < done; k++) {
                const Action *a = &s->actions[stage][k];
                int64_t gone_by = plan_gone_by(plan, a->chunk, a->microbatch);
                if (a->kind != ACTION_BACKWARD) continue;
                if ((gone_by == 0) != (a->chunk == 0 || s->stage_of[a->chunk - 1] == stage)) return false;
                if (gone_by > 0 && gone_by <= done && !was_asked(&least, a->chunk, a->microbatch))
                    return false;
            }
        }
    }
    return true;
}

/* How many tapes a stage needs that uses one again when its gradient is known to be gone. */
static int64_t tapes_of(const Plan *plan, int stage) {
    const Schedule *s = plan->schedule;
    int64_t tapes = 0, waiting_count = 0, actions = 0;
    int64_t *waiting = xmalloc((size_t)s->counts[stage] * sizeof *waiting);
    for (int64_t i = 0; i < plan->counts[stage]; i++) {
        const PlanStep *step = &plan->steps[stage][i];
        const Action *a = &step->action;
        bool asked = a->chunk > 0 && s->stage_of[a->chunk - 1] != stage;
        if (step->kind == (asked ? PLAN_ASK_INPUT : PLAN_ACT) && a->kind == ACTION_FORWARD) {
            int64_t k = 0;
            while (k < waiting_count && waiting[k] > actions) k++;
            if (k < waiting_count)
                waiting[k] = waiting[--waiting_count];
            else
                tapes++;
        }
        if (step->kind != PLAN_ACT) continue;
        actions++;
        if (a->kind == ACTION_WEIGHTS || (a->kind == ACTION_BACKWARD && !a->inputs_only))
            waiting[waiting_count++] = plan_gone_by(plan, a->chunk, a->microbatch);
    }
    free(waiting);
    return tapes;
}

static bool few_tapes(const Plan *plan) {
    for (int stage = 0; stage < plan->schedule->stages; stage++)
        if (tapes_of(plan, stage) > plan->in_flight[stage] + 2) return false;
    return true;
}

static const char *wrong_with(const Plan *plan) {
    const char *wrong = wrong_receives(plan);
    if (!wrong && !right_total(plan)) wrong = "the messages of all stages";
    if (!wrong && !right_order(plan)) wrong = "the order of all actions";
    if (!wrong && !gone_in_time(plan)) wrong = "what is known to be gone";
    return wrong;
}

static void test_built_in(void) {
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        const char *wrong = NULL;
        int at_p = 0, cases = 0;
        for (int p = 1; p <= 5; p++)
            for (int64_t m = 1; m <= 11 && !wrong; m++)
                for (int v = 1; v <= (kind == SCHEDULE_INTERLEAVED ? 3 : 1) && !wrong; v++) {
                    if (kind == SCHEDULE_INTERLEAVED && m % p) continue;
                    Schedule *s = schedule_new(kind, p, v, m);
                    Plan *plan = plan_of(s);
                    wrong = wrong_with(plan);
                    if (!wrong && !few_tapes(plan)) wrong = "tapes are not used again";
                    at_p = p;
                    cases++;
                    plan_delete(plan);
                    schedule_delete(s);
                }
        ok(!wrong, "%s: receives of %d schedules%s%s", schedule_names[kind], cases, wrong ? ": " : "",
           wrong ? wrong : "");
        if (wrong) printf("# p = %d\n", at_p);
    }
}

static void test_random(void) {
    Rng rng = {11, rng_stream("plans"), 0};
    const char *wrong = NULL;
    int cases = 300 * more, fine = 0;
    for (; fine < cases && !wrong; fine++) {
        int p = 1 + (int)rng_below(&rng, 5), chunks = p + (int)rng_below(&rng, 4);
        Schedule *s = random_schedule(p, chunks, 1 + rng_below(&rng, 6), &rng);
        Plan *plan = plan_of(s);
        wrong = wrong_with(plan);
        plan_delete(plan);
        schedule_delete(s);
    }
    ok(!wrong, "receives of %d random schedules%s%s", fine, wrong ? ": " : "", wrong ? wrong : "");
}

/* ---- times ---- */

static MessageCost message(const void *context, int from, int to) {
    (void)context;
    return from < to ? (MessageCost){2, 0.5} : (MessageCost){1, 0.25};
}

/* Two stages, gpipe, two micro-batches; F 1 and B 3 seconds. Stage 0 ends F at 1 and 2; the second message waits for the
 * first to leave, 1 to 3 and 3 to 5, and they are there at 3.5 and 5.5. Stage 1: F 3.5 to 4.5 and 5.5 to 6.5, B to 9.5 and
 * 12.5; there at 10.75 and 13.75. Stage 0: B 10.75 to 13.75 and 13.75 to 16.75. */
static void test_times(void) {
    Schedule *s = schedule_new(SCHEDULE_GPIPE, 2, 1, 2);
    Plan *plan = plan_of(s);
    ChunkCost cost[2] = {{{1, 2, 1}}, {{1, 2, 1}}};
    PlanTimes t = plan_times(plan, &(PlanCosts){.chunks = cost, .message = message});
    static const Interval want[2][4] = {{{0, 1}, {1, 2}, {10.75, 13.75}, {13.75, 16.75}},
                                        {{3.5, 4.5}, {5.5, 6.5}, {6.5, 9.5}, {9.5, 12.5}}};
    for (int stage = 0; stage < 2; stage++)
        for (int k = 0; k < 4; k++) {
            close_to(t.actions[stage][k].begin, want[stage][k].begin, 1e-15, "begin");
            close_to(t.actions[stage][k].end, want[stage][k].end, 1e-15, "end");
        }
    close_to(t.seconds, 16.75, 1e-15, "seconds");
    close_to(t.bubble, 16.75 / 8 - 1, 1e-15, "bubble of stage 0");
    close_to(t.bubble_step, 16.75 / 8 - 1, 1e-15, "bubble of the step");
    close_to(t.span[1].begin, 3.5, 1e-15, "stage 1 begins");
    close_to(t.span[1].end, 12.5, 1e-15, "stage 1 ends");
    plan_times_free(&t, plan);
    plan_delete(plan);
    schedule_delete(s);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    if (getenv("TEST_ALL")) more = 10;
    test_built_in();
    test_random();
    test_times();
    return tap_done();
}
