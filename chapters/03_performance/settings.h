/* settings: what this program can be told, on top of model, batch, data and run. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "common/config/config.h"

typedef enum { SWEEP_ALL, SWEEP_BATCH, SWEEP_THREADS, SWEEP_NONE } Sweep;

typedef struct {
    Config run; /* max_steps: all steps, those that warm up as well */
    int64_t warmup, steps;
    Sweep sweep;
    double point_seconds, fit_seconds;
    bool batch_given, steps_given; /* by the user */
    bool mistakes, trace, recompute;
} Settings;

/* Ends the program with --help, or with what is wrong. */
Settings settings_parse(int argc, char **argv);

/* Cuts the measured steps so that they take fit_seconds or less at half of the machine's peak (FLOP/s): fewer micro-batches
 * a step, then, with one in each, fewer steps. Sizes that the user gave stay. Returns what it chose, in a line that the caller
 * frees; NULL: all fits, or nothing may be cut. window_flops: of training on one window. */
char *settings_fit(Settings *settings, double window_flops, double peak);

#endif
