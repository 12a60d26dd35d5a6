/* forecast: what a step keeps on a device and moves between devices, by formula, to be held against what is measured. */
#ifndef FORECAST_H
#define FORECAST_H

#include "chapters/07_fsdp/sharded.h"

/* W: the bytes of all weights, padding included; G: those of their gradients, in which a weight with two uses counts
 * twice; n devices in a group of shards, c groups, m micro-batches a step.
 *
 *   kept          stage 0, 1: W and G; 2: W and G/n; 3: W/n and G/n; two moments of every element that is updated here;
 *                 activations: what the ops of a micro-batch keep (common/model/activation_bytes.h), in every stage
 *   moved         all-gather       stages 1, 2: c (n-1) W; 3: c (n-1) times what is gathered, each unit as often as
 *                                  a pass comes to it and it is not there
 *                 reduce-scatter   stage 1: c (n-1) G; 2 and 3: m times that
 *                 all-reduce       stage 0: 2 c (n-1) G; between groups: 2 (c-1) G; and the numbers of the step: tokens and
 *                                  loss, the norm's sums
 *
 * In bf16: stages 0 to 2 keep a copy of the matrices, of 2 bytes an element; stage 3 keeps all vectors on each device, of
 * V bytes, gathers 2 bytes an element, and all-reduces 2 c (n-1) V.
 */
typedef struct {
    int64_t parameters, gradients, optimizer, activations; /* bytes on this device, at their peak */
    double all_reduce, all_gather, reduce_scatter;         /* bytes that all devices send in a step */
} Forecast;

/* After a step: in stage 3 the order of units is known by then. */
Forecast forecast_of(const Sharded *s);

/* A line of a table: predicted, measured, their ratio. */
void forecast_print_row(const char *what, double predicted, double measured);
/* The table's head, and a line for each class of memory that a formula tells, beside what the device has held. */
void forecast_print_kept(const Forecast *forecast, const MemoryUse *memory);

#endif
