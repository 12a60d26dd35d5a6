/* mesh_auto: which mesh for this model on these devices? Every mesh of data x pipe x tensor that the model can be cut for and
 * whose devices can hold it, with what a step takes there by the clock of --device-model and what a device holds, in the
 * units of axes_run, the best first; the first few are then run, if there are as many devices. */
#ifndef MESH_AUTO_H
#define MESH_AUTO_H

#include "chapters/05_data_parallel/run.h"

typedef struct {
    int64_t devices;    /* that the mesh is for; 0: as many as run the program */
    int64_t run_meshes; /* how many are run */
} MeshAuto;

/* Every rank of run->job.world calls it. Batch, schedule, and what may save memory are the config's, with these exceptions:
 * micro-batches may be smaller, and where a device cannot hold what it should, a higher stage of ZeRO and --recompute are
 * tried. */
void mesh_auto_run(const MeshAuto *options, const Run *run);

#endif
