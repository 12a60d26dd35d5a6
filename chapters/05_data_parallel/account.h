/* account: what the steps of a run have cost, on all devices: where the time goes, and the bytes that were moved, beside
 * what the formula says. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "chapters/05_data_parallel/replica.h"
#include "common/timeline.h"

#include <jansson.h>

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

/* The `seconds` key of the report: for each device {compute, comm, idle} of the steps. Every rank calls it, and has the list. */
json_t *account_seconds(const Account *a);

#endif
