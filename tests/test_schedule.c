/* The schedules of chapter 09, for many numbers of stages, chunks and micro-batches: each can be run, takes the micro-batches
 * in order, holds as many as its formula says on each stage, and has the bubble of its formula. What there is no schedule
 * for is refused with the nearest numbers.
 *
 * TEST variants: float asan */
#include "tests/schedules.h"
#include "tests/tap.h"

#include <inttypes.h>
#include <string.h>

enum { MOST_STAGES = 8, MOST_MICROBATCHES = 21, MOST_CHUNKS = 4 * MOST_STAGES };

typedef struct {
    ScheduleKind kind;
    int p, v;
    int64_t m;
} Case;

static ChunkCost costs[MOST_CHUNKS];

static PlanTimes times_of(const Plan *plan, double f, double b, double w) {
    for (int chunk = 0; chunk < MOST_CHUNKS; chunk++) costs[chunk] = (ChunkCost){{f, b, w}};
    return plan_times(plan, &(PlanCosts){.chunks = costs});
}

/* Within a chunk micro-batches go in ascending order, in F, B and W. */
static bool ascends(const Schedule *s) {
    for (int stage = 0; stage < s->stages; stage++) {
        int64_t next[MOST_CHUNKS][ACTION_KINDS] = {{0}};
        for (int64_t k = 0; k < s->counts[stage]; k++) {
            const Action *a = &s->actions[stage][k];
            if (a->microbatch != next[a->chunk][a->kind]++) return false;
        }
    }
    return true;
}

static bool weights_apart(const Schedule *s, bool apart) {
    int64_t each = s->chunks / s->stages * s->microbatches;
    for (int stage = 0; stage < s->stages; stage++) {
        if (s->counts[stage] != each * (apart ? 3 : 2)) return false;
        for (int64_t k = 0; k < s->counts[stage]; k++) {
            const Action *a = &s->actions[stage][k];
            if (a->inputs_only != (apart && a->kind == ACTION_BACKWARD)) return false;
        }
    }
    return true;
}

static bool holds_what_it_says(const Case *c, const Plan *plan) {
    int64_t most = 0;
    for (int stage = 0; stage < c->p; stage++) {
        if (plan->in_flight[stage] != schedule_in_flight_formula(c->kind, c->p, c->v, c->m, stage))
            return false;
        most = max64(most, plan->in_flight[stage]);
    }
    if (c->kind == SCHEDULE_ZB_V) return most <= 2 * c->p;
    return c->kind == SCHEDULE_GPIPE || c->kind == SCHEDULE_INTERLEAVED || most <= c->p;
}

/* By the largest of the errors: of both bubbles, and of the time, all stages being busy equally long. */
static double bubble_off(const Case *c, const Plan *plan) {
    int own = schedule_chunks_per_stage(c->kind, c->v);
    PlanTimes t = times_of(plan, 1.0 / own, 1.0 / own, 1.0 / own);
    double off = fabs(t.bubble - schedule_bubble_formula(c->kind, c->p, c->v, c->m));
    double step = schedule_bubble_step_formula(c->kind, c->p, c->v, c->m);
    off = worse(off, fabs(t.bubble_step - step));
    for (int stage = 0; stage < c->p; stage++) off = worse(off, fabs(t.busy[stage] / (3 * (double)c->m) - 1));
    off = worse(off, fabs(t.seconds / (3 * (double)c->m * (1 + step)) - 1));
    plan_times_free(&t, plan);
    return off;
}

/* Without W of its own the bubble does not depend on how long F and B take. */
static double bubble_off_uneven(const Case *c, const Plan *plan) {
    PlanTimes t = times_of(plan, 0.7, 1.1, 0.4);
    double off = fabs(t.bubble - schedule_bubble_formula(c->kind, c->p, c->v, c->m));
    plan_times_free(&t, plan);
    return off;
}

static void test_kind(ScheduleKind kind, int v) {
    bool apart = kind == SCHEDULE_ZB_H1 || kind == SCHEDULE_ZB_V, uneven = !apart;
    int cases = 0;
    const char *wrong = NULL;
    Case c = {kind, 0, v, 0}, bad = c;
    double off = 0;
    for (c.p = 1; c.p <= MOST_STAGES; c.p++)
        for (c.m = 1; c.m <= MOST_MICROBATCHES; c.m++) {
            if (kind == SCHEDULE_INTERLEAVED && c.m % c.p) continue;
            cases++;
            Schedule *s = schedule_new(kind, c.p, v, c.m);
            Plan *plan = plan_of(s);
            double error = worse(bubble_off(&c, plan), uneven ? bubble_off_uneven(&c, plan) : 0);
            off = worse(off, error);
            const char *now = !ascends(s)                     ? "micro-batches are not in order"
                              : !weights_apart(s, apart)      ? "W of its own"
                              : !holds_what_it_says(&c, plan) ? "micro-batches in flight"
                              : !(error <= 1e-12)             ? "bubble"
                                                              : NULL;
            if (now && !wrong) wrong = now, bad = c;
            plan_delete(plan);
            schedule_delete(s);
        }
    ok(!wrong, "%s, %d chunk%s a stage: %d pairs of p and m, bubbles within %.1g%s%s", schedule_names[kind],
       schedule_chunks_per_stage(kind, v), schedule_chunks_per_stage(kind, v) > 1 ? "s" : "", cases, off,
       wrong ? ": " : "", wrong ? wrong : "");
    if (wrong) printf("# first with p = %d, m = %" PRId64 "\n", bad.p, bad.m);
}

