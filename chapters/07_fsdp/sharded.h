/* sharded: what one device of fully sharded training has, and a step of it. */
#ifndef SHARDED_H
#define SHARDED_H

#include "chapters/07_fsdp/fsdp.h"
#include "common/comm/mesh.h"
#include "common/model/batch.h"
#include "common/model/step_numbers.h"
#include "common/run/metrics.h"
#include "common/run/profile.h"
#include "common/run/snapshot.h"

typedef struct {
    Config config;
    Comm *comm;            /* the devices that share the batch */
    Comm *shards, *copies; /* of them: those that share a model's state; those with the same shard of it */
    Device *device;
    const Dataset *data;
    Model *model;
    Fsdp *fsdp;
    Optimizer *optimizer; /* of what this device updates */
    Tape *tape;
    Batch batch; /* this device's slice of the global one */
    StepNumbers numbers;
    Profile *profile;    /* NULL: nobody looks */
    int64_t next_window; /* windows trained on so far, by all devices: the next step begins with this one */
} Sharded;

/* Refuses flags that make no sense where state is cut along `data`: chapter 05's buckets, a --shard-group that does not divide
 * the devices. */
void sharded_check_flags(const Config *config);

/* Every rank of comm calls it with the same config, whose data_parallel is the size of comm; groups of shard_group
 * neighbours share a model's state (0: all do). */
Sharded *sharded_new(const Config *config, Comm *comm, Device *device, const Dataset *data);
/* ... of a model, planned, whose layers may be of another kind. It goes with the result. Where it is a part of a model alone,
 * whole is all of it; NULL otherwise. */
Sharded *sharded_new_of(const Config *config, Comm *comm, Model *model, const Params *whole,
                        const Dataset *data);
void sharded_delete(Sharded *s);

/* The step-th step, on the next global batch. Fills loss (the mean over the global batch), lr and grad_norm of the row: the
 * same on every device. */
void sharded_step(Sharded *s, int64_t step, MetricsRow *row);
/* ... in two halves. The device has the step, and the row its lr: */
void sharded_issue(Sharded *s, int64_t step, MetricsRow *row);
/* ... and the host waits for its loss and norm. Another step may have been issued since. Ends the program where they are not
 * finite. */
void sharded_read(Sharded *s, MetricsRow *row);
/* ... without a look at them, for a caller whose step is another. */
StepResult sharded_result(Sharded *s, MetricsRow *row);

/* What this device holds, for saver_new and snapshot_load_parts, which all of comm call. What was loaded is what
 * this device updates: fsdp_updated gives it to the others, and next_window is the caller's to set. */
Parts sharded_parts(const Sharded *s);

/* What a run begins with, if the config wants more than the seed: the newest checkpoint of its output folder (--resume), of a
 * run on any mesh and of any chapter, or weights alone (--load-parameters-path). Every rank of parts->comm calls it, with what
 * it holds of the whole. */
void sharded_begin(Sharded *s, const Parts *parts);

/* All of it, from the mesh on, for a device that only counts (common/run/dry_run.h). */
double sharded_dry(const Config *config, Comm *world, Device *device, const Dataset *data);

#endif
