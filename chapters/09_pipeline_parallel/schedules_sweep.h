/* schedules_sweep: what can be asked for with --sweep. plan: all schedules as they are planned (preview.h). schedules: all of
 * them by the clock of a device model, a step of training with each of them and each number of micro-batches, held against
 * the plan and the formulas. The kernels and messages are those of training. Micro-batches are of the config's size, or of one
 * with which it takes this machine a minute, and so many: 1, half as many as stages, as many, twice and four times as many.
 * Printed are a table, which schedule wins where, and where it would not if messages were slower. Into the output folder go
 * micro-batches.png, what a micro-batch takes and a stage holds by their number, and schedules.png, what each stage did when. */
#ifndef SCHEDULES_SWEEP_H
#define SCHEDULES_SWEEP_H

#include "chapters/05_data_parallel/run.h"
#include "chapters/09_pipeline_parallel/pp_options.h"

/* Every rank calls it, after run_answer: the sweep that is asked for. The report gets the key `sweep`, and is written to the output
 * folder. */
void schedules_run(const PpProgram *options, const Run *run);

#endif
