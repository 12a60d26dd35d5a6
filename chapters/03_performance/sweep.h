/* sweep: the same training step with other batches and other numbers of threads. */
#ifndef SWEEP_H
#define SWEEP_H

#include "chapters/03_performance/timed.h"

/* 8 to 256 windows a step, in micro-batches of the size given and in a single one: throughput and time for
 * each window, in a table and in two pictures. A point takes about `seconds`; one whose step would take more
 * than twice that, or much of the machine's memory, is left out. peak: FLOP/s, for the utilisation. */
void sweep_batch(const Config *config, Dataset *data, double peak, double seconds);

/* 1, 2, 4 .. threads up to all that the machine has: a table and a picture. */
void sweep_threads(const Config *config, Dataset *data, double seconds);

#endif
