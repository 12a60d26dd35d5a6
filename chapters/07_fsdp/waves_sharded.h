/* waves_sharded: fully sharded training on the smallest model, and the proof that it is the same training: the network of
 * chapter 01 fitted to noisy waves by all devices, each with a shard of it, then once more by one device alone. */
#ifndef WAVES_SHARDED_H
#define WAVES_SHARDED_H

#include "chapters/05_data_parallel/waves_report.h"

/* Every rank calls it; program: as fsdp_options_parse has it. Prints both losses beside each other, what each device keeps,
 * and the losses of the JAX notebook that trains this network fully sharded; draws the losses and a prediction into the
 * output folder. True: the same bits. */
bool waves_sharded(const Config *program, const WavesTask *task, Comm *comm, Device *device);

#endif