/* zb-h1 with each W right behind its B: as many in flight as 1f1b on each stage, and two thirds of its bubble. */
static void test_weights_at_once(void) {
    bool as_many = true, two_thirds = true;
    for (int p = 1; p <= MOST_STAGES; p++)
        for (int64_t m = 1; m <= MOST_MICROBATCHES; m++) {
            Schedule *s = schedule_new(SCHEDULE_1F1B, p, 1, m);
            Schedule *at_once = schedule_empty("at once", p, p, m);
            for (int stage = 0; stage < p; stage++) {
                at_once->stage_of[stage] = stage;
                for (int64_t k = 0; k < s->counts[stage]; k++) {
                    Action a = s->actions[stage][k];
                    schedule_add(at_once, stage, a);
                    if (a.kind != ACTION_BACKWARD) continue;
                    a.kind = ACTION_WEIGHTS;
                    schedule_add(at_once, stage, a);
                }
            }
            schedule_finish(at_once);
            Plan *plan = plan_of(at_once);
            PlanTimes t = times_of(plan, 1, 1, 1);
            double third = (p - 1) / (3 * (double)m);
            for (int stage = 0; stage < p; stage++) as_many &= plan->in_flight[stage] == min64(m, p - stage);
            two_thirds &= fabs(t.bubble - 2 * third) <= 1e-12;
            plan_times_free(&t, plan);
            plan_delete(plan);
            schedule_delete(at_once);
            schedule_delete(s);
        }
    ok(as_many, "a W at once: as many in flight as 1f1b has on each stage");
    ok(two_thirds, "... and two thirds of its bubble, not one");
}

static void test_refused(ScheduleKind kind, int p, int v, int64_t m, const char *problem, const char *hint) {
    char *got_hint = NULL, *got = schedule_problem(kind, p, v, m, &got_hint);
    ok(got && strcmp(got, problem) == 0 && strcmp(got_hint, hint) == 0, "refused: %s (%s)", got ? got : "not",
       got_hint ? got_hint : "");
    free(got);
    free(got_hint);
}

static void test_problems(void) {
    test_refused(SCHEDULE_INTERLEAVED, 4, 2, 6,
                 "schedule 'interleaved' with 6 micro-batches on 4 stages, which does not divide them",
                 "4 or 8 micro-batches, or --pipeline-schedule 1f1b");
    test_refused(SCHEDULE_INTERLEAVED, 4, 2, 3,
                 "schedule 'interleaved' with 3 micro-batches on 4 stages, which does not divide them",
                 "4 micro-batches, or --pipeline-schedule 1f1b");
    test_refused(SCHEDULE_INTERLEAVED, 4, 0, 4, "schedule 'interleaved' with 0 chunks a stage",
                 "--virtual-stages 1 or more");
    test_refused(SCHEDULE_INTERLEAVED, 4, 2, 0, "schedule 'interleaved' with 0 micro-batches",
                 "at least 4 micro-batches");
    test_refused(SCHEDULE_1F1B, 4, 1, 0, "schedule '1f1b' with 0 micro-batches", "at least 1 micro-batch");
    test_refused(SCHEDULE_GPIPE, 0, 1, 4, "schedule 'gpipe' on 0 stages", "at least 1 stage");
    test_refused(SCHEDULE_INTERLEAVED, 3, 1000, 30000,
                 "schedule 'interleaved' with 30000 micro-batches in 3000 chunks",
                 "at most 3333 micro-batches");
    bool fine = true;
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        char *hint;
        fine &= !schedule_problem(kind, 1, 1, 1, &hint) && !schedule_problem(kind, 5, 3, 5, &hint);
        fine &= kind == SCHEDULE_INTERLEAVED || !schedule_problem(kind, 5, 1, 1, &hint);
    }
    ok(fine, "nothing else is refused: one stage, one micro-batch, fewer micro-batches than stages");
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++)
        for (int v = 1; v <= (kind == SCHEDULE_INTERLEAVED ? 4 : 1); v++) test_kind(kind, v);
    test_weights_at_once();
    test_problems();
    return tap_done();
}
