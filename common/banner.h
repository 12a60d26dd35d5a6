/* banner: what a training program says before it starts. */
#ifndef BANNER_H
#define BANNER_H

#include "common/config.h"
#include "common/data.h"
#include "common/model.h"

/* Device, model, data and batch, a line each. peak_gflops as machine_peak_gflops measured it. */
void print_banner(const Config *config, const Model *model, const Dataset *data, double peak_gflops);

#endif
