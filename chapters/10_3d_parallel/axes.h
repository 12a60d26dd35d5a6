/* axes: --sweep axes: the same model and the same batch on every mesh of the devices, by the clock of a device model: what each
 * axis costs and saves, and so what it is for. */
#ifndef AXES_H
#define AXES_H

#include "chapters/05_data_parallel/run.h"

/* Every rank calls it, after run_answer. Prints a table of the meshes and a line for each axis, draws axes.png, and writes
 * report.json, with the key `sweep`. */
void axes_run(const Run *run);

#endif
