/* fsdp_options: what this program can be told, on top of what any training program can. */
#ifndef FSDP_OPTIONS_H
#define FSDP_OPTIONS_H

#include "chapters/05_data_parallel/waves_report.h"

typedef enum { SHARDED_GPT, SHARDED_MLP } ShardedModel;
typedef enum { SWEEP_NONE, SWEEP_MEMORY, SWEEP_PREFETCH, SWEEP_ALL } ShardedSweep;

typedef struct {
    Config run;
    ShardedModel model;
    ShardedSweep sweep;
    WavesTask waves;
} FsdpProgram;

/* Ends the program with --help, or with what is wrong. devices: how many run it. */
FsdpProgram fsdp_options_parse(int argc, char **argv, int devices);

#endif
