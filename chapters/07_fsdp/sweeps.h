/* sweeps: fully sharded training by the clock of a device model, held against what the formulas say. The kernels and
 * messages are those of training; the clock is that of another device, so two runs print the same digits. */
#ifndef SWEEPS_H
#define SWEEPS_H

#include "chapters/05_data_parallel/run.h"
#include "chapters/07_fsdp/fsdp_options.h"
#include "chapters/07_fsdp/sharded.h"
#include "common/comm/clock.h"
#include "common/draw/curves.h"

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

/* ---- a point of a sweep ---- */

/* A device of its own, by the clock of config's device model, and what trains on it with the others of comm, in one
 * micro-batch. */
typedef struct {
    Device *device;
    Clock *clock;
    Sharded *sharded;
    int64_t step;
} Point;

/* Every rank of comm calls these. */
Point point_open(const Config *config, Comm *comm, const Dataset *data);
void point_step(Point *point);
void point_close(Point *point);

/* On rank 0, <output-dir>/<name>. */
void sweep_draw(const Run *run, const Plot *plot, const char *name);

#endif
