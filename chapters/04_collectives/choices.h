/* choices: what this program can be told, on top of --output-dir, --seed and --device-memory. */
#ifndef CHOICES_H
#define CHOICES_H

#include "chapters/04_collectives/playground.h"

typedef enum {
    PART_ALL,
    PART_DEVICES,
    PART_SHARDINGS,
    PART_PRODUCTS,
    PART_COLLECTIVES,
    PART_RING,
    PART_COSTS,
    PART_PLAYGROUND
} Part;

typedef struct {
    Part part;
    int64_t tensor_size;   /* of the mesh: its columns; 0: so that it is as square as can be */
    int64_t rows, columns; /* of the matrix that is sharded */
    int64_t count;         /* numbers that ring and tree add up */
    int64_t largest;       /* message to measure, in bytes */
    int64_t tries;
    Playground playground;
    Config run;
} Choices;

/* Ends the program with --help, or with what is wrong. */
Choices choices_parse(int argc, char **argv);

#endif
