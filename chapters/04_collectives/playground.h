/* playground: a stack of matrix products, x -> x W1 W2^T again and again, whose batch and weights can be sharded in three
 * ways at once, each with the collectives that it needs:
 *
 *   data    its own rows of the batch on each device       all-reduce of the weights' gradients
 *   fsdp    its own rows of the batch and of the weights   all-gather of each weight before it is used (forward and again
 *                                                          in backward), reduce-scatter of its gradient
 *   tensor  its own columns of W1 and W2                   all-reduce of the outputs, in backward of the inputs' gradient
 *
 * A step is forward and backward of half the sum of the squares of the outputs. Memory and bytes are predicted before, and
 * counted after. */
#ifndef PLAYGROUND_H
#define PLAYGROUND_H

#include "chapters/04_collectives/lesson.h"
#include "common/config/config.h"

#include <jansson.h>

typedef struct {
    int64_t layers, D, F, batch; /* W1 and W2 (D,F), x (batch,D) */
    int64_t data, fsdp, tensor;  /* degrees; 0: every one that fits */
    int64_t tries;
    const Config *run; /* seed, device memory */
} Playground;

/* How many shardings over n devices the degrees leave: data x fsdp x tensor is n, data x fsdp divides the batch, fsdp
 * divides D, tensor divides F. */
int playground_count(const Playground *p, int n);
/* Runs them all, prints a line for each and appends {data, fsdp, tensor, held_bytes, peak_bytes, moved_bytes, step_s} to
 * the list `results`. False: a prediction was missed, or they do not compute the same. */
bool playground_run(const Lesson *lesson, const Playground *p, json_t *results);

#endif
