/* timeline: what each device did when, in one step, as a picture: a row for each device, in its upper half what it
 * computed, in its lower half what it had under way with the others. The same goes to the trace, with arrows from each
 * message's sender to its receiver. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include "common/comm/comm.h"
#include "common/run/profile.h"

typedef struct Timeline Timeline;

/* Every rank calls it. Listens to the phases of the profile and to the calls of comm and of the groups split from it. */
Timeline *timeline_new(Comm *comm, Profile *profile, Trace *trace);
void timeline_delete(Timeline *timeline); /* NULL is fine */

/* A new step: forgets the one before. */
void timeline_clear(Timeline *timeline);
/* The step is over: what comes until the next one is not drawn. */
void timeline_hold(Timeline *timeline);
/* Every rank calls it; rank 0 draws what all have seen between timeline_clear and timeline_hold, times counted from the first of it. */
void timeline_draw(Timeline *timeline, const char *title, const char *path);

#endif
