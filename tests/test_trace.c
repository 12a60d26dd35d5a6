/* TEST variants: float asan
 * trace.json is JSON after every write, spans nest, arrows join, the file stays below its limit; and what a profile
 * writes there is what it counted. */
#define _GNU_SOURCE
#include "common/run/profile.h"
#include "tests/tap.h"
#include "tests/training.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The events of a file; NULL when it is not JSON. The caller drops *root. */
static json_t *events_of(const char *path, json_t **root) {
    json_error_t error;
    *root = json_load_file(path, 0, &error);
    return *root ? json_object_get(*root, "traceEvents") : NULL;
}

static const char *text(const json_t *event, const char *key) {
    const char *s = json_string_value(json_object_get(event, key));
    return s ? s : "";
}
static double number(const json_t *event, const char *key) {
    return json_number_value(json_object_get(event, key));
}

/* ---- the file ---- */

static void test_file(const char *path) {
    Trace *t = trace_open(path, 100, TRACE_LIMIT);
    trace_name_device(t, 0, "device 0");
    trace_name_device(t, 1, "a \"name\"\n\x01");
    trace_name_row(t, (TraceRow){1, 3}, "sends");
    trace_span(t, (TraceRow){0, 2}, "outer", 100.5, 101.5, json_pack("{s:i}", "FLOPs", 7));
    trace_span(t, (TraceRow){0, 2}, "inner", 100.5, 101.0000000004, NULL);
    trace_arrow_from(t, (TraceRow){0, 2}, "message", 12, 100.75);
    trace_arrow_to(t, (TraceRow){1, 3}, "message", 12, 101.25);
    trace_close(t);
    json_t *root, *events = events_of(path, &root);
    ok(json_array_size(events) == 8, "all events are there: %zu", json_array_size(events));
    const json_t *device = json_array_get(events, 1), *outer = json_array_get(events, 4),
                 *inner = json_array_get(events, 5), *from = json_array_get(events, 6),
                 *to = json_array_get(events, 7);
    ok(!strcmp(text(json_object_get(device, "args"), "name"), "a \"name\"\n\x01"), "any name");
    ok(!strcmp(text(outer, "ph"), "X") && number(outer, "pid") == 0 && number(outer, "tid") == 2,
       "device and row");
    ok(number(outer, "ts") == 5e5 && number(outer, "dur") == 1e6, "microseconds since the zero");
    ok(number(inner, "ts") + number(inner, "dur") == 1e6, "in whole nanoseconds");
    ok(number(json_object_get(outer, "args"), "FLOPs") == 7 && !json_object_get(inner, "args"), "arguments");
    ok(!strcmp(text(from, "ph"), "s") && !strcmp(text(to, "ph"), "f") &&
           number(from, "id") == number(to, "id") && !strcmp(text(to, "bp"), "e") &&
           !strcmp(text(from, "cat"), text(to, "cat")),
       "two ends of an arrow");
    json_decref(root);
}

static void test_limit(const char *path) {
    enum { LIMIT = 200000 };
    Trace *t = trace_open(path, 0, LIMIT);
    for (int i = 0; i < 5000; i++) trace_span(t, (TraceRow){0, 0}, "a span", i, i + 1, NULL);
    trace_close(t);
    json_t *root, *events = events_of(path, &root);
    size_t count = json_array_size(events), bytes;
    free(file_read(path, &bytes));
    ok(count > 1000 && count < 5000 && bytes < LIMIT + 1000, "the file stops growing: %zu events, %zu bytes",
       count, bytes);
    ok(strstr(text(json_array_get(events, count - 1), "name"), "ends here"), "and its last event says so");
    json_decref(root);
}

/* A program that is killed between two writes, wherever it stands, leaves a file that is whole. */
static void test_kill(const char *path) {
    int whole = 0, spans = 0;
    enum { KILLS = 5 };
    for (int i = 0; i < KILLS; i++) {
        int ready[2];
        char byte;
        CHECK(pipe(ready) == 0, NULL, "no pipe");
        pid_t child = fork();
        if (child == 0) {
            Trace *t = trace_open(path, 0, INT64_MAX);
            for (int j = 0; j < 2000 + 77 * i; j++) trace_span(t, (TraceRow){0, 0}, "a span", j, j + 1, NULL);
            CHECK(write(ready[1], "", 1) == 1, NULL, "no pipe");
            pause();
        }
        CHECK(read(ready[0], &byte, 1) == 1, NULL, "the child has ended");
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ready[0]);
        close(ready[1]);
        json_t *root, *events = events_of(path, &root);
        whole += events != NULL;
        spans += json_array_size(events) > 1000;
        json_decref(root);
    }
    ok(whole == KILLS && spans == KILLS, "killed %d times: %d files are whole, %d hold spans", KILLS, whole,
       spans);
}

