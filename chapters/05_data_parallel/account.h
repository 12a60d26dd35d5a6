/* account: what the steps of a run have cost, on all devices: where the time goes, and the bytes that were moved, beside
 * what the formula says. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "chapters/05_data_parallel/replica.h"
#include "common/draw/timeline.h"

typedef struct {
    Comm *world;
    Trace *trace; /* NULL: none is wanted */
    Timeline *timeline;
    CommCount before, all_reduces; /* when the step began; in all steps */
    double began, seconds;         /* by the queue's clock, as are: */
    double comm_before, comm_seconds, idle_before, idle_seconds;
    int64_t steps;
} Account;

/* Every rank calls these, in this order; the steps in between. trace: trace.json is wanted. */
void account_begin(Account *a, Comm *world, Replica *r, bool trace);
void account_step_begin(Account *a, Replica *r, int64_t step);
void account_step_end(Account *a, Replica *r);
/* Prints the tables and draws <output-dir>/timeline.png, the last step on every device. */
void account_end(Account *a, Replica *r);

/* What came out of the run. */
typedef struct {
    MetricsRow row; /* the last one */
    int64_t steps;
    double seconds;         /* of this machine, evaluations and all */
    double peak_gflops;     /* of all devices together */
    double bytes_per_token; /* of the targets that were evaluated */
} Result;

/* <output-dir>/report.json. Every rank calls it, and rank 0 writes. */
void account_report(const Account *a, const Replica *r, const Mesh *mesh, const Result *result, int argc,
                    char **argv);

#endif
