/* A save that is killed with SIGKILL, at each of its calls to the system and at moments that fall where they
 * may, leaves a complete set, and the next save works.
 *
 * The calls by which common/ changes the disk go through functions of this file: the one that is counted down
 * to kills the process, before it acts or after. */
#define _GNU_SOURCE
#include "tests/checkpoint_run.h"

#include <stdlib.h>
#include <dlfcn.h>
#include <signal.h>
#ifdef __linux__
#    include <sys/prctl.h>
#endif
#include <sys/stat.h>

static int calls_left;  /* 0: no kill */
static bool kill_after; /* the call is done */
static int calls_made;

static bool due(void) {
    calls_made++;
    return calls_left > 0 && --calls_left == 0;
}

#define INTERPOSE(name, parameters, arguments)                                                               \
    int name parameters {                                                                                    \
        int(*real_call) parameters;                                                                          \
        void *symbol = dlsym(RTLD_NEXT, #name);                                                              \
        memcpy(&real_call, &symbol, sizeof symbol);                                                          \
        bool now = due();                                                                                    \
        if (now && !kill_after) kill(getpid(), SIGKILL);                                                     \
        int result = real_call arguments;                                                                    \
        if (now) kill(getpid(), SIGKILL);                                                                    \
        return result;                                                                                       \
    }
INTERPOSE(rename, (const char *from, const char *to), (from, to))
INTERPOSE(remove, (const char *path), (path))
INTERPOSE(mkdir, (const char *path, mode_t mode), (path, mode))

/* A killed process loses nothing that the kernel has: the disk itself may be left out, which
 * takes seconds here. */
int fsync(int fd) {
    (void)fd;
    if (due()) kill(getpid(), SIGKILL);
    return 0;
}

typedef struct {
    int64_t step;
    int call;
    bool after;
} Kill;

static void save_killed(void *argument) {
    const Kill *k = argument;
    calls_left = k->call;
    kill_after = k->after;
    save(k->step);
}

/* Saves `step` over sets of the steps 100 and 200, killed at each call in turn. */
static void test_kills(int64_t step, const char *what) {
    start_anew();
    save(100);
    save(200);
    calls_made = 0;
    save(step);
    int calls = calls_made, old_set = 0, new_set = 0, other = 0, not_cleaned = 0;
    for (int call = 1; call <= calls; call++) {
        for (int after = 0; after < 2; after++) {
            start_anew();
            save(100);
            save(200);
            Exit killed = expect_exit(save_killed, &(Kill){step, call, after});
            Exit e = expect_exit(load_newest, NULL);
            bool dead = killed.status == 128 + SIGKILL;
            if (dead && e.status == 12) old_set++;
            if (dead && e.status == 10 + step / 100) new_set++;
            if (!dead || (e.status != 12 && e.status != 10 + step / 100)) other++;
            save(400); /* the next save works, and clears away what the kill left */
            e = expect_exit(load_newest, NULL);
            char *tmp = set(step, ".tmp"), *replaced = set(step, ".replaced");
            not_cleaned += e.status != 14 || file_exists(tmp) || file_exists(replaced);
            free(tmp);
            free(replaced);
        }
    }
    ok(other == 0 && old_set > 0 && new_set > 0,
       "killed at each of %d calls, %s: %d times the old set, %d times the new, %d neither", calls, what,
       old_set, new_set, other);
    ok(not_cleaned == 0, "the save after it works and clears up (%d did not)", not_cleaned);
}

/* The first set of all: there is none, or a whole one. */
static void test_first_kills(void) {
    start_anew();
    calls_made = 0;
    save(100);
    int calls = calls_made, none = 0, whole = 0;
    for (int call = 1; call <= calls; call++)
        for (int after = 0; after < 2; after++) {
            start_anew();
            expect_exit(save_killed, &(Kill){100, call, after});
            Exit e = expect_exit(load_newest, NULL);
            none += e.status == 3;
            whole += e.status == 11;
        }
    ok(none > 0 && whole > 0 && none + whole == 2 * calls,
       "the first save killed: %d times no set, %d times a whole one", none, whole);
}

/* And at moments that fall where they may, inside of writes too. */
static void save_many(int first_is_there) {
    save(100);
    if (write(first_is_there, "x", 1) != 1) exit(1);
    for (int64_t step = 200;; step += 100) save(step);
}

static void test_random_kills(void) {
    int whole = 0, rounds = 40;
    for (int round = 0; round < rounds; round++) {
        start_anew();
        fflush(stdout);
        int saved[2];
        char byte;
        bool piped = pipe(saved) == 0;
        pid_t child = fork();
        if (child == 0) {
#ifdef __linux__
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* it saves for ever otherwise */
#endif
            save_many(saved[1]);
        }
        close(saved[1]);
        piped = piped && read(saved[0], &byte, 1) == 1;
        close(saved[0]);
        usleep((useconds_t)(round * 137));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        Exit e = expect_exit(load_newest, NULL);
        whole += piped && e.status > 10 && !*e.text;
    }
    ok(whole == rounds, "killed at %d moments: %d times a whole set is left", rounds, whole);
}

int main(void) {
    folder = file_temp_folder("shard-test");
    test_kills(300, "a new step");
    test_kills(200, "the newest step once more");
    test_first_kills();
    test_random_kills();
    file_remove(folder);
    free(folder);
    return tap_done();
}
