/* trace: trace.json, what happened when, in Chrome's trace format: open it at https://ui.perfetto.dev (the file
 * stays on your computer) or in chrome://tracing.
 *
 * In the picture each device is a process, with numbered rows; a span of a row lies inside another one, or
 * beside it. Times are seconds of any clock, counted from that of trace_open.
 * The file is complete after every write: each write ends with the brackets that close the file, and the next one
 * overwrites them. When a run is killed, only the last spans are missing. Memory is one buffer, and the file
 * stops growing at a limit that is then noted in it.
 * Format: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU */
#ifndef TRACE_H
#define TRACE_H

#include "common/base/base.h"

#include <jansson.h>

typedef struct Trace Trace;
typedef struct {
    int device, row;
} TraceRow;

enum { TRACE_LIMIT = 256 << 20 }; /* bytes; Perfetto opens that in a browser */
/* zero: the time that the picture shows as 0. */
Trace *trace_open(const char *path, double zero, int64_t limit);
/* <output-dir>/trace.json, whose zero is now. */
Trace *trace_new(const char *output_dir);
void trace_close(Trace *trace); /* NULL is fine */
/* The device whose process rows are this trace's own: 0, unless it was made for another one (trace_devices.h). */
int trace_device(const Trace *trace);
Trace *trace_open_for(int device, const char *path, double zero, int64_t limit);

/* Closes the trace and removes its file; what comes back are its events as text, `count` bytes, which the caller frees. */
char *trace_take(Trace *trace, size_t *count);
/* Adds such events. False when the file has no room for them: then it stays as it was. */
bool trace_give(Trace *trace, const char *events, size_t count);

/* The names that the picture shows; rows stand in the order of their numbers. */
void trace_name_device(Trace *trace, int device, const char *name);
void trace_name_row(Trace *trace, TraceRow row, const char *name);

/* args: an object with what a click shows, taken over; NULL: nothing. */
void trace_span(Trace *trace, TraceRow row, const char *name, double begin, double end, json_t *args);

/* An arrow from a span of one row to a span of another: both ends carry the same name and id, and each lies
 * inside its span. */
void trace_arrow_from(Trace *trace, TraceRow row, const char *name, int64_t id, double time);
void trace_arrow_to(Trace *trace, TraceRow row, const char *name, int64_t id, double time);

#endif
