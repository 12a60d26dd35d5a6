/* lesson: what all parts of this chapter share: the devices, and how one of them speaks for all. */
#ifndef LESSON_H
#define LESSON_H

#include "common/comm/mesh.h"

/* Every device runs the program and makes the same calls; what only rank 0 is to print travels through `console`, a
 * group of the same devices, so that it can be left out of the account. It is the host's: the parts of the lesson work on
 * the memory of the device, and read from it what they show. */
typedef struct {
    Comm *world, *console;
    Device *device;
    Mesh mesh;          /* X: its axis `data`, Y: its axis `tensor` */
    const char *folder; /* for pictures */
} Lesson;

/* Row r (bytes) of the result is what device r gave; on every device. The caller frees it. */
void *lesson_gather(const Lesson *lesson, const void *mine, int64_t bytes);
/* Over the devices; a NaN stays. */
double lesson_largest(const Lesson *lesson, double mine);
int64_t lesson_total(const Lesson *lesson, int64_t mine);

/* What this device has sent since the start, console not counted: of each kind, and bytes of all kinds. */
void lesson_counts(const Lesson *lesson, CommCount counts[COMM_KINDS]);
int64_t lesson_bytes(const Lesson *lesson);
/* Prints the bytes that all devices have sent since this one had sent `before`, beside what a formula says. Are they
 * equal? */
bool lesson_check_bytes(const Lesson *lesson, int64_t before, int64_t predicted, const char *formula);

/* May the output have colours? It is a terminal, or CLICOLOR_FORCE is set (mpiexec hides the terminal), and NO_COLOR is
 * not. */
bool lesson_colors(void);
/* "lesson->folder/name"; the caller frees it. */
char *lesson_path(const Lesson *lesson, const char *name);
/* The larger of two errors, where a NaN is larger than any number. */
double lesson_worse(double a, double b);
/* Of count values, 1 or more, which it sorts. */
double lesson_median(double *values, int count);

#endif
