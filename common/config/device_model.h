/* device_model: a table of devices that a laptop can pretend to be. Each figure has its source in device_model.c. */
#ifndef DEVICE_MODEL_H
#define DEVICE_MODEL_H

#include "common/base/base.h"

typedef struct {
    double latency;   /* seconds, of the shortest message */
    double bandwidth; /* bytes/s one way, of each device */
} LinkModel;

typedef struct {
    const char *name, *about;
    double flops;            /* FLOP/s of matrix products at best */
    double memory_bandwidth; /* bytes/s */
    double memory;           /* bytes */
    int per_node; /* devices that the links inside join: ranks 0 .. per_node - 1 are one node, and so on */
    LinkModel inside, across;
} DeviceModel;

/* By name; NULL: no such device. */
const DeviceModel *device_model(const char *name);
/* All their names in one string; the caller frees it. */
char *device_model_names(const char *separator);
/* The table, for people. */
void device_model_print(FILE *out);

#endif
