/* waves_run: data parallel on the smallest model, and the proof that it is the same training: the network of chapter 01
 * fitted to noisy waves by all devices, then once more by one device that takes their slices one after the other. */
#ifndef WAVES_RUN_H
#define WAVES_RUN_H

#include "chapters/05_data_parallel/dp_options.h"
#include "common/comm/comm.h"

/* Every rank calls it. Prints both losses beside each other, draws them and a prediction into the output folder; true:
 * the same bits. */
bool waves_run(const DpOptions *options, Comm *comm, Device *device);

#endif
