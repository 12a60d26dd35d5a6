/* progress: what a person sees while a run goes on. On a terminal one line that rewrites itself, as wide as
 * the terminal; in a pipe one plain line per log interval. Everything else that is printed meanwhile (a
 * sample, a note) goes through here too, so that the two do not overwrite each other. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "common/run/metrics.h"

typedef struct Progress Progress;

/* Steps first + 1 .. last are to come; a plain line at every log_interval-th and at the last. */
Progress *progress_start(FILE *out, int64_t first, int64_t last, int64_t log_interval);
/* A step is done. */
void progress_step(Progress *progress, const MetricsRow *row);
/* A line of its own. */
void progress_note(Progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text of a model's for a terminal: what a terminal would obey, or what is not UTF-8, shows as U+FFFD. */
void print_harmless(FILE *out, const char *text, size_t bytes);
/* The same under a title, broken into lines and indented. */
void progress_text(Progress *progress, const char *title, const char *text, size_t bytes);
/* Leaves the last state of the line standing. */
void progress_end(Progress *progress);

/* Seconds per step, for the time left: the mean over the last 200 steps or so, evaluations and saves
 * included. The first step (which also warms up) counts only until there is a second, and a pause counts as
 * 20 steps at most. */
typedef struct {
    double seconds;
    int64_t steps;
} Pace;
void pace_add(Pace *pace, double seconds);

/* "12 s", "3 min 20 s", "2 h 05 min" */
void progress_duration(double seconds, char *text, size_t capacity);

#endif
