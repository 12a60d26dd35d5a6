#define _GNU_SOURCE
#include "common/base/base.h"

#include "common/base/cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Here, as no program is without this file; ahead of the other constructors, which may use what the CPU lacks. */
__attribute__((constructor(101))) static void look_at_cpu(void) { cpu_check(); }

/* ---- errors ---- */

static const char *program = "shard.c";

void base_set_program(const char *argv0) {
    const char *slash = strrchr(argv0, '/');
    program = slash ? slash + 1 : argv0;
}

const char *base_program(void) { return program; }

/* One line, whatever the values hold: control characters, line ends among them, become question marks. */
static char *message_of(const char *format, va_list args) {
    char *message = NULL;
    if (vasprintf(&message, format, args) < 0) message = NULL;
    for (char *c = message; c && *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    return message;
}

static void say(const char *kind, const char *hint, const char *message) {
    fflush(stdout); /* what was said before comes before */
    /* one call, so that nothing of other processes comes between */
    fprintf(stderr, "%s: %s: %s%s%s%s\n", program, kind, message ? message : "no memory for the message",
            hint ? " (hint: " : "", hint ? hint : "", hint ? ")" : "");
}

/* LeakSanitizer asks this: a program that ends with an error leaves its memory to the system. */
static bool failing;
int __lsan_is_turned_off(void);
__attribute__((weak)) int __lsan_is_turned_off(void) { return failing; }

static bool others_say;

void base_usage_said_by(bool others) { others_say = others; }

static bool (*first_to_say)(uint64_t words);

void base_errors_said_once(bool (*first)(uint64_t words)) { first_to_say = first; }

/* FNV-1a (Fowler, Noll, Vo) */
static uint64_t words_of(const char *message) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = message ? message : ""; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

/* When the first of several that fail alike ends, mpiexec may end all: the others let it speak before. */
static void let_other_speak(void) { nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL); }

static atomic_flag ending = ATOMIC_FLAG_INIT;

/* Where fail() goes in this thread, instead of to the program's end. */
static _Thread_local jmp_buf *attempted;
static _Thread_local char *attempt_message;

char *base_attempt(void (*act)(void *), void *context) {
    jmp_buf here, *volatile outer = attempted;
    if (setjmp(here) == 0) {
        attempted = &here;
        act(context);
        attempted = outer;
        return NULL;
    }
    attempted = outer;
    return attempt_message;
}

void fail(int status, const char *hint, const char *format, ...) {
    va_list args;
    if (attempted) {
        va_start(args, format);
        attempt_message = message_of(format, args);
        va_end(args);
        if (!attempt_message) attempt_message = xstrdup("no memory for the message");
        longjmp(*attempted, 1);
    }
    while (atomic_flag_test_and_set(&ending)) pause(); /* one thread speaks and ends the program */
    failing = true;
    va_start(args, format);
    char *message = message_of(format, args);
    va_end(args);
    if ((status == 2 && others_say) || (first_to_say && !first_to_say(words_of(message)))) {
        let_other_speak();
        exit(status);
    }
    say("error", hint, message);
    exit(status);
}

static void (*last_act)(void);

void base_before_sudden_end(void (*act)(void)) { last_act = act; }

void fail_at_signal(const char *line) {
    while (atomic_flag_test_and_set(&ending)) pause();
    if (first_to_say && !first_to_say(words_of(line))) {
        let_other_speak();
    } else {
        ssize_t written = write(STDERR_FILENO, line, strlen(line));
        (void)written; /* nobody to tell */
    }
    if (last_act) last_act();
    _exit(1);
}

void warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *message = message_of(format, args);
    va_end(args);
    say("warning", NULL, message);
    free(message);
}

/* ---- allocation ---- */

void *xrealloc(void *p, size_t bytes) {
    void *q = realloc(p, bytes ? bytes : 1);
    CHECK(q, "close other programs, or make the model or the batch smaller", "no memory for %zu bytes",
          bytes);
    return q;
}

void *xmalloc(size_t bytes) { return xrealloc(NULL, bytes); }

void *xcalloc(size_t count, size_t bytes) {
    void *p = calloc(count ? count : 1, bytes ? bytes : 1);
    CHECK(p, "close other programs, or make the model or the batch smaller", "no memory for %zu x %zu bytes",
          count, bytes);
    return p;
}

char *xstrdup(const char *s) {
    size_t count = strlen(s) + 1;
    return memcpy(xmalloc(count), s, count);
}

