/* whole: a parameter of which several devices hold parts (param.h: slices and their shards), put together on the host, to be
 * looked at.
 *
 * All ranks of `comm` call it, with the same name: together they hold the whole. Nothing on a device grows: what is
 * gathered lies in the host's memory, one parameter at a time. */
#ifndef WHOLE_H
#define WHOLE_H

#include "common/comm/comm.h"
#include "common/tensor/param.h"

/* What one rank holds: of held->items[i] the elements in tensors[i] (its data, its gradient or a moment). Several items
 * may be parts of one parameter, and a rank may hold none. */
typedef struct {
    Comm *comm;
    const Params *held;
    Tensor *const *tensors;
    bool copy; /* another rank has the same elements, and gives them */
} Holding;

/* to (whole): the elements of parameter `name`, bit by bit as the devices hold them, on every rank. */
void whole_gather(const Holding *holding, const char *name, Shape whole, real *to);

#endif
