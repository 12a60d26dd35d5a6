/* expect_exit: what a function does that may end the program. It runs in a child; the parent gets the exit
 * status and all that went to stderr. A child that hangs is ended after 60 s and counts as killed.
 *
 * The child is forked: a test that uses this must not have run OpenMP regions before. */
#ifndef EXPECT_EXIT_H
#define EXPECT_EXIT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that ends through fail() leaves memory behind on purpose: LeakSanitizer, which asks this function,
 * is to look at the parent only. */
static bool expect_exit_child;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return expect_exit_child; }

typedef struct {
    int status;      /* of exit; 128 + signal when killed; 0 when the function returned */
    char text[4096]; /* stderr without its last newline, cut to what fits */
} Exit;

static Exit expect_exit(void (*body)(void *), void *argument) {
    Exit result = {.status = -1};
    FILE *errors = tmpfile();
    if (!errors) return result;
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child == 0) {
        expect_exit_child = true;
        alarm(60);
        if (dup2(fileno(errors), STDERR_FILENO) < 0 || !freopen("/dev/null", "w", stdout)) _exit(99);
        body(argument);
        exit(0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) return fclose(errors), result;
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    rewind(errors);
    size_t count = fread(result.text, 1, sizeof result.text - 1, errors);
    while (count > 0 && result.text[count - 1] == '\n') count--;
    result.text[count] = 0;
    fclose(errors);
    return result;
}

/* How many random cases: `count`, and ten times as many in `make test-all` (a test that asks says TEST tier: more). */
static inline int random_cases(int count) { return getenv("TEST_ALL") ? 10 * count : count; }

/* Ended by fail(): this status, and one line that reads `...: error: ...` and holds `part`. */
static inline bool refused(const Exit *e, int status, const char *part) {
    return e->status == status && !strchr(e->text, '\n') && strstr(e->text, ": error: ") &&
           strstr(e->text, part);
}

#endif
