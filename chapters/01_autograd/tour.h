/* tour: a residual block small enough to follow with a pencil, its tape as a list, its backward step by step,
 * and what the device's memory holds meanwhile. */
#ifndef TOUR_H
#define TOUR_H

#include "common/config/config.h"
#include "common/tensor/device.h"

/* Prints it all. */
void tour(const Config *config);

/* A line for each class of memory: now, and the most it ever held. */
void print_memory(const MemoryUse *use);

#endif
