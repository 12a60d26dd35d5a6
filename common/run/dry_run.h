/* dry_run: what a training run takes on a device, before anything is taken. The program's own code runs, for one rank, on a
 * device that only counts (tensor/dry_device.h) and in a group that moves nothing (comm/dry_group.h); so the bytes of each class
 * at each moment are those of the real run, and the time of a step is that of its kernels and calls by the model clock.
 *
 * To the byte, where the ranks share one machine, or are as many as this job's. Two things are left out: what a device that is not
 * the first takes to send its part of --trace, when all is done; and that a rank may have to wait for another one that is slower. */
#ifndef DRY_RUN_H
#define DRY_RUN_H

#include "common/comm/comm.h"
#include "common/config/config.h"
#include "common/data/data.h"

/* What a program does with a device of a world, from the mesh to the last evaluation: everything is given back when it
 * returns. Evaluations see dry_windows of the data, steps are dry_steps. Returns the seconds of the last step, by queue_now. */
typedef double DryProgram(const Config *config, Comm *world, Device *device, const Dataset *data);
int64_t dry_steps(const Config *config);
int64_t dry_windows(const Config *config, const Dataset *data);

typedef struct {
    MemoryUse memory; /* peaks; `now` is 0 */
    double seconds;   /* of a step that follows another, by the clock of config->device_model */
} DryRun;

/* As rank `rank` of `size`. like: whose kernels are meant; data: whose vocabulary, tokenizer and number of windows are. The
 * config has passed all checks of the program. */
DryRun dry_run(DryProgram *program, const Config *config, int rank, int size, const Device *like,
               const Dataset *data);

#endif
