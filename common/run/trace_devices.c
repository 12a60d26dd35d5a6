#include "common/run/trace_devices.h"

#include "common/comm/clock.h"

#include <stdlib.h>
#include <string.h>

/* Ranks of one machine read one clock; between machines the end of a barrier is as near as it gets. */
static double common_zero(Comm *comm, const Queue *q) {
    if (q->clock) return 0;
    comm_barrier(comm, NULL);
    double now = now_seconds();
    if (comm->local_size == comm->size) comm_broadcast(comm, NULL, &now, 1, TYPE_F64, 0);
    return now;
}

Trace *trace_new_among(Comm *comm, const Queue *q, const char *output_dir) {
    char *path = comm->rank ? xprintf("%s/trace.%d.json", output_dir, comm->rank)
                            : xprintf("%s/trace.json", output_dir);
    if (comm->rank) file_make_folder(output_dir); /* on another machine it may not be there */
    Trace *trace = trace_open_for(comm->rank, path, common_zero(comm, q),
                                  comm->rank ? TRACE_LIMIT / comm->size : TRACE_LIMIT);
    free(path);
    return trace;
}

/* Bytes travel as whole 32-bit numbers: JSON allows blanks at the end. */
static int64_t round_up(int64_t bytes) {
    return ceil_div(bytes, (int64_t)sizeof(int32_t)) * (int64_t)sizeof(int32_t);
}

static void send_events(Trace *trace, Comm *comm) {
    size_t count;
    char *events = trace_take(trace, &count);
    int64_t bytes = round_up((int64_t)count);
    events = xrealloc(events, (size_t)bytes);
    memset(events + count, ' ', (size_t)bytes - count);
    comm_send(comm, NULL, &bytes, sizeof bytes / sizeof(int32_t), TYPE_I32, 0);
    comm_send(comm, NULL, events, bytes / (int64_t)sizeof(int32_t), TYPE_I32, 0);
    free(events);
}

static void receive_events(Trace *trace, Comm *comm, int from) {
    int64_t bytes;
    comm_recv(comm, NULL, &bytes, sizeof bytes / sizeof(int32_t), TYPE_I32, from);
    char *events = xmalloc((size_t)max64(bytes, 1));
    comm_recv(comm, NULL, events, bytes / (int64_t)sizeof(int32_t), TYPE_I32, from);
    if (!trace_give(trace, events, (size_t)bytes)) warn("the trace has no room for device %d", from);
    free(events);
}

void trace_join(Trace *trace, Comm *comm) {
    if (!trace) return;
    if (comm->rank) {
        send_events(trace, comm);
        return;
    }
    for (int r = 1; r < comm->size; r++) receive_events(trace, comm, r);
    trace_close(trace);
}
