/* metrics: loss.csv, one row a step. It is the run's own record: full precision, a row is in the file as soon
 * as its step is done, and a resumed run cuts it back to the checkpoint's step and goes on, so that an
 * interrupted run leaves the same rows as an uninterrupted one. */
#ifndef METRICS_H
#define METRICS_H

#include "common/base/base.h"

#define METRICS_HEADER "step,tokens,loss,val_loss,lr,grad_norm,step_ms,tokens_per_s"

/* NAN: not measured at this step; an empty field in the file. */
typedef struct {
    int64_t step;   /* 1 is the first; 0 for what was measured before it */
    int64_t tokens; /* seen up to here */
    double loss, val_loss, lr, grad_norm, step_ms, tokens_per_s;
} MetricsRow;

/* Nothing is measured yet. */
MetricsRow metrics_row(int64_t step, int64_t tokens);

/* ---- writing ---- */

typedef struct Metrics Metrics;

/* A new <output-dir>/loss.csv. */
Metrics *metrics_create(const char *output_dir);
/* The one that is there, cut back to the rows up to `step`. Warns when rows before that are missing. */
Metrics *metrics_resume(const char *output_dir, int64_t step);
void metrics_write(Metrics *metrics, const MetricsRow *row);
void metrics_close(Metrics *metrics);

/* ---- reading ---- */

typedef struct {
    MetricsRow *rows;
    int64_t count;
    char fault[80]; /* what is wrong with the file, "" when nothing is; rows that could be read are here all
                       the same. A last line without its end, as a kill can leave it, is no fault. */
} MetricsTable;

MetricsTable metrics_read(const char *path);
void metrics_free(MetricsTable *table);
/* Goes on from row *i of a and *j of b, both 0 at first, to the next two rows of the same step; false: there are none. */
bool metrics_same_step(const MetricsTable *a, const MetricsTable *b, int64_t *i, int64_t *j);

#endif
