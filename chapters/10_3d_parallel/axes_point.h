/* axes_point: one step of training on one mesh, by the clock of a device model: what it takes, where it waits, what it sends, what
 * a device holds. The kernels and messages are those of training; only the clock is another's, so two runs give the same digits. */
#ifndef AXES_POINT_H
#define AXES_POINT_H

#include "common/comm/mesh.h"
#include "common/config/config.h"
#include "common/config/device_model.h"
#include "common/data/data.h"

typedef struct {
    int d, p, t;
    int64_t zero_stage;
    int64_t microbatches, windows; /* of a pipeline; in each of them */
    double step;                   /* seconds, from when all begin until the last is done */
    double apart;                  /* ... where there are two devices on each node */
    double bubble;                 /* idle over busy time of the stages */
    double waited[MESH_AXES];      /* seconds along each axis, the mean over the devices */
    double sent[MESH_AXES];        /* bytes, of all devices */
    double memory; /* bytes, of the device that holds most, without what calls need of this machine */
} AxesPoint;

/* A step of config's global batch on d x p x t devices, which are all of world. No micro-batch is larger than that of a device in
 * data parallel training, where it is all of its share; and a pipeline takes 4 p of them, if its share has so many windows. NULL,
 * or why that cannot be: the caller frees it. Every rank of world calls it. */
char *axes_point(AxesPoint *point, const Config *config, Comm *world, const Dataset *data, int d, int p,
                 int t, int64_t zero_stage);

#endif
