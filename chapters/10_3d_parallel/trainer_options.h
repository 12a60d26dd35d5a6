/* trainer_options: what this program can be told, on top of what any training program can. */
#ifndef TRAINER_OPTIONS_H
#define TRAINER_OPTIONS_H

#include "chapters/10_3d_parallel/mesh_auto.h"

typedef enum { TRAINER_SWEEP_NONE, TRAINER_SWEEP_AXES } TrainerSweep;

/* Whose choice the mesh is: the flags', or the program's. */
typedef enum { MESH_GIVEN, MESH_AUTO } MeshChoice;

typedef struct {
    Config run;
    TrainerSweep sweep;
    MeshChoice mesh;
    MeshAuto find;
} TrainerProgram;

/* Ends the program with --help, or with what is wrong. devices: how many run it. */
TrainerProgram trainer_options_parse(int argc, char **argv, int devices);

#endif
