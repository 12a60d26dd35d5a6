/* trace_devices: one trace.json of several devices. While they run each writes a file of its own, trace.json and
 * trace.1.json, trace.2.json ..., whole at any time; at the end those of the others become part of the first. */
#ifndef TRACE_DEVICES_H
#define TRACE_DEVICES_H

#include "common/comm/comm.h"
#include "common/run/trace.h"

/* Every rank calls it. Times are the queue's: one zero for all. */
Trace *trace_new_among(Comm *comm, const Queue *q, const char *output_dir);
/* Every rank calls it: closes the traces. NULL is fine, when it is so everywhere. */
void trace_join(Trace *trace, Comm *comm);

#endif
