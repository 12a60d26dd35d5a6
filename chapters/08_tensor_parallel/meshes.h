/* meshes: the sweeps of chapter 08, by the clock of a device model: what a step takes on every mesh of data x tensor, and what
 * overlap saves, held against what the formulas say. */
#ifndef MESHES_H
#define MESHES_H

#include "chapters/05_data_parallel/run.h"
#include "chapters/08_tensor_parallel/sliced.h"
#include "chapters/08_tensor_parallel/tp_options.h"
#include "common/comm/clock.h"

#include <jansson.h>

/* Seconds of one step on a device. */
typedef struct {
    double step;
    double passes;       /* kernels of forward and backward */
    double update;       /* of the gradient's norm, and the optimizer's */
    double along_tensor; /* waiting for those along `tensor` */
    double along_data;
} StepTimes;

/* A step of the global batch in one micro-batch a device, without overlap along `data`; on a mesh of d x t. model NULL: by the
 * clock of this machine, the mean of a few steps. predicted: NULL, or what the collectives take by formula (passes and
 * update stay 0). Every rank of world calls it. */
StepTimes meshes_step(const Config *config, Comm *world, const Dataset *data, int d, int t,
                      const DeviceModel *model, StepTimes *predicted);

/* --sweep meshes: a table of all meshes, and meshes.png. */
json_t *meshes_sweep(const Config *config, Comm *world, const Dataset *data);
/* --sweep overlap (overlap_sweep.c): --overlap-tensor 1, 2, 4 .. on the mesh of the config, and overlap.png. */
json_t *overlap_sweep(const Config *config, Comm *world, const Dataset *data);

/* Every rank calls it: the sweeps that are asked for, and layer.png (layer_picture.h). The report gets the key `sweep`, and
 * is written to the output folder. */
void meshes_run(const TpProgram *options, Run *run, json_t *report);

#endif
