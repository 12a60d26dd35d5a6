#define _POSIX_C_SOURCE 200809L
#include "common/base/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t requested;

/* Only async-signal-safe calls here. */
static void on_signal(int signal_number) {
    static const char message[] = "\nfinishing this step, then saving; once more ends the program at once\n";
    if (requested) _exit(128 + signal_number); /* as a shell reports it: 130 for Ctrl-C */
    requested = 1;
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written; /* nobody to tell */
}

void interrupt_install(void) {
    static const int signals[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old, action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

bool interrupt_requested(void) { return requested != 0; }
