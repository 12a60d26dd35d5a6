/* scaling: data parallel by the clock of a device model: what a size does to the time of a step, held against what the
 * formulas say. The kernels and messages are those of training; only the clock is that of another device, so the result
 * does not depend on this machine. */
#ifndef SCALING_H
#define SCALING_H

#include "chapters/05_data_parallel/dp_options.h"
#include "common/comm/comm.h"
#include "common/config/device_model.h"
#include "common/data/data.h"

#include <jansson.h>

/* How many of `asked` windows each device takes in a step of a sweep: as many as this machine, which does the work of all
 * the devices, gets done in a few seconds, and at least one. window_flops: of training on one window. */
int64_t scaling_windows(int64_t asked, int devices, double window_flops);

/* Refuses a sweep on one device, and on more devices than a node of this model has (NULL: any number). Every rank calls it. */
void scaling_check_devices(Comm *world, const DeviceModel *model);

/* The x at which two curves meet that cross between points i - 1 and i, on logarithmic axes. */
double scaling_crossing(const double *x, const double *a, const double *b, int i);

/* Every rank calls it. Prints a table for each sweep that is asked for and draws buckets.png, batch.png, scaling.png. A
 * batch that the user did not give is cut to scaling_windows, which is said.
 * The report gets the key `sweep`, and is written to the output folder. */
void scaling_run(const DpOptions *options, Comm *world, Dataset *data, json_t *report);

#endif
