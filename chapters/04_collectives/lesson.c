#define _GNU_SOURCE
#include "chapters/04_collectives/lesson.h"

#include "common/base/platform.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

void *lesson_gather(const Lesson *lesson, const void *mine, int64_t bytes) {
    ASSERT(bytes % 4 == 0);
    void *rows = xmalloc((size_t)(lesson->world->size * bytes));
    Queue host = queue_of_host(&lesson->device->queue);
    comm_all_gather(lesson->console, &host, mine, rows, bytes / 4, TYPE_I32);
    return rows;
}

double lesson_largest(const Lesson *lesson, double mine) {
    Queue host = queue_of_host(&lesson->device->queue);
    comm_all_reduce(lesson->console, &host, &mine, &mine, 1, TYPE_F64, REDUCE_MAX);
    return mine;
}

int64_t lesson_total(const Lesson *lesson, int64_t mine) {
    double sum = (double)mine; /* exact up to 2^53 */
    Queue host = queue_of_host(&lesson->device->queue);
    comm_all_reduce(lesson->console, &host, &sum, &sum, 1, TYPE_F64, REDUCE_SUM);
    return (int64_t)sum;
}

void lesson_counts(const Lesson *lesson, CommCount counts[COMM_KINDS]) {
    for (int k = 0; k < COMM_KINDS; k++)
        counts[k] = (CommCount){lesson->world->counts[k].calls - lesson->console->counts[k].calls,
                                lesson->world->counts[k].bytes - lesson->console->counts[k].bytes};
}

int64_t lesson_bytes(const Lesson *lesson) {
    CommCount counts[COMM_KINDS];
    int64_t bytes = 0;
    lesson_counts(lesson, counts);
    for (int k = 0; k < COMM_KINDS; k++) bytes += counts[k].bytes;
    return bytes;
}

bool lesson_check_bytes(const Lesson *lesson, int64_t before, int64_t predicted, const char *formula) {
    int64_t moved = lesson_total(lesson, lesson_bytes(lesson) - before);
    printf("  bytes moved: %" PRId64 "; %s = %" PRId64, moved, formula, predicted);
    if (predicted) printf(", ratio %g", (double)moved / (double)predicted);
    printf("\n");
    return moved == predicted;
}

bool lesson_colors(void) {
    return !getenv("NO_COLOR") && (platform_terminal(STDOUT_FILENO) || getenv("CLICOLOR_FORCE"));
}

char *lesson_path(const Lesson *lesson, const char *name) { return xprintf("%s/%s", lesson->folder, name); }

double lesson_worse(double a, double b) { return isnan(b) || b > a ? b : a; }

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lesson_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}
