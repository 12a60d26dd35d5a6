/* What a worker says: see workers.py. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* One line; takes over the reference. */
static inline void answer(json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("%s\n", text);
    fflush(stdout);
    free(text);
    json_decref(json);
}

/* The most that this process held, in bytes. */
static inline json_int_t peak_resident(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage); /* ru_maxrss counts kilobytes, on macOS bytes */
#ifdef __APPLE__
    return usage.ru_maxrss;
#else
    return 1024 * (json_int_t)usage.ru_maxrss;
#endif
}

#endif
