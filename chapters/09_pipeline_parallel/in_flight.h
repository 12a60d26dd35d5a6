/* in_flight: micro-batches that a stage has begun and not finished backward of, over time: what it keeps activations of. */
#ifndef IN_FLIGHT_H
#define IN_FLIGHT_H

#include "chapters/09_pipeline_parallel/plan.h"

/* From the moment times[i] on, seconds since the schedule's first action, there are held[i] of them, counted once in each
 * chunk; the last moment is the end of the stage's work. */
typedef struct {
    double *times, *held;
    int64_t count;
} InFlight;

/* From an F's begin to the end of its B, or of its W where it has one. */
InFlight in_flight_of(const Schedule *schedule, const PlanTimes *times, int stage);
void in_flight_free(InFlight *flight);

/* A picture of them, a row for each stage, up to the line that the schedule promises. kind: whose formulas these are;
 * SCHEDULE_KINDS: it is none of them, and the plan's own number is drawn. */
void in_flight_draw(const Plan *plan, ScheduleKind kind, const PlanTimes *times, const char *title,
                    double unit, const char *unit_name, const char *path);

#endif
