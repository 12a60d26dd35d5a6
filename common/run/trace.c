#define _POSIX_C_SOURCE 200809L
#include "common/run/trace.h"

#include "common/base/size_text.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 16 };

struct Trace {
    char *path;
    int file;
    int64_t written; /* bytes of the file in front of the closing brackets */
    int64_t limit;   /* ... at which it stops growing */
    double zero;
    int device;
    bool full;
    int64_t count; /* events */
    size_t used;
    char buffer[BUFFER_BYTES];
};

static const char CLOSING[] = "\n]}\n";

/* The buffer and the closing brackets, in one write. */
static void flush(Trace *t) {
    memcpy(t->buffer + t->used, CLOSING, strlen(CLOSING));
    size_t bytes = t->used + strlen(CLOSING), done = 0;
    while (done < bytes) {
        ssize_t n = pwrite(t->file, t->buffer + done, bytes - done, (off_t)(t->written + (int64_t)done));
        CHECK(n > 0 || errno == EINTR, "is the disk full?", "cannot write '%s': %s", t->path,
              strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    t->written += (int64_t)t->used;
    t->used = 0;
}

static void add(Trace *t, json_t *event) {
    ASSERT(event);
    if (t->full) {
        json_decref(event);
        return;
    }
    size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(15), bytes = json_dumpb(event, NULL, 0, flags);
    size_t room = BUFFER_BYTES - strlen(CLOSING) - strlen(",\n");
    ASSERT(bytes > 0 && bytes <= room);
    if (t->used + bytes > room) flush(t);
    if (t->count++ > 0) t->used += (size_t)sprintf(t->buffer + t->used, ",\n");
    json_dumpb(event, t->buffer + t->used, bytes, flags);
    t->used += bytes;
    json_decref(event);
}

static const char OPENING[] = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";

Trace *trace_open(const char *path, double zero, int64_t limit) {
    return trace_open_for(0, path, zero, limit);
}

Trace *trace_open_for(int device, const char *path, double zero, int64_t limit) {
    Trace *t = xcalloc(1, sizeof *t);
    t->device = device;
    t->path = xstrdup(path);
    t->zero = zero;
    t->limit = limit;
    t->file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK(t->file >= 0, "is the folder there, and may it be written?", "cannot write '%s': %s", path,
          strerror(errno));
    t->used = (size_t)sprintf(t->buffer, "%s", OPENING);
    flush(t);
    return t;
}

Trace *trace_new(const char *output_dir) {
    char *path = xprintf("%s/trace.json", output_dir);
    Trace *t = trace_open(path, now_seconds(), TRACE_LIMIT);
    free(path);
    return t;
}

void trace_close(Trace *t) {
    if (!t) return;
    flush(t);
    CHECK(close(t->file) == 0, "is the disk full?", "cannot write '%s': %s", t->path, strerror(errno));
    free(t->path);
    free(t);
}

int trace_device(const Trace *t) { return t->device; }

/* ---- the events of another trace ---- */

char *trace_take(Trace *t, size_t *count) {
    char *path = xstrdup(t->path);
    trace_close(t);
    size_t bytes;
    char *text = file_read(path, &bytes);
    *count = bytes - strlen(OPENING) - strlen(CLOSING);
    memmove(text, text + strlen(OPENING), *count);
    file_remove(path);
    free(path);
    return text;
}

bool trace_give(Trace *t, const char *events, size_t count) {
    flush(t);
    if (t->full || t->written + (int64_t)count > t->limit) return false;
    for (size_t done = 0; done < count;) {
        size_t room = BUFFER_BYTES - strlen(CLOSING) - strlen(",\n"),
               piece = count - done < room ? count - done : room;
        if (done == 0 && t->count++ > 0) t->used += (size_t)sprintf(t->buffer, ",\n");
        memcpy(t->buffer + t->used, events + done, piece);
        t->used += piece;
        done += piece;
        flush(t);
    }
    return true;
}

/* ---- events ---- */

/* Microseconds, in whole nanoseconds: the end of a span and the begin of the next come out the same. */
static double microseconds(const Trace *t, double time) { return nearbyint((time - t->zero) * 1e9) / 1e3; }

static void name(Trace *t, const char *what, TraceRow row, const char *text) {
    add(t, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", what, "ph", "M", "pid", row.device, "tid",
                     row.row, "args", "name", text));
}

void trace_name_device(Trace *t, int device, const char *text) {
    name(t, "process_name", (TraceRow){device, 0}, text);
}

void trace_name_row(Trace *t, TraceRow row, const char *text) {
    name(t, "thread_name", row, text);
    add(t, json_pack("{s:s, s:s, s:i, s:i, s:{s:i}}", "name", "thread_sort_index", "ph", "M", "pid",
                     row.device, "tid", row.row, "args", "sort_index", row.row));
}

void trace_span(Trace *t, TraceRow row, const char *text, double begin, double end, json_t *args) {
    if (!t->full && t->written + (int64_t)t->used > t->limit) {
        add(t,
            json_pack("{s:s, s:s, s:s, s:i, s:i, s:f}", "name", "the trace ends here: the file is full", "ph",
                      "i", "s", "g", "pid", row.device, "tid", row.row, "ts", microseconds(t, begin)));
        t->full = true;
        warn("'%s' has reached %s: what follows is left out", t->path, size_text((double)t->limit).text);
    }
    double from = microseconds(t, begin);
    add(t, json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:o*}", "name", text, "ph", "X", "pid", row.device,
                     "tid", row.row, "ts", from, "dur", microseconds(t, end) - from, "args", args));
}

static void arrow(Trace *t, const char *end, TraceRow row, const char *text, int64_t id, double time) {
    add(t,
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:f}", "name", text, "cat", "arrow", "ph", end, "bp",
                  "e", "id", (json_int_t)id, "pid", row.device, "tid", row.row, "ts", microseconds(t, time)));
}

void trace_arrow_from(Trace *t, TraceRow row, const char *text, int64_t id, double time) {
    arrow(t, "s", row, text, id, time);
}

void trace_arrow_to(Trace *t, TraceRow row, const char *text, int64_t id, double time) {
    arrow(t, "f", row, text, id, time);
}
