/* tp_options: what this program can be told, on top of what any training program can. */
#ifndef TP_OPTIONS_H
#define TP_OPTIONS_H

#include "chapters/05_data_parallel/waves_report.h"
#include "chapters/08_tensor_parallel/mistakes.h"

typedef enum { CUT_GPT, CUT_MLP } CutModel;
typedef enum { CUT_SWEEP_NONE, CUT_SWEEP_MESHES, CUT_SWEEP_OVERLAP, CUT_SWEEP_ALL } CutSweep;

typedef struct {
    Config run;
    CutModel model;
    CutSweep sweep;
    Mistake mistake;
    WavesTask waves;
} TpProgram;

/* Ends the program with --help, or with what is wrong. devices: how many run it. */
TpProgram tp_options_parse(int argc, char **argv, int devices);

#endif
