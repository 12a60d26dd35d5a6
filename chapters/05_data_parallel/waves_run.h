/* waves_run: data parallel on the smallest model, and the proof that it is the same training: the network of chapter 01
 * fitted to noisy waves by all devices, then once more by one device that takes their slices one after the other. */
#ifndef WAVES_RUN_H
#define WAVES_RUN_H

#include "chapters/05_data_parallel/waves_report.h"

/* Every rank calls it. Prints both losses beside each other, draws them and a prediction into the output folder; true:
 * the same bits. */
bool waves_run(const Config *program, const WavesTask *task, Comm *comm, Device *device);

/* The training by this device alone, which takes `parts` slices of each batch one after the other: what any other way is held
 * against. config: waves_config's. Fills the record; draws the prediction of the first wave into the output folder. */
void waves_train_alone(const Config *config, const WavesTask *task, Device *device, int64_t parts,
                       WavesRecord *record);

#endif
