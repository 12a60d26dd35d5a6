/* banner: what a training program says before it starts, and of its result. */
#ifndef BANNER_H
#define BANNER_H

#include "common/config/config.h"
#include "common/data/data.h"
#include "common/tensor/device.h"

/* Device, model, data and batch, a line each. parameters: of the whole model; peak_gflops as machine_peak_gflops measured it. */
void print_banner(const Config *config, int64_t parameters, const Device *device, const Dataset *data,
                  double peak_gflops);

/* The validation loss, and where it lies between the two lines of the data. bytes_per_token: of the targets that it is the
 * mean of (data_bytes_per_token). */
void print_result(const Dataset *data, double loss, double bytes_per_token);

#endif
