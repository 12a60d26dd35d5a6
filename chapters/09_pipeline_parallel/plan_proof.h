/* plan_proof: that a schedule can be run, before there is a message in it: it is complete, and what an action waits for comes
 * before it, on its own stage and on all others. */
#ifndef PLAN_PROOF_H
#define PLAN_PROOF_H

#include "chapters/09_pipeline_parallel/plan.h"

/* What a failing proof says. */
typedef struct {
    char *problem, *hint;
} Refusal;

/* Fills plan's index and order, for which there is memory. False: it cannot be run, and *refusal says why. */
bool plan_prove(Plan *plan, Refusal *refusal);

#endif
