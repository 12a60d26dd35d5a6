/* Ctrl-C: the first one asks, the second one ends; whoever was told to ignore signals goes on doing so. */
#define _GNU_SOURCE
#include "common/base/interrupt.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <signal.h>

static void send(void *signals) {
    signal(SIGINT, SIG_DFL); /* in the background of a script it is ignored */
    signal(SIGTERM, SIG_DFL);
    interrupt_install();
    if (interrupt_requested()) exit(50);
    for (const int *s = signals; *s; s++) {
        raise(*s);
        if (!interrupt_requested()) exit(51);
    }
    exit(7);
}

static void send_ignored(void *unused) {
    (void)unused;
    signal(SIGINT, SIG_IGN);
    interrupt_install();
    raise(SIGINT);
    raise(SIGINT);
    exit(interrupt_requested() ? 50 : 7);
}

int main(void) {
    Exit e = expect_exit(send, (int[]){SIGINT, 0});
    ok(e.status == 7 && strstr(e.text, "finishing this step"), "one SIGINT asks, and says so: %s",
       e.text + 1);
    e = expect_exit(send, (int[]){SIGTERM, 0});
    ok(e.status == 7, "so does one SIGTERM");
    e = expect_exit(send, (int[]){SIGINT, SIGINT, 0});
    ok(e.status == 130, "a second SIGINT ends the program with status 130: %d", e.status);
    e = expect_exit(send, (int[]){SIGINT, SIGTERM, 0});
    ok(e.status == 143, "a SIGTERM after it with 143: %d", e.status);
    e = expect_exit(send_ignored, NULL);
    ok(e.status == 7 && !*e.text, "an ignored SIGINT stays ignored");
    return tap_done();
}