/* ---- a profile's trace ---- */

typedef struct {
    double begin, end;
    int row;
} Span;

static int by_begin(const void *a, const void *b) {
    const Span *x = a, *y = b;
    if (x->row != y->row) return x->row - y->row;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end < y->end) - (x->end > y->end); /* the outer one first */
}

/* In each row a span lies in the one before it, or behind it. */
static bool nested(Span *spans, size_t count) {
    qsort(spans, count, sizeof *spans, by_begin);
    const double rounding = 1e-6;
    double open[16];
    int depth = 0;
    for (size_t i = 0; i < count; i++) {
        if (i && spans[i].row != spans[i - 1].row) depth = 0;
        while (depth > 0 && open[depth - 1] <= spans[i].begin + rounding) depth--;
        if (depth > 0 && spans[i].end > open[depth - 1] + rounding) return false;
        if (depth == 16 || spans[i].end < spans[i].begin) return false;
        open[depth++] = spans[i].end;
    }
    return true;
}

static void count_calls(const Profile *p, int64_t *calls, Cost *cost) {
    int count;
    const ProfileRow *rows = profile_rows(p, &count);
    *calls = 0;
    *cost = (Cost){0};
    for (int i = 0; i < count; i++) {
        *calls += rows[i].calls;
        *cost = cost_sum(*cost, rows[i].cost);
    }
}

static void test_profile(const char *path) {
    Config config = *config_preset("tiny");
    config.micro_batch = 1, config.num_microbatches = config.global_batch = 2;
    config.model.K = config.model.H, config.model.V = 300, config.model.L = 2, config.model.T = 32;
    Training t = training_new(&config, 32, 1, 0.2);
    Trace *trace = trace_open(path, now_seconds(), TRACE_LIMIT);
    Profile *p = profile_new(t.device, t.tape, NULL, NULL, trace);
    for (int step = 1; step <= 2; step++) {
        profile_step_begin(p, step);
        profile_phase(p, PHASE_FORWARD);
        training_gradient(&t, step);
        profile_phase(p, PHASE_OPTIMIZER);
        training_update(&t, step);
        profile_step_end(p);
    }
    int64_t calls;
    Cost cost;
    count_calls(p, &calls, &cost);
    trace_close(trace);

    json_t *root, *events = events_of(path, &root), *event;
    size_t i, count = 0;
    Span *spans = xmalloc(json_array_size(events) * sizeof *spans);
    int64_t kernels = 0, steps = 0, forwards = 0, embeddings = 0;
    double flops = 0, bytes = 0, inside_kernels = 0, inside_ops = 0;
    json_array_foreach(events, i, event) {
        if (strcmp(text(event, "ph"), "X")) continue;
        const json_t *args = json_object_get(event, "args");
        double begin = number(event, "ts");
        spans[count++] = (Span){begin, begin + number(event, "dur"), (int)number(event, "tid")};
        steps += !strncmp(text(event, "name"), "step ", 5);
        forwards += !strcmp(text(event, "name"), "linear blocks.1.ffn_up.weight");
        bool kernel = json_object_get(args, "shapes"), op = !kernel && json_object_get(args, "FLOPs");
        inside_kernels += kernel ? number(event, "dur") : 0;
        inside_ops += op ? number(event, "dur") : 0;
        if (!kernel) continue;
        kernels++;
        flops += number(args, "FLOPs");
        bytes += number(args, "bytes");
        if (!strcmp(text(event, "name"), "embedding") && embeddings++ == 0)
            ok(!strcmp(text(args, "shapes"), "(1, 32) (300, 128)"), "shapes: %s", text(args, "shapes"));
    }
    ok(steps == 2 && kernels == calls, "2 steps and %" PRId64 " kernels in the trace, %" PRId64 " counted",
       kernels, calls);
    ok(flops == (double)cost_flops(cost) && bytes == (double)cost.bytes, "their FLOPs and bytes");
    ok(inside_kernels > 0 && inside_ops >= inside_kernels, "ops take at least the time of their kernels");
    ok(forwards == 3 * 2 * 2,
       "a layer's op has its forward and two backwards in each of 2 x 2 micro-batches");
    ok(nested(spans, count), "%zu spans lie in each other or side by side", count);
    free(spans);
    json_decref(root);
    profile_delete(p);
    training_delete(&t);
}

int main(void) {
    char *folder = file_temp_folder("shard-test"), *path = xprintf("%s/trace.json", folder);
    test_file(path);
    test_limit(path);
    test_kill(path);
    test_profile(path);
    file_remove(folder);
    free(folder);
    free(path);
    return tap_done();
}
