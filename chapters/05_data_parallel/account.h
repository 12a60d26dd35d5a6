/* account: what the steps of a training run on several devices have cost: where the time goes, which bytes were moved, what
 * each device did when. It knows of no model and of no way to train one, so every chapter uses it.
 *
 * Counted are the calls of the mesh's groups, and of those split from them: what a step needs belongs there. Calls of the
 * world, which hold a run together, are not counted. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "common/comm/mesh.h"
#include "common/config/config.h"
#include "common/draw/timeline.h"
#include "common/run/metrics.h"

/* Calls of this device, and what its queue waited for them, by the queue's clock. */
typedef struct {
    CommCount counts[COMM_KINDS];
    double seconds, idle_seconds;
} CommSpent;

typedef struct {
    const Mesh *mesh;
    Device *device;
    const Config *config;
    Profile *profile;
    Trace *trace; /* NULL: none is wanted */
    Timeline *timeline;
    double began;                         /* the step, by the queue's clock */
    CommSpent before;                     /* it began */
    CommSpent last;                       /* in the last step */
    QueueCounts queue_before, queue_last; /* likewise */
    /* sums over the steps alone, without evaluations and checkpoints: */
    int64_t steps;
    double seconds;
    CommSpent comm;
} Account;

/* Every rank calls these, in this order; the steps in between. tape: the one of the steps, for the trace that the config may
 * ask for. The trainer names the phases of its steps to account->profile, until account_end. */
void account_begin(Account *a, const Mesh *mesh, Device *device, Tape *tape, const Config *config);
void account_step_begin(Account *a, int64_t step);
/* Returns the seconds of the step, by the queue's clock. */
double account_step_end(Account *a);
/* Prints where the time went and draws <output-dir>/timeline.png, the last step on every device. */
void account_end(Account *a);

/* The calls of one kind in the last step, to be held against a formula: calls of a device, bytes of all devices together
 * (as CommCount has them). Every rank calls it. */
typedef struct {
    int64_t calls;
    double bytes;
} StepCount;
StepCount account_step_count(const Account *a, CommKind kind);

/* What was trained, and what came out. */
typedef struct {
    const char *chapter;
    int argc;
    char **argv;
    int64_t parameters, matmul_parameters; /* of the whole model: a device may hold a part of it */
    double flops_per_token;
    MetricsRow row; /* the last one */
    double seconds; /* of this machine, evaluations and all */
    int64_t saves;  /* of checkpoints beside the training (run_save), and what training waited for them */
    double save_seconds;
    double peak_gflops;     /* of all devices together */
    double bytes_per_token; /* of the targets that were evaluated */
    double entropy_floor, trigram_loss;
} Result;

/* <output-dir>/report.json. Every rank calls it, before account_end, and rank 0 writes. */
void account_report(const Account *a, const Result *result);

#endif
