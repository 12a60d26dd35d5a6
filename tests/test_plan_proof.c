/* What the plan of a pipeline refuses: of random schedules those that cannot be run, and no other; and in which words.
 *
 * TEST variants: float asan
 * TEST tier: more */
#include "tests/schedules.h"
#include "tests/tap.h"

#include <string.h>

enum { MOST_STAGES = 8 };
static int more = 1; /* times as many random cases: 10 in `make test-all` */

/* ---- whether it can be run ---- */

/* As simply as can be: whatever could be next is done, until nothing is left or nothing goes on. */
static bool can_run(const Schedule *s) {
    bool *there = xcalloc((size_t)(s->chunks * s->microbatches * ACTION_KINDS), sizeof *there);
    int64_t done[MOST_STAGES] = {0};
    bool on = true, all = true;
    while (on) {
        on = false;
        for (int stage = 0; stage < s->stages; stage++) {
            if (done[stage] == s->counts[stage]) continue;
            const Action *a = &s->actions[stage][done[stage]];
            if (!could_act(s, there, a->kind, a->chunk, a->microbatch)) continue;
            there[(a->chunk * s->microbatches + a->microbatch) * ACTION_KINDS + a->kind] = on = true;
            done[stage]++;
        }
    }
    for (int stage = 0; stage < s->stages; stage++) all &= done[stage] == s->counts[stage];
    free(there);
    return all;
}

/* Random schedules with a few actions swapped, each on its stage. */
static void test_swapped(void) {
    Rng rng = {12, rng_stream("plans"), 0};
    int counts[2] = {0}, right = 0, cases = 600 * more;
    for (int i = 0; i < cases; i++) {
        int p = 1 + (int)rng_below(&rng, 4);
        Schedule *s = random_schedule(p, p + (int)rng_below(&rng, 3), 1 + rng_below(&rng, 4), &rng);
        for (uint32_t swaps = 1 + rng_below(&rng, 3); swaps > 0; swaps--) {
            int stage = (int)rng_below(&rng, (uint32_t)p);
            Action *actions = s->actions[stage];
            int64_t a = rng_below(&rng, (uint32_t)s->counts[stage]);
            int64_t b = (a + 1 + rng_below(&rng, 2)) % s->counts[stage];
            Action swapped = actions[a];
            actions[a] = actions[b];
            actions[b] = swapped;
        }
        bool runs = can_run(s);
        char *problem = NULL, *hint = NULL;
        Plan *plan = plan_new(s, &problem, &hint);
        right +=
            runs ? plan != NULL : !plan && strstr(problem, " waits for ") && !strchr(problem, '\n') && *hint;
        counts[runs]++;
        if (!plan) free(problem), free(hint);
        plan_delete(plan);
        schedule_delete(s);
    }
    ok(right == cases && counts[0] > cases / 5 && counts[1] > cases / 5,
       "%d of %d schedules with actions swapped: %d can be run, %d are refused", right, cases, counts[1],
       counts[0]);
}

/* ---- what a refusal says ---- */

/* Rows "stage action micro-batch chunk", each on a line of its own, from line 1 on. */
static Schedule *schedule_of(const char *rows, bool lines) {
    int sizes[3] = {0}, stage, chunk, microbatch, used;
    char letter;
    for (const char *at = rows;
         sscanf(at, " %d %c %d %d%n", &stage, &letter, &microbatch, &chunk, &used) == 4; at += used) {
        sizes[0] = stage >= sizes[0] ? stage + 1 : sizes[0];
        sizes[1] = chunk >= sizes[1] ? chunk + 1 : sizes[1];
        sizes[2] = microbatch >= sizes[2] ? microbatch + 1 : sizes[2];
    }
    Schedule *s = schedule_empty("rows", sizes[0], sizes[1], sizes[2]);
    int line = 0;
    for (const char *at = rows;
         sscanf(at, " %d %c %d %d%n", &stage, &letter, &microbatch, &chunk, &used) == 4; at += used) {
        ActionKind kind = letter == 'F' ? ACTION_FORWARD : letter == 'B' ? ACTION_BACKWARD : ACTION_WEIGHTS;
        line++;
        s->stage_of[chunk] = stage;
        schedule_add(s, stage, (Action){kind, false, chunk, microbatch, lines ? line : 0});
    }
    schedule_finish(s);
    return s;
}

