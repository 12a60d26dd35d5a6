/* meshes: all meshes of data x tensor, and all-reduces beside the products, by the clock of a device model: what a step takes,
 * held against what the formulas say, and by the clock of this machine. */
#ifndef MESHES_H
#define MESHES_H

#include "chapters/05_data_parallel/run.h"
#include "chapters/08_tensor_parallel/tp_options.h"

#include <jansson.h>

/* Every rank calls it. Prints a table for each sweep that is asked for and draws meshes.png, overlap.png and layer.png. The
 * report gets the key `sweep`, and is written to the output folder. */
void meshes_run(const TpProgram *options, Run *run, json_t *report);

#endif
