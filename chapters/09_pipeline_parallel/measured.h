/* measured: what the last step of a pipeline took, from the events of all its stages, and what that should have been. */
#ifndef MEASURED_H
#define MEASURED_H

#include "chapters/09_pipeline_parallel/staged.h"
#include "common/config/device_model.h"

#include <jansson.h>

/* What the model clock says of messages between stages, `slower` times as long; by the time of this machine none is known, and
 * model is NULL. */
typedef struct {
    const Mesh *mesh;
    const DeviceModel *model;
    double bytes, slower;
} MessageModel;
MessageModel message_model_of(const Staged *s);
/* As PlanCosts.message has it; context: a MessageModel. */
MessageCost message_model_cost(const void *context, int from, int to);

/* Every device along `pipe` calls it, after a step; all get the same. */
typedef struct {
    PlanTimes times;  /* from the events, by the queue's clock */
    ChunkCost *costs; /* (chunks): of each action, the mean over the micro-batches */
    PlanTimes
        by_costs; /* of the plan, if each action took exactly that, and messages what the model clock says */
    int64_t *in_flight; /* (stages) */
} Measured;
Measured measured_of(const Staged *s);
void measured_free(Measured *m, const Plan *plan);
/* What a report says of it: {seconds, bubble, bubble_step, in_flight, of each stage}. */
json_t *measured_json(const Measured *m, const Schedule *schedule);

#endif