static void test_says(const char *rows, bool lines, const char *want, const char *want_hint) {
    Schedule *s = schedule_of(rows, lines);
    char *problem = NULL, *hint = NULL;
    Plan *plan = plan_new(s, &problem, &hint);
    ok(!plan && strcmp(problem, want) == 0 && strcmp(hint, want_hint) == 0, "%s (%s)",
       plan ? "not refused" : problem, plan ? rows : hint);
    if (!plan) free(problem), free(hint);
    plan_delete(plan);
    schedule_delete(s);
}

static void test_words(void) {
    static const char once[] = "each micro-batch goes once through each chunk: one F, one B, at most one W";
    static const char later[] = "one of these has to come later on its stage";
    test_says("0 F 0 0 0 F 0 0 0 B 0 0", true,
              "line 2: F of micro-batch 0 in chunk 0 is there already, at line 1", once);
    test_says("0 F 0 0 0 B 0 0 0 W 0 0 0 W 0 0", false,
              "stage 0, action 3: W of micro-batch 0 in chunk 0 is there already, at stage 0, action 2",
              once);
    test_says("0 F 0 0 0 F 1 0 0 B 0 0", true, "B of micro-batch 1 in chunk 0 is missing",
              "each micro-batch goes forward and backward through each chunk");
    test_says("0 F 0 0 1 F 0 1 1 B 0 1 1 B 0 0", true,
              "line 4: B of micro-batch 0 in chunk 0 on stage 1, but the chunk lies on stage 0 (line 1)",
              "all actions of a chunk are of one stage, which holds its weights");
    test_says(
        "0 F 0 0 1 B 0 1 0 B 0 0 1 F 0 1", true,
        "line 2: B of micro-batch 0 in chunk 1 waits for F of the same at line 4, which comes later on the "
        "same stage",
        "put it behind line 4");
    test_says(
        "0 F 0 0 0 W 0 0 0 B 0 0", false,
        "stage 0, action 1: W of micro-batch 0 in chunk 0 waits for B of the same at stage 0, action 2, "
        "which comes later on the same stage",
        "put it behind stage 0, action 2");
    test_says(
        "0 F 0 1 0 F 0 0 0 B 0 1 0 B 0 0", true,
        "line 1: F of micro-batch 0 in chunk 1 waits for F of the same micro-batch in chunk 0 at line 2, "
        "which comes later on the same stage",
        "put it behind line 2");
    /* stage 0 wants B of 0 before it has sent F of 1, which stage 1 wants first */
    test_says(
        "0 F 0 0 0 B 0 0 0 F 1 0 0 B 1 0 1 F 0 1 1 F 1 1 1 B 0 1 1 B 1 1", true,
        "line 2: B of micro-batch 0 in chunk 0 waits for B of the same micro-batch in chunk 1 at line 7, "
        "which comes after line 6: F of micro-batch 1 in chunk 1, which waits for F of the same micro-batch "
        "in chunk 0 at line 3, which comes after line 2: a circle",
        later);
    /* stage 0 waits for the circle of the others, and is not in it */
    test_says(
        "0 F 0 4 0 B 0 4 1 F 0 2 1 F 0 0 1 B 0 2 1 B 0 0 2 F 0 1 2 F 0 3 2 B 0 3 2 B 0 1", true,
        "line 3: F of micro-batch 0 in chunk 2 waits for F of the same micro-batch in chunk 1 at line 7, "
        "which waits for F of the same micro-batch in chunk 0 at line 4, which comes after line 3: a circle",
        later);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    if (getenv("TEST_ALL")) more = 10;
    test_swapped();
    test_words();
    return tap_done();
}
