/* trainer: one device of a mesh data x pipe x tensor, and what the three do together. Each axis is a chapter's own code; what
 * is written here is how they meet:
 *
 *   tensor  (chapter 08)  the layers: each device holds slices of the matrices, and works on the same windows
 *   pipe    (chapter 09)  of the model that these layers make, a stage keeps its blocks, and does its part of a plan
 *   data    (chapter 07)  of what is left on a device, --zero-stage cuts shards; each coordinate has a share of the batch
 *
 * A gradient is complete in this order, which is that of one device:
 *
 *   1  the micro-batches, in ascending order                              (common/tensor/param)
 *   2  the sum along `data`, of whole gradients or into shards            (chapter 07: fsdp_finish)
 *   3  what is Partial along `tensor` still: norms under sequence parallel, shared key heads
 *                                                                         (chapter 08: tensor_parallel_finish)
 *   4  the two uses of a tied table, which are on two stages              (chapter 09: ties_add)
 *   5  the norm of all of it: sums over blocks of elements, combined in the order of the whole model
 *
 * With one device along `tensor` the layers are those of one device, and so are the bits. */
#ifndef TRAINER_H
#define TRAINER_H

#include "chapters/08_tensor_parallel/tensor_parallel.h"
#include "chapters/09_pipeline_parallel/staged.h"

/* What a device has done along an axis in a step, and how long its queue has waited there. */
typedef struct {
    CommCount counts[COMM_KINDS];
    double seconds;
} AxisCost;

typedef struct {
    TensorParallel *tp; /* NULL: one device along `tensor` */
    Staged *staged;     /* this device's stage of that model; texts, parts and the profile are its own */
    AxisCost along[MESH_AXES]; /* of the last step */
} Trainer;

/* The mesh of a config; every rank of the world calls it. */
Mesh trainer_mesh(const Config *config, Comm *world);
/* Every rank of the mesh calls it with the same config and plan, which must live as long, as must the mesh. */
Trainer *trainer_new(const Config *config, const Mesh *mesh, const Plan *plan, Device *device,
                     const Dataset *data);
void trainer_delete(Trainer *t);

/* The step-th step, on the next global batch. Fills loss (the mean over the global batch), lr and grad_norm of the row: the
 * same on every device. */
void trainer_step(Trainer *t, int64_t step, MetricsRow *row);
/* ... in two halves. The device has the step, and the row its lr; staged_read has the rest. */
void trainer_issue(Trainer *t, int64_t step, MetricsRow *row);

/* NULL, or the name of a parameter of which devices that should hold the same bits do not: along `data`, along `tensor`, or the
 * two ends of a pipeline. Every rank calls it. */
const char *trainer_drift(const Trainer *t);
/* The mean loss over the validation windows, on every device; ends the program where devices have drifted apart. */
double trainer_evaluate(Trainer *t);

/* The text of config->prompt, continued by the newest checkpoint's model, of which each device has its stage's slices. */
void trainer_continue(const Config *config, const Mesh *mesh, const Plan *plan, Device *device);

/* All of it, from the mesh on, for a device that only counts (common/run/dry_run.h); and whether there is such a run. */
double trainer_dry(const Config *config, Comm *world, Device *device, const Dataset *data);
bool trainer_is_possible(const Config *config);

#endif
