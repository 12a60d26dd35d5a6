/* plan: a schedule with its messages, proven before anything runs. Where an action needs what another stage has made, a
 * receive is put in; the proof goes through the plan as the stages would, and finds what never comes.
 *
 * Messages from one stage to another arrive in the order in which they were sent. So a stage asks for them in that order,
 * also where it needs them in another one: each receive stands one action ahead of the one that needs it, or earlier,
 * where what is sent later is needed earlier. A receive only asks, and a send only gives away: neither waits. The action
 * that needs a message waits for it. */
#ifndef PLAN_H
#define PLAN_H

#include "chapters/09_pipeline_parallel/schedule.h"

typedef enum {
    PLAN_ASK_INPUT,    /* the input of F, from `peer` */
    PLAN_ASK_GRADIENT, /* the gradient of the chunk's output, for B, from `peer` */
    PLAN_ACT /* F, B or W; what F and B make is sent to `peer`, -1: it stays here, or nobody needs it */
} PlanKind;
typedef struct {
    PlanKind kind;
    Action action; /* which does it, or needs it */
    int peer;      /* a stage */
} PlanStep;

typedef struct {
    int stage;
    int64_t index; /* of its actions */
} PlanPlace;

typedef struct {
    const Schedule *schedule;
    PlanStep **steps; /* (stages), of each the first to the last */
    int64_t *counts;  /* (stages) */
    int64_t *
        in_flight; /* (stages): micro-batches, counted once in each chunk, whose F has begun and whose B (and W, where
                           there is one) is not done: the most at once, which is what a stage keeps activations of */
    int64_t *messages; /* (stages): that each sends */
    PlanPlace *order;  /* all actions, in an order in which one device could do them; ... */
    int64_t actions;   /* ... as many */
    int64_t *index;    /* (chunks, microbatches, ACTION_KINDS), see plan_index */
    int64_t *gone_by;  /* (chunks, microbatches), see plan_gone_by */
} Plan;

/* NULL: it cannot be run, and *problem and *hint say why (the line, if it was read from a file, and what it waits for).
 * The caller frees both. The schedule must live as long as the plan. */
Plan *plan_new(const Schedule *schedule, char **problem, char **hint);
void plan_delete(Plan *plan);

/* Which of its stage's actions it is; -1: there is none. */
static inline int64_t plan_index(const Plan *plan, ActionKind kind, int chunk, int64_t microbatch) {
    return plan->index[(chunk * plan->schedule->microbatches + microbatch) * ACTION_KINDS + kind];
}

/* What a B sends can be waited for without fear once the other stage has asked for it. How many actions its own stage has
 * done when it can know that, by what it has received from there; 0: it sends nothing; INT64_MAX: not before the step ends.
 * With tapes that are used again by this rule a stage needs two more than it has micro-batches in flight, or fewer. */
int64_t plan_gone_by(const Plan *plan, int chunk, int64_t microbatch);

/* ---- how long it takes ---- */

/* Seconds of each action of one chunk; a B that has no W takes backward + weights. */
typedef struct {
    double seconds[ACTION_KINDS];
} ChunkCost;
/* Seconds of a message, as the model clock counts them (clock.h): what leaves a stage goes one after the other, and each
 * takes `transfer`; it is there `latency` later. */
typedef struct {
    double transfer, latency;
} MessageCost;
typedef struct {
    double begin, end;
} Interval;
typedef struct {
    const ChunkCost *chunks; /* (chunks) */
    Interval *const
        *took; /* NULL, or instead of chunks (stages): each action takes as long as it does there */
    /* of a message from stage to stage; NULL: it takes no time */
    MessageCost (*message)(const void *context, int from, int to);
    const void *context;
} PlanCosts;

typedef struct {
    Interval **actions; /* (stages), of each its actions, in order */
    double *busy;       /* (stages) seconds of work */
    Interval *span;     /* (stages) from its first action's begin to its last one's end */
    double begin;       /* of the first action of all */
    double seconds;     /* from then to the last end of all */
    double
        bubble; /* idle over busy time, of the stage whose span is longest, within that span (Qi et al.); ... */
    double bubble_step; /* ... of all stages, from the first begin to the last end of all, on the mean */
} PlanTimes;

/* By the same rules as the pipeline by the model clock: an action begins when the one before is done and its message is
 * there. Nobody waits for what he sends. */
PlanTimes plan_times(const Plan *plan, const PlanCosts *costs);
/* ... as a run has measured them: actions (stages), of each those of the schedule, in order; all of it goes with the result. */
PlanTimes plan_times_measured(const Schedule *schedule, Interval **actions);
void plan_times_free(PlanTimes *times, const Plan *plan);

#endif
