#include "chapters/09_pipeline_parallel/plan_proof.h"

#include <inttypes.h>
#include <stdlib.h>

static int64_t *slot(const Plan *plan, ActionKind kind, int chunk, int64_t microbatch) {
    return &plan->index[(chunk * plan->schedule->microbatches + microbatch) * ACTION_KINDS + kind];
}

static const Action *action_at(const Schedule *s, PlanPlace place) {
    return &s->actions[place.stage][place.index];
}

/* ---- words: each returns a new string ---- */

/* "line 12", or where it stands in a schedule that was not read from a file. */
static char *place_text(const Schedule *s, PlanPlace place) {
    int line = action_at(s, place)->line;
    return line ? xprintf("line %d", line) : xprintf("stage %d, action %" PRId64, place.stage, place.index);
}

static char *action_text(ActionKind kind, int chunk, int64_t microbatch) {
    return xprintf("%c of micro-batch %" PRId64 " in chunk %d", action_letters[kind], microbatch, chunk);
}

/* "line 12: B of micro-batch 2 in chunk 1" */
static char *full_text(const Schedule *s, PlanPlace place) {
    const Action *a = action_at(s, place);
    char *where = place_text(s, place), *what = action_text(a->kind, a->chunk, a->microbatch);
    char *text = xprintf("%s: %s", where, what);
    free(where);
    free(what);
    return text;
}

/* ---- complete: each F and B once, each W at most once, a chunk on one stage ---- */

static bool register_action(Plan *plan, PlanPlace place, PlanPlace *first_of_chunk, Refusal *refusal) {
    const Schedule *s = plan->schedule;
    const Action *a = action_at(s, place);
    ASSERT(a->chunk >= 0 && a->chunk < s->chunks && a->microbatch >= 0 && a->microbatch < s->microbatches);
    PlanPlace *first = &first_of_chunk[a->chunk];
    int64_t *index = slot(plan, a->kind, a->chunk, a->microbatch);
    if (first->stage < 0) *first = place;
    if (first->stage == place.stage && *index < 0) {
        *index = place.index;
        return true;
    }
    char *what = full_text(s, place);
    if (first->stage != place.stage) {
        char *other = place_text(s, *first);
        refusal->problem = xprintf("%s on stage %d, but the chunk lies on stage %d (%s)", what, place.stage,
                                   first->stage, other);
        refusal->hint = xprintf("all actions of a chunk are of one stage, which holds its weights");
        free(other);
    } else {
        char *other = place_text(s, (PlanPlace){place.stage, *index});
        refusal->problem = xprintf("%s is there already, at %s", what, other);
        refusal->hint = xprintf("each micro-batch goes once through each chunk: one F, one B, at most one W");
        free(other);
    }
    free(what);
    return false;
}

static bool prove_complete(Plan *plan, Refusal *refusal) {
    const Schedule *s = plan->schedule;
    PlanPlace *first_of_chunk = xmalloc((size_t)s->chunks * sizeof *first_of_chunk);
    for (int chunk = 0; chunk < s->chunks; chunk++) first_of_chunk[chunk] = (PlanPlace){-1, 0};
    bool fine = true;
    for (int stage = 0; stage < s->stages && fine; stage++)
        for (int64_t k = 0; k < s->counts[stage] && fine; k++)
            fine = register_action(plan, (PlanPlace){stage, k}, first_of_chunk, refusal);
    free(first_of_chunk);
    for (int chunk = 0; chunk < s->chunks && fine; chunk++)
        for (int64_t i = 0; i < s->microbatches && fine; i++)
            for (ActionKind kind = 0; kind < ACTION_WEIGHTS && fine; kind++) {
                if (plan_index(plan, kind, chunk, i) >= 0) continue;
                char *what = action_text(kind, chunk, i);
                refusal->problem = xprintf("%s is missing", what);
                refusal->hint = xprintf("each micro-batch goes forward and backward through each chunk");
                free(what);
                fine = false;
            }
    return fine;
}

/* ---- order: what an action waits for comes before it ---- */

/* Where the action is that makes what `a` needs from the chunk before or behind; {-1}: it needs nothing. */
static PlanPlace maker_of(const Plan *plan, const Action *a) {
    const Schedule *s = plan->schedule;
    int chunk = a->kind == ACTION_FORWARD ? a->chunk - 1 : a->chunk + 1;
    if (a->kind == ACTION_WEIGHTS || chunk < 0 || chunk >= s->chunks) return (PlanPlace){-1, 0};
    return (PlanPlace){s->stage_of[chunk], plan_index(plan, a->kind, chunk, a->microbatch)};
}

