/* An error ends the program with one line, also when several threads find one at the same time, and when a file that is
 * mapped is shortened by others.
 *
 * TEST variants: float asan */
#define _GNU_SOURCE
#include "common/base/base.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <sys/socket.h>

static void fail_in_threads(void *unused) {
    (void)unused;
#pragma omp parallel num_threads(4)
    fail(1, "a hint", "a thread fails");
}

/* ---- a mapped file that changes ---- */

enum { PAGES = 4 * 65536 }; /* several, however large */
static char *path;
static const char *data;

static void shorten_and_read(void *unused) {
    (void)unused;
    if (truncate(path, 10) != 0) exit(99);
    printf("%d\n", data[PAGES - 1]);
}

static void shorten_a_little(void *unused) {
    (void)unused;
    if (truncate(path, PAGES - 1) != 0) exit(99);
    file_check_unchanged(data);
}

static void touch_nothing(void *unused) {
    (void)unused;
    file_check_unchanged(data);
}

static void mapped_files(void) {
    char *folder = file_temp_folder("test"), *content = xcalloc(PAGES, 1);
    size_t count;
    path = xprintf("%s/file", folder);
    void (*const bodies[])(void *) = {touch_nothing, shorten_and_read, shorten_a_little};
    Exit e[COUNT_OF(bodies)];
    for (int i = 0; i < COUNT_OF(bodies); i++) {
        file_write(path, content, PAGES);
        data = file_map(path, &count);
        e[i] = expect_exit(bodies[i], NULL);
        file_unmap(data, count);
    }
    ok(e[0].status == 0, "a mapped file that stays as it was");
    ok(refused(&e[1], 1, "was shortened while it was read (hint: "), "a mapped file is shortened: '%s'",
       e[1].text);
    ok(refused(&e[2], 1, "was changed while it was read (hint: "), "by less than a page: '%s'", e[2].text);
    file_remove(folder);
    free(folder);
    free(content);
    free(path);
}

/* In a socket of packets each call of write is one. */
static void said_at_once(void) {
    int ends[2];
    char text[256];
    ok(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0, "a socket of packets");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        fail(1, "a hint", "a process fails");
    }
    close(ends[1]);
    waitpid(child, NULL, 0);
    ssize_t count = read(ends[0], text, sizeof text - 1);
    text[count > 0 ? count : 0] = 0;
    close(ends[0]);
    ok(!strcmp(text, "shard.c: error: a process fails (hint: a hint)\n"),
       "an error is written at once, so that other processes cannot write into it: '%.*s'",
       (int)strcspn(text, "\n"), text);
}

int main(void) {
    mapped_files();
    said_at_once();
    int good = 0;
    enum { TRIES = 50 };
    for (int i = 0; i < TRIES; i++) {
        Exit e = expect_exit(fail_in_threads, NULL);
        good += e.status == 1 && !strcmp(e.text, "shard.c: error: a thread fails (hint: a hint)");
    }
    ok(good == TRIES, "4 threads fail at once: one line and status 1, %d times of %d", good, TRIES);
    return tap_done();
}
