/* waves_report: what surrounds the training of the network of chapter 01 on noisy waves (datasets/waves.h), however it is
 * trained: its flags, its schedule, the record of a training, and two of them beside each other. */
#ifndef WAVES_REPORT_H
#define WAVES_REPORT_H

#include "common/comm/comm.h"
#include "common/config/flags.h"
#include "common/run/metrics.h"

/* What can be told of it: in the options of a program, with the three flags. */
typedef struct {
    int64_t hidden, batch, steps; /* batch: waves in one step */
} WavesTask;
#define WAVES_TASK                                                                                           \
    { 512, 1024, 501 }
/* Type: of the options; task: the field in it */
#define WAVES_FLAGS(Type, task)                                                                              \
    INT_FLAG(Type, 0, "mlp-hidden", task.hidden, 1, 16384, "width of the small network's hidden layer"),     \
        INT_FLAG(Type, 0, "mlp-batch", task.batch, 1, 1 << 20, "waves in one step of the small network"),    \
        INT_FLAG(Type, 0, "mlp-steps", task.steps, 1, 1e9, "steps of the small network")

/* The program's, with the optimizer and the schedule of this task. */
Config waves_config(const Config *config, const WavesTask *task);
/* Refuses a batch that does not divide among so many devices. Every rank calls it. */
void waves_check_shared(const WavesTask *task, Comm *world, int devices);
/* "network 128-512-128, 131712 parameters; 501 steps of 1024 waves", and no newline. */
void waves_print_task(const WavesTask *task, int64_t parameters);

/* A training: the losses of its steps, which rank 0 also writes to <output-dir>/<folder>/loss.csv. */
typedef struct {
    const Config *config;
    const WavesTask *task;
    char *name, *folder; /* "8 devices"; where its loss.csv is */
    double *losses;      /* (steps); filled up to count */
    int64_t count;
    Metrics *metrics; /* NULL: it is not written */
} WavesRecord;

/* Takes the name over. writes: on rank 0. */
WavesRecord waves_record_new(const Config *config, const WavesTask *task, const char *folder, char *name,
                             bool writes);
/* The next step: the mean squared error of the whole batch, and the seconds that it took. */
void waves_record_step(WavesRecord *record, double loss, double seconds);
void waves_record_free(WavesRecord *record);

/* A line for every hundredth step and the last, then the largest difference, which is returned: 0 where all losses have the
 * same bits, NAN where one is not a number. */
double waves_print_losses(const WavesRecord *a, const WavesRecord *b);
/* <output-dir>/waves.png: both curves, and below them their difference. */
void waves_draw_losses(const WavesRecord *a, const WavesRecord *b);

#endif
