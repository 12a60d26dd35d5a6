/* staging: calls on the memory of a device that this group's backend cannot reach, such as a GPU's. They are made on copies
 * in pinned memory of the host's: what the call reads is brought there before it begins, and its result goes back behind it.
 * It always works: several ranks may share a GPU so. */
#ifndef STAGING_H
#define STAGING_H

#include "common/comm/comm.h"

typedef struct {
    struct Pinned *in, *out; /* NULL: the call has none there */
    void *result;            /* the device's: where `out` goes */
} Staging;

/* The call of a group of so many ranks, issued to q, is turned to copies. The host waits for q until they are made. */
void staging_begin(Staging *staging, Queue *q, int ranks, CommCall *call);
/* The call is done: q takes its result to the device. The host does not wait. Nothing happens where nothing was begun. */
void staging_end(Staging *staging, Queue *q);

#endif
