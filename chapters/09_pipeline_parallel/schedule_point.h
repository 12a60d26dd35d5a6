/* schedule_point: one measurement of a sweep: a step of training with one schedule, by the clock of a device model, and what plan
 * and formulas say of it. */
#ifndef SCHEDULE_POINT_H
#define SCHEDULE_POINT_H

#include "chapters/09_pipeline_parallel/measured.h"

typedef struct {
    ScheduleKind kind;
    int64_t m;
    Schedule *schedule; /* NULL: there is none for these numbers */
    Plan *plan;
    Measured was;
    MessageModel messages;
    /* If each action takes as long as it did, the plan says when it began, to 1e-5 of the step: all waiting is for
     * messages that take what the model says. */
    bool explained;
    double formula; /* of the bubble of the step, where all chunks and F, B and W cost the same */
    int64_t in_flight_formula, in_flight; /* on the stage that has most */
    double activations;                   /* bytes, on the stage that holds most */
    double step;                          /* seconds of all of it */
} SchedulePoint;

/* Every rank of the mesh calls it. m: micro-batches, of the config's size. */
SchedulePoint schedule_point(const Config *config, const Mesh *mesh, const Dataset *data, ScheduleKind kind,
                             int64_t m);
void schedule_point_free(SchedulePoint *point);

/* Seconds from the first action to the last one, by the plan, with the costs of the step and messages that take so many times as
 * long. */
double schedule_point_seconds(const SchedulePoint *point, double slower);

#endif
