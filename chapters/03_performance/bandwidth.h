/* bandwidth: what this machine can do at best: FLOP/s, and bytes/s by how much data is worked on. */
#ifndef BANDWIDTH_H
#define BANDWIDTH_H

#include "common/tensor/meter.h"

enum { BANDWIDTH_SIZES = 7 };
typedef struct {
    const Device *device;
    double peak;                                          /* FLOP/s of a large matrix product */
    int sizes;                                            /* of those below; an emulated GPU has fewer */
    int64_t bytes[BANDWIDTH_SIZES];                       /* of all arrays together, ascending */
    double copy[BANDWIDTH_SIZES], triad[BANDWIDTH_SIZES]; /* bytes/s */
} Machine;

/* About three seconds. type: of the elements of products. */
Machine machine_measure(Device *device, ElementType type);
void machine_print(const Machine *machine);
void machine_draw(const Machine *machine, const char *path);

/* The better of the two, with so many bytes in use; of the largest, that is the memory's. */
double machine_bandwidth(const Machine *machine, int64_t bytes);
double machine_memory_bandwidth(const Machine *machine);

/* The roof: the seconds that this cost takes at best, computing and moving at the same time. */
double machine_roof(const void *machine, Cost cost);

#endif
