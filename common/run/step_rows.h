/* step_rows: when the row of a step is complete. A GPU is given a step and works on it later; who waits for each step's loss
 * lets it stand idle while the next one is issued. So the host reads a step's numbers when it has issued the next, or at once
 * where somebody looks: an evaluation, a sample, a checkpoint, the end. On a CPU a step that is issued is done.
 *
 *   issue(step, &row)                            the trainer's
 *   step_rows_issued(&rows, &row, look)          reads the row before, and this one where somebody looks
 *   ... the time that the step took ...
 *   step_rows_take(&rows, &row, look)            writes what is complete, in the order of the steps
 *
 * A row's time is then not that in which its step was issued: what the host has seen pass since it knew last is shared among the
 * steps that were completed meanwhile. */
#ifndef STEP_ROWS_H
#define STEP_ROWS_H

#include "common/config/config.h"
#include "common/run/metrics.h"
#include "common/tensor/device.h"

typedef struct {
    Device *device;
    /* loss and norm of the first step that was issued and not read; waits for them */
    void (*read)(void *trainer, MetricsRow *row);
    void *trainer;
    /* a complete row */
    void (*write)(void *context, const MetricsRow *row);
    void *context;
    /* its own: */
    MetricsRow before; /* the row of the step before, when it is not written */
    bool waits;        /* there is one */
    bool read_this;    /* the last row that was issued is complete */
    double ms;         /* passed while steps were issued or waited for, and no row's yet */
} StepRows;

/* Is something due after this step, by an interval of the config, that needs its numbers? */
bool step_rows_due(const Config *config, int64_t step);
/* look: somebody needs this row now. */
void step_rows_issued(StepRows *rows, MetricsRow *row, bool look);
/* The row is as it is to be written, but perhaps for loss and norm; where look is set they are there when it returns. Its step_ms
 * and tokens_per_s are of the time from before the step was issued until step_rows_issued returned; what is written is of the
 * step. */
void step_rows_take(StepRows *rows, MetricsRow *row, bool look);

#endif
