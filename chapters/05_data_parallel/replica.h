/* replica: what one device of data parallel training has, and a step of it. */
#ifndef REPLICA_H
#define REPLICA_H

#include "chapters/05_data_parallel/data_parallel.h"
#include "common/model/batch.h"
#include "common/comm/mesh.h"
#include "common/run/metrics.h"
#include "common/model/step_numbers.h"
#include "common/run/profile.h"

typedef struct {
    Config config;
    Comm *comm; /* the devices that share the batch */
    Device *device;
    const Dataset *data;
    Model *model;
    Optimizer *optimizer;
    DataParallel *dp;
    Tape *tape;
    Batch batch; /* this device's slice of the global one */
    StepNumbers numbers;
    Profile *profile;    /* NULL: nobody looks */
    int64_t next_window; /* windows trained on so far, by all devices: the next step begins with this one */
} Replica;

/* Every rank of comm calls it with the same config, whose data_parallel is the size of comm. The model's weights are a
 * function of the seed, and so the same everywhere. */
Replica *replica_new(const Config *config, Comm *comm, Device *device, const Dataset *data);
void replica_delete(Replica *r);

/* The step-th step, on the next global batch. Fills loss (the mean over the global batch), lr and grad_norm of the row: the
 * same on every device. */
void replica_step(Replica *r, int64_t step, MetricsRow *row);
/* ... in two halves. The device has the step, and the row its lr: */
void replica_issue(Replica *r, int64_t step, MetricsRow *row);
/* ... and the host waits for its loss and norm. Another step may have been issued since. Ends the program where they are not
 * finite. */
void replica_read(Replica *r, MetricsRow *row);

/* Weights and moments of rank 0, the steps that were made and the windows they took, for everyone: rank 0 has read a checkpoint. */
void replica_broadcast(Replica *r);

/* All of it, from the mesh on, for a device that only counts (common/run/dry_run.h). */
double replica_dry(const Config *config, Comm *world, Device *device, const Dataset *data);

#endif
