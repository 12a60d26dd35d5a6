/* timeline: a picture of one step: what each device did, and when. There is a row for each device: its upper half shows
 * what the device computed, its lower half what it sent and received, and what about (comm_about) where there is room. The trace gets the same, with an arrow from the
 * sender of each message to its receiver; calls that a stream of a GPU carries have a row for each stream. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include "common/comm/mesh.h"
#include "common/run/profile.h"

typedef struct Timeline Timeline;

/* Every rank of the mesh calls it. Listens to the phases of the profile, and to the calls of the mesh's groups and of those
 * split from them; calls of the world itself, which hold a run together, are not shown. */
Timeline *timeline_new(const Mesh *mesh, Profile *profile, Trace *trace);
void timeline_delete(Timeline *timeline); /* NULL is fine */

/* A new step: forgets the one before. */
void timeline_clear(Timeline *timeline);
/* The step is over: what comes until the next one is not drawn. */
void timeline_hold(Timeline *timeline);
/* Every rank calls it; rank 0 draws what all ranks did between timeline_clear and timeline_hold, from the first event on. */
void timeline_draw(Timeline *timeline, const char *title, const char *path);

#endif