/* B needs what F of the same has kept, W what B has. */
static PlanPlace keeper_of(const Plan *plan, const Action *a) {
    if (a->kind == ACTION_FORWARD) return (PlanPlace){-1, 0};
    return (PlanPlace){plan->schedule->stage_of[a->chunk],
                       plan_index(plan, a->kind - 1, a->chunk, a->microbatch)};
}

static bool is_done(PlanPlace place, const int64_t *done) {
    return place.stage < 0 || place.index < done[place.stage];
}

/* What the next action of a stage waits for, first of the same stage. */
static PlanPlace waits_for(const Plan *plan, int stage, const int64_t *done) {
    const Action *a = &plan->schedule->actions[stage][done[stage]];
    PlanPlace keeper = keeper_of(plan, a);
    return is_done(keeper, done) ? maker_of(plan, a) : keeper;
}

static PlanPlace next_of(int stage, const int64_t *done) { return (PlanPlace){stage, done[stage]}; }

/* "waits for B of the same at line 15", of the next action of a stage. */
static void say_wait(const Plan *plan, int stage, const int64_t *done, Str *text) {
    const Schedule *s = plan->schedule;
    PlanPlace need = waits_for(plan, stage, done);
    const Action *a = action_at(s, next_of(stage, done)), *b = action_at(s, need);
    char *where = place_text(s, need);
    str_printf(text, "waits for %c of the same", action_letters[b->kind]);
    if (b->chunk != a->chunk) str_printf(text, " micro-batch in chunk %d", b->chunk);
    str_printf(text, " at %s", where);
    free(where);
}

/* Where what is waited for is not the next action of its stage: that one. */
static void say_before(const Plan *plan, PlanPlace need, const int64_t *done,
                       char *(*word_of)(const Schedule *, PlanPlace), Str *text) {
    if (need.index == done[need.stage]) return;
    char *word = word_of(plan->schedule, next_of(need.stage, done));
    str_printf(text, ", which comes after %s", word);
    free(word);
}

/* No stage goes on. Each that is not done waits for one that is not done either, perhaps itself: that leads into a circle,
 * from wherever one begins; of those in it the lowest has the first word. */
static void say_circle(const Plan *plan, const int64_t *done, Refusal *refusal) {
    const Schedule *s = plan->schedule;
    int at = 0, begin;
    while (done[at] == s->counts[at]) at++;
    for (int i = 0; i < s->stages; i++) at = waits_for(plan, at, done).stage;
    begin = at;
    for (int i = 0; i < s->stages; i++) {
        at = waits_for(plan, at, done).stage;
        if (at < begin) begin = at;
    }
    Str text = {0};
    char *word = full_text(s, next_of(begin, done));
    str_printf(&text, "%s ", word);
    free(word);
    say_wait(plan, begin, done, &text);
    PlanPlace need = waits_for(plan, begin, done);
    if (need.stage == begin) {
        char *where = place_text(s, need);
        str_printf(&text, ", which comes later on the same stage");
        refusal->hint = xprintf("put it behind %s", where);
        free(where);
    } else {
        for (at = need.stage; at != begin; at = need.stage) {
            say_before(plan, need, done, full_text, &text);
            str_printf(&text, ", which ");
            say_wait(plan, at, done, &text);
            need = waits_for(plan, at, done);
        }
        say_before(plan, need, done, place_text, &text);
        str_printf(&text, ": a circle");
        refusal->hint = xprintf("one of these has to come later on its stage");
    }
    refusal->problem = text.data;
}

/* Does all actions as the stages would, without time: each as far as it can, in turns. */
static bool prove_order(Plan *plan, Refusal *refusal) {
    const Schedule *s = plan->schedule;
    int64_t *done = xcalloc((size_t)s->stages, sizeof *done), count = 0;
    for (bool goes_on = true; goes_on;) {
        goes_on = false;
        for (int stage = 0; stage < s->stages; stage++)
            for (; done[stage] < s->counts[stage]; done[stage]++, goes_on = true) {
                if (!is_done(waits_for(plan, stage, done), done)) break;
                plan->order[count++] = (PlanPlace){stage, done[stage]};
            }
    }
    if (count < plan->actions) say_circle(plan, done, refusal);
    free(done);
    return count == plan->actions;
}

bool plan_prove(Plan *plan, Refusal *refusal) {
    return prove_complete(plan, refusal) && prove_order(plan, refusal);
}
