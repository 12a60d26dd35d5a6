/* sliced: what one device of a mesh of data x tensor has, and a step of it. Along `tensor` devices hold slices of each
 * matrix and work on the same windows; along `data` they hold the same slice (or, with --zero-stage, shards of it) and have
 * each a share of the batch, as in chapters 05 and 07. */
#ifndef SLICED_H
#define SLICED_H

#include "chapters/07_fsdp/sharded.h"
#include "chapters/08_tensor_parallel/tensor_parallel.h"
#include "common/model/generate.h"

typedef struct {
    const Mesh *mesh;
    TensorParallel *tp;
    Sharded *own; /* of this device's slice: what those along `data` share */
    CommCount
        along_tensor[COMM_KINDS]; /* of the last step: calls and bytes of this device on the axis `tensor` */
} Sliced;

TensorParallelOptions sliced_options(const Config *config);
/* Refuses sizes that cannot be cut over the devices along `tensor`, and names the nearest that can; before there is a model.
 * world: every rank of it calls this; NULL: there is none yet. */
void sliced_check_sizes(const Config *config, Comm *world);
bool sliced_is_possible(const Config *config);
/* NULL, or what cannot be cut, with *hint; the caller frees both. */
char *sliced_problem(const Config *config, char **hint);

/* Every rank of the mesh calls it with the same config. */
Sliced *sliced_new(const Config *config, const Mesh *mesh, Device *device, const Dataset *data);
/* ... of this device's slice of a model, planned. Both go with the result. */
Sliced *sliced_new_of(const Config *config, TensorParallel *tp, Model *slice, const Dataset *data);
void sliced_delete(Sliced *s);

/* The step-th step, on the next global batch. Fills loss (the mean over the global batch), lr and grad_norm of the row: the
 * same on every device. */
void sliced_step(Sliced *s, int64_t step, MetricsRow *row);
/* ... in two halves. The device has the step, and the row its lr: */
void sliced_issue(Sliced *s, int64_t step, MetricsRow *row);
/* ... and the host waits for its loss and norm. Another step may have been issued since. Ends the program where they are not
 * finite. */
void sliced_read(Sliced *s, MetricsRow *row);

/* The mean loss over the validation windows: a share for each coordinate along `data`. */
double sliced_evaluate(Sliced *s);
/* NULL, or the name of a parameter of which devices that should hold the same bits do not. Every rank calls it. */
const char *sliced_drift(const Sliced *s);

/* What this device holds, for saver_new and snapshot_load_parts, which all of the world call. */
Parts sliced_parts(const Sliced *s);

/* All of it, from the mesh on, for a device that only counts (common/run/dry_run.h). */
double sliced_dry(const Config *config, Comm *world, Device *device, const Dataset *data);

#endif
