/* base: what every file stands on. Errors that end a program kindly, allocation, time, files.
 *
 * An error is one line: what is wrong, the value, and a hint what to do.
 *   02_minigpt: error: --num-layers is 0, must be at least 1 (hint: ...)
 * Usage errors exit 2, all others 1. CHECK and CHECK_USAGE wrap every fallible call; ASSERT is for mistakes
 * of this code itself and names file and line.
 *
 * `real` is the CPU's element type: float, or double under `make REAL=double`, so that a test can tell a bug
 * (1e-3) from rounding (1e-12). */
#ifndef BASE_H
#define BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

/* ---- errors ---- */

/* Says `<program>: error: <message> (hint: <hint>)` on stderr and exits with `status`. `hint` may be NULL. */
void fail(int status, const char *hint, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
/* Processes that were given the same words make the same mistakes: with `others` one of them says the usage errors, and
 * this one ends in silence. */
void base_usage_said_by(bool others);
/* Of processes that fail with the same words one is to speak: `first` is asked with a number that stands for the words,
 * and says whether nobody has said them yet. */
void base_errors_said_once(bool (*first)(uint64_t words));
/* The same in the handler of a signal, where only few calls are allowed: the line is there already, with its end; it exits
 * 1 without what atexit has, but for one act, which a handler may do. */
void fail_at_signal(const char *line) __attribute__((noreturn));
void base_before_sudden_end(void (*act)(void));
/* Does `act`. What would have ended the program ends the act alone, in this thread: the message, which the caller frees;
 * NULL: it went well. What an act that failed has allocated is lost. */
char *base_attempt(void (*act)(void *context), void *context);
/* `warning:` instead of `error:`, and the program goes on. */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The name in front of each message: the last part of argv[0]. */
void base_set_program(const char *argv0);
const char *base_program(void);

#define CHECK(condition, hint, ...)       ((condition) ? (void)0 : fail(1, hint, __VA_ARGS__))
#define CHECK_USAGE(condition, hint, ...) ((condition) ? (void)0 : fail(2, hint, __VA_ARGS__))
#define ASSERT(condition)                                                                                    \
    ((condition) ? (void)0                                                                                   \
                 : fail(1, "this is a bug in the program, not in its input", "%s:%d: not true: %s",          \
                        __FILE__, __LINE__, #condition))

/* ---- allocation: never NULL; the program ends with a message instead ---- */
void *xmalloc(size_t bytes);
void *xcalloc(size_t count, size_t bytes); /* zeroed */
void *xrealloc(void *p, size_t bytes);
char *xstrdup(const char *s);
/* A new string, as printf would print it. The caller frees it. */
char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- a string that grows ---- */
typedef struct {
    char *data; /* always ends in a zero once something was added */
    size_t count, capacity;
} Str;
void str_add(Str *s, const char *bytes, size_t count);
void str_printf(Str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void str_free(Str *s);

/* ---- time ---- */
double now_seconds(void); /* monotonic */

/* ---- files ---- */

/* The whole file in memory, with a zero behind it; *count bytes (may be NULL). Ends the program when it
 * cannot be read. The caller frees it. */
char *file_read(const char *path, size_t *count);
/* Maps a file read-only; an empty file gives NULL and *count 0. Whoever reads what is no longer there, since the file
 * was shortened, ends the program with an error. */
const void *file_map(const char *path, size_t *count);
/* Ends the program when the file that was mapped has changed since. */
void file_check_unchanged(const void *data);
void file_unmap(const void *data, size_t count);
bool file_exists(const char *path);
bool file_exists_in(const char *folder, const char *name);
/* Makes a folder and those above it. */
void file_make_folder(const char *path);
/* Makes an empty folder for a while, below TMPDIR or else /tmp: "/tmp/shard-k3Xq9Z" for "shard". The caller removes it
 * and frees its name. */
char *file_temp_folder(const char *name);
/* Only one process works in a folder that is there: the lock goes with the process. Another one that has it ends this
 * one, with `hint`. */
void file_lock_folder(const char *path, const char *hint);
/* Removes a file or a folder with all that is in it; nothing there is fine. */
void file_remove(const char *path);
/* Returns when the file or folder is on the disk. */
void file_sync(const char *path);
/* Moves `from` over `to` in one step: whoever looks sees the old one or the new one. */
void file_rename(const char *from, const char *to);
/* The same, and it survives a crash: syncs the data, renames, syncs the folder. */
void file_commit(const char *from, const char *to);
/* Writes through a temporary name and file_commit: a reader sees the old file or the new one,
 * never a part. */
void file_write(const char *path, const void *data, size_t count);
/* Opens for writing; CHECKed close that reports a full disk, which plain fclose would swallow. */
FILE *file_open(const char *path, const char *mode);
void file_close(FILE *f, const char *path);

/* ---- small things ---- */
static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
/* a / b rounded up, b > 0 */
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

#endif
