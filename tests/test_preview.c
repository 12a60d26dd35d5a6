/* TEST variants: float, all: asan
 * All schedules beside each other: each does what its formulas say, what is held over time is never more and at some time as much
 * as the plan says, one that there is not is left out, and one from a file is there as well. */
#define _GNU_SOURCE
#include "chapters/09_pipeline_parallel/in_flight.h"
#include "chapters/09_pipeline_parallel/preview.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

/* Over time a stage holds what the plan has counted. */
static bool held_as_planned(ScheduleKind kind, int p, int v, int64_t m) {
    char *problem = NULL, *hint = NULL;
    if ((problem = schedule_problem(kind, p, v, m, &hint))) {
        free(problem);
        free(hint);
        return true;
    }
    Schedule *s = schedule_new(kind, p, v, m);
    Plan *plan = plan_new(s, &problem, &hint);
    ChunkCost *costs = xcalloc((size_t)s->chunks, sizeof *costs);
    for (int c = 0; c < s->chunks; c++) costs[c] = (ChunkCost){{1, 1.25, 0.5}};
    PlanTimes times = plan_times(plan, &(PlanCosts){.chunks = costs});
    bool same = true;
    for (int stage = 0; stage < p; stage++) {
        InFlight f = in_flight_of(s, &times, stage);
        double most = 0;
        for (int64_t i = 0; i < f.count; i++) {
            if (f.held[i] > most) most = f.held[i];
            same &= f.held[i] >= 0 && (i == 0 || f.times[i] > f.times[i - 1]);
        }
        same &= most == (double)plan->in_flight[stage] && f.count > 0 && f.held[f.count - 1] == 0;
        in_flight_free(&f);
    }
    /* each action as long as it was then: the same times */
    PlanTimes again = plan_times(plan, &(PlanCosts){.took = times.actions});
    for (int stage = 0; stage < p; stage++)
        for (int64_t i = 0; i < s->counts[stage]; i++)
            same &= again.actions[stage][i].begin == times.actions[stage][i].begin;
    plan_times_free(&again, plan);
    plan_times_free(&times, plan);
    plan_delete(plan);
    schedule_delete(s);
    free(costs);
    return same;
}

static bool has_all(const char *folder, const char *const *names, int count) {
    bool all = true;
    for (int i = 0; i < count; i++) {
        char *path = xprintf("%s/%s", folder, names[i]);
        all &= file_exists(path);
        free(path);
    }
    return all;
}

static const char *text_of(const json_t *list, size_t i, const char *key) {
    return json_string_value(json_object_get(json_array_get(list, i), key));
}

static bool exact(const json_t *list, size_t i) {
    return json_is_true(json_object_get(json_array_get(list, i), "exact"));
}

static void preview_of(void *path) { json_decref(preview_run(1, 1, 1, path, "/nowhere")); }

int main(void) {
    bool same = true;
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++)
        for (int p = 1; p <= 5; p++)
            for (int64_t m = 1; m <= 2 * p + 1; m++) same &= held_as_planned(kind, p, 2, m);
    ok(same, "what stages hold over time, and the most of it");

    char *folder = file_temp_folder("shard-preview");
    static const char *const files[] = {"naive.png",       "schedules.png", "in-flight.png",
                                        "naive.csv",       "gpipe.csv",     "1f1b.csv",
                                        "interleaved.csv", "zb-h1.csv",     "zb-v.csv"};
    json_t *list = preview_run(3, 2, 6, NULL, folder);
    ok(json_array_size(list) == SCHEDULE_KINDS, "all schedules");
    for (size_t i = 0; i < json_array_size(list); i++)
        ok(exact(list, i), "%s does what its formulas say", text_of(list, i, "schedule"));
    ok(has_all(folder, files, COUNT_OF(files)), "pictures, and each schedule as a file");
    json_decref(list);

    list = preview_run(3, 2, 2, NULL, folder);
    ok(text_of(list, SCHEDULE_INTERLEAVED, "problem") && exact(list, SCHEDULE_ZB_V),
       "one that there is not is left out");
    json_decref(list);

    char *file = xprintf("%s/zb-h1.csv", folder), *bad = xprintf("%s/bad.csv", folder);
    list = preview_run(8, 1, 1, file, folder);
    ok(json_array_size(list) == SCHEDULE_KINDS + 1 &&
           !strcmp(text_of(list, SCHEDULE_KINDS, "schedule"), "zb-h1.csv"),
       "one more, from a file");
    const json_t *own = json_array_get(list, SCHEDULE_KINDS),
                 *built_in = json_array_get(list, SCHEDULE_ZB_H1);
    ok(json_equal(json_object_get(own, "in_flight"), json_object_get(built_in, "in_flight")) &&
           json_equal(json_object_get(own, "time"), json_object_get(built_in, "time")),
       "... with as many stages and micro-batches as the file");
    json_decref(list);
    static const char words[] = "stage,action,micro_batch,chunk\n0,B,0,0\n0,F,0,0\n";
    file_write(bad, words, strlen(words));
    Exit refusal = expect_exit(preview_of, bad);
    ok(refused(&refusal, 2, "--schedule-file") && strstr(refusal.text, "line 2"),
       "one that cannot be run is refused: %s", refusal.text);
    free(file);
    free(bad);
    file_remove(folder);
    free(folder);
    return tap_done();
}
