/* dp_options: what this program can be told, on top of what any training program can. */
#ifndef DP_OPTIONS_H
#define DP_OPTIONS_H

#include "chapters/05_data_parallel/waves_report.h"

typedef enum { MODEL_GPT, MODEL_MLP } ModelKind;
typedef enum { SCALING_NONE, SCALING_BUCKETS, SCALING_BATCH, SCALING_DEVICES, SCALING_ALL } Scaling;

typedef struct {
    Config run;
    ModelKind model;
    Scaling sweep;
    WavesTask waves;
    bool batch_given; /* by the user */
} DpOptions;

/* Ends the program with --help, or with what is wrong. devices: how many run it. */
DpOptions dp_options_parse(int argc, char **argv, int devices);

#endif
