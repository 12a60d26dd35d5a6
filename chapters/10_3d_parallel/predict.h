/* predict: what a step on a mesh takes, before anybody runs it, for as many devices as you like. The trainer's own code runs, for
 * one device of each kind of stage, on a device that only counts (common/run/dry_run.h): that gives the bytes that it holds, and
 * the seconds of each action and of what stands around them (the sum over `data`, the norm, the update). The plan then says how
 * stages wait for each other. */
#ifndef PREDICT_H
#define PREDICT_H

#include "common/config/config.h"
#include "common/data/data.h"
#include "common/tensor/device.h"

typedef struct {
    double seconds; /* of a step, by the clock of config->device_model */
    double bubble;  /* idle over busy time of the stages, on the mean */
    int64_t bytes;  /* of the device that holds most, at its peak ... */
    int64_t kept;   /* ... without what calls need of this machine, as axes_point has it */
} Prediction;

/* config: its sizes of the mesh, data_parallel included, say how many devices there are; trainer_is_possible. like and data: as
 * dry_run has them. Stages that have as many blocks are taken for one, the first of them, which holds most. */
Prediction predict(const Config *config, const Device *like, const Dataset *data);

#endif
