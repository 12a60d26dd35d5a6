/* settings: what this program can be told, on top of model, batch, data and run. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "common/config/config.h"

typedef enum { SWEEP_ALL, SWEEP_BATCH, SWEEP_THREADS, SWEEP_NONE } Sweep;

typedef struct {
    Config run; /* max_steps: all steps, those that warm up as well */
    int64_t warmup, steps;
    Sweep sweep;
    double point_seconds;
    bool mistakes, trace, recompute;
} Settings;

/* Ends the program with --help, or with what is wrong. */
Settings settings_parse(int argc, char **argv);

#endif
