/* scaling: data parallel by the clock of a device model: what a size does to the time of a step, held against what the
 * formulas say. The kernels and messages are those of training; only the clock is that of another device, so the result
 * does not depend on this machine. */
#ifndef SCALING_H
#define SCALING_H

#include "chapters/05_data_parallel/dp_options.h"
#include "common/comm/comm.h"
#include "common/data/data.h"

#include <jansson.h>

/* Every rank calls it. Prints a table for each sweep that is asked for and draws buckets.png, batch.png, scaling.png.
 * The report gets the key `sweep`, and is written to the output folder. */
void scaling_run(const DpOptions *options, Comm *world, Dataset *data, json_t *report);

#endif
