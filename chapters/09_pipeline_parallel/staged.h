/* staged: what one device of a mesh of data and pipe has, and a step of it. Along `pipe` devices have other blocks of one
 * model; along `data` they have the same ones (or, with --zero-stage, shards of them) and have each a share of the batch, as
 * in chapters 05 and 07. */
#ifndef STAGED_H
#define STAGED_H

#include "chapters/07_fsdp/sharded.h"
#include "chapters/09_pipeline_parallel/pipeline.h"
#include "common/model/generate.h"

typedef struct {
    const Mesh *mesh;
    const Plan *plan;
    ModelPart *parts;   /* (chunks) */
    bool embeds, heads; /* which ends this device has */
    Model *whole;       /* its shapes alone */
    Sharded *own;       /* of this device's parts: what those along `data` share */
    Chunks chunks;
    StageLayers layers;
    Pipeline *pipeline;
    Comm *ties; /* as ties_open has it */
    CommCount
        along_pipe[COMM_KINDS]; /* of the last step: calls and bytes of this device on the axis `pipe` */
} Staged;

/* NULL, or why a config cannot go with a schedule, with *hint: stages of ZeRO that want the micro-batches of a chunk in their
 * order, where the schedule takes them otherwise. The caller frees both. */
char *staged_problem(const Config *config, const Schedule *schedule, char **hint);

/* Every rank of the mesh calls it with the same config and plan, which must live as long. */
Staged *staged_new(const Config *config, const Mesh *mesh, const Plan *plan, Device *device,
                   const Dataset *data);
/* ... of a model, planned, whose layers may be of another kind. It is whole, loses what this device has no use for, and goes
 * with the result. */
Staged *staged_new_of(const Config *config, const Mesh *mesh, const Plan *plan, Model *model,
                      const StageLayers *layers, const Dataset *data);
void staged_delete(Staged *s);
/* From now on the profile is told of the steps. */
void staged_watch(Staged *s, Profile *profile);

/* The step-th step, on the next global batch. Fills loss (the mean over the global batch), lr and grad_norm of the row: the
 * same on every device. */
void staged_step(Staged *s, int64_t step, MetricsRow *row);
/* ... in two halves. The device has the step, and the row its lr: */
void staged_issue(Staged *s, int64_t step, MetricsRow *row);
/* ... and the host waits for its loss and norm. Another step may have been issued since. Ends the program where they are not
 * finite. */
void staged_read(Staged *s, MetricsRow *row);
/* The first half of it: gradients are complete, and not clipped; the mean loss is among own->numbers. */
void staged_gradient(Staged *s);

/* The mean loss over the validation windows: a share for each coordinate along `data`, on every device. */
double staged_evaluate(Staged *s);
/* Appends text by the model as it is now; the draw moves with the step, as chapter 02's. All devices write it together, one
 * token after the other, and each knows it. Returns whether the model ended the text itself. */
bool staged_sample(Staged *s, int64_t step, Str *text);
/* NULL, or the name of a parameter of which devices that should hold the same bits do not. Every rank calls it. */
const char *staged_drift(const Staged *s);

/* What this device holds, for saver_new and snapshot_load_parts, which all of the world call. */
Parts staged_parts(const Staged *s);

/* All of it, from the mesh on, for a device that only counts (common/run/dry_run.h) ... */
double staged_dry(const Config *config, Comm *world, Device *device, const Dataset *data);
/* ... or of one that is there: evaluations, steps and a sample. The seconds of the last step. */
double staged_run_dry(Staged *s);

#endif