char *xprintf(const char *format, ...) {
    va_list args;
    char *s = NULL;
    va_start(args, format);
    int count = vasprintf(&s, format, args);
    va_end(args);
    CHECK(count >= 0, NULL, "no memory for a string");
    return s;
}

/* ---- a string that grows ---- */

void str_add(Str *s, const char *bytes, size_t count) {
    if (s->count + count + 1 > s->capacity) {
        s->capacity = 2 * (s->count + count + 32);
        s->data = xrealloc(s->data, s->capacity);
    }
    if (count) memcpy(s->data + s->count, bytes, count);
    s->count += count;
    s->data[s->count] = 0;
}

void str_printf(Str *s, const char *format, ...) {
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int count = vasprintf(&text, format, args);
    va_end(args);
    CHECK(count >= 0, NULL, "no memory for a string");
    str_add(s, text, (size_t)count);
    free(text);
}

void str_free(Str *s) {
    free(s->data);
    *s = (Str){0};
}

/* ---- time ---- */

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- files ---- */

FILE *file_open(const char *path, const char *mode) {
    FILE *f = fopen(path, mode);
    CHECK(f, "check the path and its permissions", "cannot open '%s' for %s: %s", path,
          mode[0] == 'r' ? "reading" : "writing", strerror(errno));
    return f;
}

void file_close(FILE *f, const char *path) {
    bool failed = ferror(f) != 0;
    failed |= fflush(f) != 0;
    int error = errno;
    fclose(f);
    CHECK(!failed, error == ENOSPC ? "make room on the disk, or choose another --output-dir" : NULL,
          "cannot write '%s': %s", path, strerror(error));
}

char *file_read(const char *path, size_t *count) {
    FILE *f = file_open(path, "rb");
    Str s = {0};
    char buffer[1 << 16];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0) str_add(&s, buffer, n);
    CHECK(!ferror(f), NULL, "cannot read '%s': %s", path, strerror(errno));
    fclose(f);
    if (!s.data) str_add(&s, "", 0);
    if (count) *count = s.count;
    return s.data;
}

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

bool file_exists_in(const char *folder, const char *name) {
    char *path = xprintf("%s/%s", folder, name);
    bool there = file_exists(path);
    free(path);
    return there;
}

void file_make_folder(const char *path) {
    char *copy = xstrdup(path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != 0) continue;
        char keep = *p;
        *p = 0;
        struct stat info;
        bool made = mkdir(copy, 0777) == 0;
        int error = errno; /* a folder that is there already may report EEXIST, EROFS or EACCES */
        CHECK(made || (stat(copy, &info) == 0 && S_ISDIR(info.st_mode)), "check the path and its permissions",
              "cannot make the folder '%s': %s", copy, strerror(error));
        *p = keep;
        if (!keep) break;
    }
    free(copy);
}

void file_lock_folder(const char *path, const char *hint) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0, "check the path and its permissions", "cannot open the folder '%s': %s", path,
          strerror(errno));
    /* a file system without locks: go on */
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, hint,
          "another program is at work in '%s'", path);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info, (void)type, (void)walk;
    return remove(path);
}

char *file_temp_folder(const char *name) {
    const char *parent = getenv("TMPDIR");
    char *folder = xprintf("%s/%s-XXXXXX", parent && *parent ? parent : "/tmp", name);
    CHECK(mkdtemp(folder), "set TMPDIR to a folder that can be written", "cannot make a folder '%s': %s",
          folder, strerror(errno));
    return folder;
}

void file_remove(const char *path) {
    bool removed = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT;
    CHECK(removed, NULL, "cannot remove '%s': %s", path, strerror(errno));
}

void file_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, NULL, "cannot open '%s' to sync it: %s", path, strerror(errno));
    /* EINVAL: a file system that has nothing to sync here */
    CHECK(fsync(fd) == 0 || errno == EINVAL, "make room on the disk", "cannot sync '%s': %s", path,
          strerror(errno));
    close(fd);
}

void file_rename(const char *from, const char *to) {
    CHECK(rename(from, to) == 0, NULL, "cannot rename '%s' to '%s': %s", from, to, strerror(errno));
}

void file_commit(const char *from, const char *to) {
    file_sync(from);
    file_rename(from, to);
    char *copy = xstrdup(to);
    file_sync(dirname(copy));
    free(copy);
}

void file_write(const char *path, const void *data, size_t count) {
    char *temporary = xprintf("%s.tmp", path);
    FILE *f = file_open(temporary, "wb");
    if (count) fwrite(data, 1, count, f);
    file_close(f, temporary);
    file_commit(temporary, path);
    free(temporary);
}
