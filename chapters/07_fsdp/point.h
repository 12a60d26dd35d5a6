/* point: one measurement of a sweep: training on some devices, by the clock of a device model. */
#ifndef POINT_H
#define POINT_H

#include "chapters/05_data_parallel/run.h"
#include "chapters/07_fsdp/sharded.h"
#include "common/comm/clock.h"
#include "common/draw/curves.h"

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
void point_draw(const Run *run, const Plot *plot, const char *name);

#endif
