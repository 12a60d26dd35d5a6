/* schedule: who does what when in a pipeline. The blocks of the model are cut into chunks, one behind the other, and each
 * chunk lies on a stage, which is one device. A micro-batch goes forward through all chunks, and its gradient back through
 * all of them. A schedule says in which order each stage does its part of that, and nothing else: no times, no messages
 * (plan.h), no tensors (pipeline.h).
 *
 *   F  forward of a micro-batch through a chunk
 *   B  its backward; where there is a W as well, only the half towards the inputs, for which the stage before waits
 *   W  the half towards the parameters, for which nobody waits
 *
 *   naive        F of a micro-batch through all stages, then its B, then the next one
 *   gpipe        all F, then all B                                                    Huang et al. 2019
 *   1f1b         p - stage F, then one B and one F in turns                           Narayanan et al. 2019
 *   interleaved  v chunks a stage, chunk c on stage c mod p                           Narayanan et al. 2021
 *   zb-h1        1f1b with W put off into the bubble                                  Qi et al. 2023
 *   zb-v         2 chunks a stage, down and up again: stage s has s and 2p - 1 - s    Qi et al. 2024
 *
 * Within a chunk every schedule here takes the micro-batches in ascending order, forward and backward, so that their
 * gradients are added in the order in which one device adds them. One from a file may do otherwise. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "common/base/base.h"

typedef enum { ACTION_FORWARD, ACTION_BACKWARD, ACTION_WEIGHTS, ACTION_KINDS } ActionKind;
extern const char action_letters[ACTION_KINDS]; /* F, B, W */

typedef struct {
    ActionKind kind;
    bool inputs_only; /* of a B that has its W */
    int chunk;
    int64_t microbatch;
    int line; /* of the file that it was read from; 0: none */
} Action;

typedef struct {
    char *name;
    int stages, chunks;
    int64_t microbatches;
    int *stage_of;    /* (chunks): where each lies */
    Action **actions; /* (stages), of each the first to the last */
    int64_t *counts;  /* (stages) */
} Schedule;

typedef enum {
    SCHEDULE_NAIVE,
    SCHEDULE_GPIPE,
    SCHEDULE_1F1B,
    SCHEDULE_INTERLEAVED,
    SCHEDULE_ZB_H1,
    SCHEDULE_ZB_V,
    SCHEDULE_KINDS
} ScheduleKind;
#define SCHEDULE_NAMES "naive|gpipe|1f1b|interleaved|zb-h1|zb-v"
extern const char *const schedule_names[SCHEDULE_KINDS];

/* For those that make one: without actions, all chunks on stage 0 ... */
Schedule *schedule_empty(const char *name, int stages, int chunks, int64_t microbatches);
/* ... one more at the end of a stage ... */
void schedule_add(Schedule *schedule, int stage, Action action);
/* ... and when all are there: of each B, whether it has a W. */
void schedule_finish(Schedule *schedule);

/* How many chunks a stage has: v with interleaved, 2 with zb-v, else 1. */
int schedule_chunks_per_stage(ScheduleKind kind, int virtual_stages);
enum { ACTIONS_MOST = 30000000 }; /* of a schedule: a gigabyte of them */
/* NULL, or why there is no such schedule, with *hint: the nearest numbers for which there is one. The caller frees both. */
char *schedule_problem(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches, char **hint);
/* ... for numbers that have no problem. */
Schedule *schedule_new(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches);
void schedule_delete(Schedule *schedule);

/* As lines of "stage,action,micro_batch,chunk" below one that says so, in the order in which each stage goes on; # begins a
 * comment. There are as many stages, chunks and micro-batches as the file names. What has not the form of a schedule, or is
 * too short for one, ends the program with status 2, and names the line or what is missing; whether it can be run, plan.h
 * finds out. */
Schedule *schedule_read(const char *path);
void schedule_write(const Schedule *schedule, const char *path);

/* Formulas, for F, B and W that take equally long in all chunks, and messages that take no time; schedule.c has the sources.
 *
 * Idle over busy time of the stage that takes longest from its first action to its last one (PlanTimes.bubble):
 * naive p - 1, gpipe and 1f1b (p-1)/m, interleaved (p-1)/(vm), zb-h1 (p-1)/(3m), which with m < p is (2p-1-m)/(3m),
 * zb-v 0, which with m < 2p - 1 is (2p-1-m)/(3m). */
double schedule_bubble_formula(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches);
/* ... of all stages, for a step that begins and ends for all of them at once (PlanTimes.bubble_step): the same, but for
 * zb-v, where each stage is busy from its first action to its last one, and begins and ends one F after the stage before:
 * at least (p-1)/(6m). */
double schedule_bubble_step_formula(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches);
/* The most micro-batches, counted once in each chunk, that a stage has begun and not finished backward of: naive 1, gpipe m,
 * 1f1b min(m, p - stage), interleaved min(vm, 2(p-1-stage) + (v-1)p + 1).
 *
 * zb-h1: min(m, p) on every stage, W included: as much as 1f1b's first stage, not as each of its stages. It cannot be less:
 * a last stage that holds 1 at a time does F B W F B W, and a third of the bubble becomes two thirds.
 * zb-v: 2p chunks of half the size, which is 1f1b's first stage on every stage; min(2m, m + 1 + stage, 2p). */
int64_t schedule_in_flight_formula(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches,
                                   int stage);

#endif
