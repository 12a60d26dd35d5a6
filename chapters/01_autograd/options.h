/* options: what this program can be told, on top of --output-dir, --seed and --device-memory. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "chapters/01_autograd/ladder.h"
#include "common/config/config.h"

typedef enum { PART_ALL, PART_GEMM, PART_TAPE, PART_CHECK, PART_TRAIN } Part;

typedef struct {
    Part part;
    GemmSize sizes[LADDER_SIZES];
    int size_count;
    double gemm_seconds;
    double check_step, check_tolerance;
    int64_t check_each, hidden;
    Config run; /* batch, optimizer, schedule, output folder; no model */
    const char *gemm_sizes;
} Options;

/* Ends the program with --help, or with what is wrong. */
Options options_parse(int argc, char **argv);

#endif
