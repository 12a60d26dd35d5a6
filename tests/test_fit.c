/* Chapter 03 fits its work to a minute: what settings_fit cuts, and what it leaves as the user gave it. On a machine of 2
 * FLOP/s, half of which count, and windows of one FLOP: a window takes a second. And the windows of chapter 05's sweeps. */
#include "chapters/03_performance/settings.h"
#include "chapters/05_data_parallel/scaling.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *what;
    int64_t micro_batch, microbatches, warmup, steps; /* asked for */
    bool batch_given, steps_given;
    int64_t windows, warmup_done, steps_done; /* what becomes of it in 60 s */
    const char *says;                         /* NULL: nothing */
} Case;

static const Case cases[] = {
    {"all fits", 2, 2, 5, 10, false, false, 4, 5, 10, NULL},
    {"fewer windows", 1, 256, 5, 15, false, false, 3, 5, 15,
     "3 windows a step instead of 256, 15 measured steps; "},
    {"whole micro-batches", 2, 128, 5, 10, false, false, 4, 5, 10, "4 windows a step instead of 256, "},
    {"fewer steps as well", 4, 64, 5, 30, false, false, 4, 1, 14,
     "4 windows a step instead of 256, 14 measured steps instead of 30; "},
    {"three steps at least", 30, 2, 5, 30, false, false, 30, 1, 3,
     "30 windows a step instead of 60, 3 measured steps"},
    {"no warm-up is none still", 30, 2, 0, 30, false, false, 30, 0, 3, "instead of 30; "},
    {"the user's batch stays", 4, 64, 5, 30, true, false, 256, 1, 3,
     "256 windows a step, 3 measured steps instead of 30"},
    {"the user's steps stay", 4, 64, 5, 30, false, true, 4, 5, 30,
     "4 windows a step instead of 256, 30 measured steps; "},
    {"both stay, and nothing is said", 4, 64, 5, 30, true, true, 256, 5, 30, NULL},
};

int main(void) {
    for (int i = 0; i < COUNT_OF(cases); i++) {
        const Case *k = &cases[i];
        Settings s = {.warmup = k->warmup,
                      .steps = k->steps,
                      .fit_seconds = 60,
                      .batch_given = k->batch_given,
                      .steps_given = k->steps_given};
        s.run.micro_batch = k->micro_batch;
        s.run.num_microbatches = k->microbatches;
        s.run.global_batch = k->micro_batch * k->microbatches;
        s.run.max_steps = k->warmup + k->steps;
        char *said = settings_fit(&s, 1, 2);
        ok(s.run.global_batch == k->windows && s.run.num_microbatches * s.run.micro_batch == k->windows &&
               s.warmup == k->warmup_done && s.steps == k->steps_done &&
               s.run.max_steps == s.warmup + s.steps,
           "%s: %d windows, %d + %d steps", k->what, (int)s.run.global_batch, (int)s.warmup, (int)s.steps);
        ok(k->says ? said && strstr(said, k->says) : !said, "... %s", said ? said : "nothing to say");
        free(said);
    }
    ok(scaling_windows(8, 8, 1e9) == 8, "a sweep of small models takes all windows");
    ok(scaling_windows(8, 8, 1e10) == 2, "... of larger ones fewer");
    ok(scaling_windows(8, 8, 1e14) == 1, "... and one at least");
    return tap_done();
}
