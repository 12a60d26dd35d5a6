/* run: what surrounds the training loop of a program on several devices, whatever it trains and however: the start, the
 * data, what is said, the record, the pictures, the report. Mesh, model, step, checkpoints and the loop are each chapter's own;
 * this chapter's main.c shows how the two go together.
 *
 * Every rank calls all of it, in the order in which it stands here. Rank 0 alone is heard, and writes the files. */
#ifndef RUN_H
#define RUN_H

#include "chapters/05_data_parallel/account.h"
#include "common/data/data.h"
#include "common/run/job.h"
#include "common/run/memory_ahead.h"
#include "common/run/progress.h"
#include "common/run/saver.h"
#include "common/run/step_rows.h"

typedef struct {
    const char *chapter, *title; /* of its report; of the picture of its loss */
    int argc;
    char **argv;
    Config config;
    Job job;
    Dataset *data; /* NULL until run_answer */
    Mesh mesh;
    int64_t parameters, matmul_parameters; /* of the whole model */
    double flops_per_token, peak_gflops;
    int64_t first, step;    /* the step it begins at; the one it is at */
    double began;           /* by the time of this machine */
    double bytes_per_token; /* of the targets that are evaluated; from run_end on */
    Metrics *metrics;       /* NULL: another rank writes */
    Progress *progress;
    StepRows rows;
    Account account;
    int64_t saves; /* run_save: how often, and for how long training has stood still for it */
    double save_seconds;
} Run;

/* devices: as job_open has it. The run must stay where it is from run_begin on. */
Run run_open(const char *chapter, const char *title, const Config *config, int devices, int argc,
             char **argv);
bool run_speaks(const Run *run);

/* What can be asked for instead of a training: --prompt, --print-data, --print-model. True: it is answered, and the program
 * ends. False: the data is open, and the model has its vocabulary. */
bool run_answer(Run *run);

/* True: --print-memory has been answered, and the program ends. Ends it with status 2 where --device-memory would not do. */
bool run_memory_ahead(const Run *run, const MemoryAhead *ahead);

/* ---- a training; run->mesh is the program's to make and to close ---- */

/* The output folder is there, no other program's, and holds the configuration (run.conf). */
void run_take_folder(const Run *run);
/* The mesh, then device, model, data and batch. Measures the peak. */
void run_print_banner(Run *run);

/* ---- the steps: run_step_begin, the trainer issues one, run_step_end; then run_row and what else is due ---- */

/* Training begins at step `step`, with training window next_window: Ctrl-C is heard from here on. The row is that of this
 * step, in which nothing has been measured yet. read: fills loss and norm of the first step that `trainer` has issued and not
 * read (step_rows.h). */
MetricsRow run_begin(Run *run, int64_t step, int64_t next_window,
                     void (*read)(void *trainer, MetricsRow *row), void *trainer);
/* What was measured before the first step; the account begins. A new run sets aside the checkpoints of an older one, now that
 * this one works. tape: of the steps. */
void run_first_row(Run *run, const MetricsRow *row, Tape *tape);
/* The step after which the run ends, when nobody asks before. */
int64_t run_last_step(const Run *run);
/* Step 1 is the first. */
void run_step_begin(Run *run, int64_t step);
/* The step is issued: fills step, tokens and speed of the row; loss and norm too, where somebody looks. next_window: behind the
 * step. Was it the last one, or has somebody asked for an end? */
bool run_step_end(Run *run, MetricsRow *row, int64_t next_window);
/* The row to loss.csv and to the eye, when it is complete, and the curve anew. */
void run_row(Run *run, MetricsRow *row, bool done);
/* Text by the model as it is after this step; ended: by the model itself. */
void run_sample(const Run *run, int64_t step, const Str *text, bool ended);
/* An interval has passed; 0: never. */
bool run_every(int64_t interval, int64_t step);
/* Every device writes what it holds of a checkpoint, when --save-interval has passed or the run is done. */
void run_save(Run *run, Saver *saver, int64_t step, int64_t next_window, bool done);

/* ---- the end ---- */

/* The report, the timeline, and where the time went. row: the last one. */
void run_end(Run *run, const MetricsRow *row);
/* What came out, drawn and said, and where it is. look: the picture to look at first; NULL: any. */
void run_print_result(const Run *run, const MetricsRow *row, const char *look);
void run_close(Run *run);

#endif
