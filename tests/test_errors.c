/* An error ends the program with one line, also when several threads find one at the same time. */
#define _GNU_SOURCE
#include "common/base.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

static void fail_in_threads(void *unused) {
    (void)unused;
#pragma omp parallel num_threads(4)
    fail(1, "a hint", "a thread fails");
}

int main(void) {
    int good = 0;
    enum { TRIES = 50 };
    for (int i = 0; i < TRIES; i++) {
        Exit e = expect_exit(fail_in_threads, NULL);
        good += e.status == 1 && !strcmp(e.text, "shard.c: error: a thread fails (hint: a hint)");
    }
    ok(good == TRIES, "4 threads fail at once: one line and status 1, %d times of %d", good, TRIES);
    return tap_done();
}
