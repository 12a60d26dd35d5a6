/* sweeps: fully sharded training by the clock of a device model, held against what the formulas say. The kernels and
 * messages are those of training; the clock is that of another device, so two runs print the same digits. */
#ifndef SWEEPS_H
#define SWEEPS_H

#include "chapters/05_data_parallel/run.h"
#include "chapters/07_fsdp/fsdp_options.h"

#include <jansson.h>

/* Every rank calls it, after run_answer. Prints tables, draws pictures into the output folder, and writes report.json there,
 * with the key `sweep`. */
void sweeps_run(const Run *run, ShardedSweep sweep);

/* ---- the two of them; each returns what the report says of it ---- */

/* Devices and stages: bytes on a device, by class, and sent in a step. Draws stages.png; memory-stage-0.png,
 * memory-prefetch-0.png and memory-prefetch-1.png show them over the time of a step. */
json_t *sweep_memory(const Run *run, const Config *config);
/* The tokens of a device, and the units that are gathered ahead: when does computing hide an all-gather? Draws
 * prefetch.png. */
json_t *sweep_prefetch(const Run *run, const Config *config);

#endif
