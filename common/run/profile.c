#include "common/run/profile.h"

#include "common/comm/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const phase_names[PHASES] = {
    [PHASE_NONE] = "other",
    [PHASE_DATA] = "data",
    [PHASE_FORWARD] = "forward",
    [PHASE_BACKWARD] = "backward",
    [PHASE_BACKWARD_INPUT] = "backward, inputs",
    [PHASE_BACKWARD_PARAM] = "backward, parameters",
    [PHASE_RECOMPUTE] = "recompute",
    [PHASE_REDUCE] = "reduce",
    [PHASE_CLIP] = "clip",
    [PHASE_OPTIMIZER] = "optimizer",
    [PHASE_EVALUATION] = "evaluation",
};

/* One run of an op, or of a kernel outside the tape: calls first .. end - 1. */
typedef struct {
    int row;
    const char *name; /* with its block: "blocks.0.ffn_up.weight" */
    double begin, end;
    int64_t first_call, end_call;
} OpRun;

struct Profile {
    Device *device;
    Tape *tape;
    Meter meter;
    RoofFn roof;
    const void *machine;
    Trace *trace;
    PhaseFn listener;
    void *listener_context;

    int64_t step, steps; /* the one that runs; how many are done */
    Phase phase;         /* named by the program */
    double step_begin, phase_begin;
    double charged; /* up to here, time has been charged to a phase */
    double seconds[PHASES], core_seconds[PHASES];
    double cores_charged;
    ProfileRow *rows;
    int row_count;

    KernelCall *calls; /* since the trace was last written */
    int64_t call_count, call_capacity;
    int64_t claimed; /* calls up to here belong to an op */
    OpRun *ops;
    int64_t op_count, op_capacity;
    bool row_named[PHASES];
};

static void *grown(void *items, int64_t count, int64_t *capacity, size_t size) {
    if (count < *capacity) return items;
    *capacity = 2 * *capacity + 64;
    return xrealloc(items, (size_t)*capacity * size);
}

/* ---- sums ---- */

static int find_row(Profile *p, const char *op, const char *layer, size_t length, Phase phase) {
    for (int i = 0; i < p->row_count; i++) {
        const ProfileRow *r = &p->rows[i];
        bool same_layer = strlen(r->layer) == length && !memcmp(r->layer, layer, length);
        if (r->phase == phase && same_layer && !strcmp(r->op, op)) return i;
    }
    p->rows = xrealloc(p->rows, (size_t)(p->row_count + 1) * sizeof *p->rows);
    ProfileRow *r = &p->rows[p->row_count];
    *r = (ProfileRow){.phase = phase};
    snprintf(r->op, sizeof r->op, "%s", op);
    snprintf(r->layer, sizeof r->layer, "%.*s", (int)length, layer);
    return p->row_count++;
}

/* An op with a weight names its output after it: "blocks.0.ffn_up.weight", of which "ffn_up" is the layer. */
static const char *layer_of(const char *output, size_t *length) {
    const char *block = strncmp(output, "blocks.", 7) ? NULL : strchr(output + 7, '.');
    const char *from = block ? block + 1 : output, *end = strrchr(from, '.');
    *length = end ? (size_t)(end - from) : 0;
    return from;
}

static void charge(Profile *p, Phase phase, double until) {
    p->seconds[phase] += until - p->charged;
    p->charged = until;
}

/* Calls claimed .. end - 1 belong to this row. */
static void claim(Profile *p, int row, const char *name, int64_t end, double op_end) {
    ProfileRow *r = &p->rows[row];
    if (end == p->claimed) return;
    p->ops = grown(p->ops, p->op_count, &p->op_capacity, sizeof *p->ops);
    p->ops[p->op_count++] = (OpRun){row, name, p->calls[p->claimed].begin, op_end, p->claimed, end};
    for (int64_t i = p->claimed; i < end; i++) {
        const KernelCall *call = &p->calls[i];
        r->calls++;
        r->seconds += call->end - call->begin;
        r->bound += p->roof ? p->roof(p->machine, call->cost) : 0;
        r->cost = cost_sum(r->cost, call->cost);
    }
    p->claimed = end;
}

/* Kernels that no op of the tape has called stand for themselves. */
static void claim_rest(Profile *p) {
    while (p->claimed < p->call_count) {
        const KernelCall *call = &p->calls[p->claimed];
        claim(p, find_row(p, call->kernel, "", 0, p->phase), call->kernel, p->claimed + 1, call->end);
    }
}

/* ---- the trace ---- */

enum { STEP_ROW, FIRST_PHASE_ROW, LONG_TRACE = 1 << 14 };

static TraceRow row_of_phase(Profile *p, Phase phase) {
    TraceRow row = {trace_device(p->trace), FIRST_PHASE_ROW + (int)phase};
    if (!p->row_named[phase]) trace_name_row(p->trace, row, phase_names[phase]);
    p->row_named[phase] = true;
    return row;
}

static json_t *cost_args(Cost cost, double seconds) {
    return json_pack("{s:I, s:I, s:f, s:f}", "FLOPs", (json_int_t)cost_flops(cost), "bytes",
                     (json_int_t)cost.bytes, "GFLOP/s",
                     seconds > 0 ? 1e-9 * (double)cost_flops(cost) / seconds : 0, "GB/s",
                     seconds > 0 ? 1e-9 * (double)cost.bytes / seconds : 0);
}

static void trace_call(Profile *p, TraceRow row, const KernelCall *call) {
    json_t *args = cost_args(call->cost, call->end - call->begin);
    Str shapes = {0};
    for (int i = 0; i < CALL_SHAPES && call->shapes[i].rank; i++)
        str_printf(&shapes, "%s%s", i ? " " : "", shape_text(call->shapes[i]).text);
    json_object_set_new(args, "shapes", json_string(shapes.data));
    str_free(&shapes);
    trace_span(p->trace, row, call->kernel, call->begin, call->end, args);
}

/* Each op with its kernels inside; then all of it is forgotten. */
static void write_trace(Profile *p) {
    for (int64_t i = 0; i < p->op_count && p->trace; i++) {
        const OpRun *op = &p->ops[i];
        const ProfileRow *r = &p->rows[op->row];
        TraceRow row = row_of_phase(p, r->phase);
        Cost cost = {0};
        for (int64_t c = op->first_call; c < op->end_call; c++) cost = cost_sum(cost, p->calls[c].cost);
        char *text = *r->layer ? xprintf("%s %s", r->op, op->name) : xstrdup(r->op);
        trace_span(p->trace, row, text, op->begin, op->end, cost_args(cost, op->end - op->begin));
        free(text);
        for (int64_t c = op->first_call; c < op->end_call; c++) trace_call(p, row, &p->calls[c]);
    }
    p->op_count = p->call_count = p->claimed = 0;
}

static void tell_phase(Profile *p, double end) {
    if (p->listener && p->phase != PHASE_NONE)
        p->listener(p->listener_context, p->phase, p->phase_begin, end);
    if (p->trace && p->phase != PHASE_NONE)
        trace_span(p->trace, (TraceRow){trace_device(p->trace), STEP_ROW}, phase_names[p->phase],
                   p->phase_begin, end, NULL);
}

/* ---- what is heard ---- */

static void kernel_done(void *context, const KernelCall *call) {
    Profile *p = context;
    p->calls = grown(p->calls, p->call_count, &p->call_capacity, sizeof *p->calls);
    p->calls[p->call_count++] = *call;
}

static void op_done(void *context, const Node *node, TapePhase tape_phase) {
    Profile *p = context;
    double now = queue_now(&p->device->queue);
    Phase phase = tape_phase == TAPE_BACKWARD_INPUT   ? PHASE_BACKWARD_INPUT
                  : tape_phase == TAPE_BACKWARD_PARAM ? PHASE_BACKWARD_PARAM
                  : p->phase == PHASE_BACKWARD        ? PHASE_RECOMPUTE
                                                      : PHASE_FORWARD;
    size_t length;
    const char *layer = layer_of(node->out->name, &length);
    claim(p, find_row(p, node->op->name, layer, length, phase), node->out->name, p->call_count, now);
    charge(p, phase, now);
    if (p->call_count > LONG_TRACE) write_trace(p);
}

/* What this process has had of the cores. */
static double core_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* ---- for programs ---- */

Profile *profile_new(Device *device, Tape *tape, RoofFn roof, const void *machine, Trace *trace) {
    Profile *p = xcalloc(1, sizeof *p);
    *p = (Profile){.device = device, .tape = tape, .roof = roof, .machine = machine, .trace = trace};
    p->meter = (Meter){.done = kernel_done, .context = p};
    if (tape) {
        meter_attach(device, &p->meter);
        tape->observer = (TapeObserver){op_done, p};
    }
    if (!trace) return p;
    char *device_name = xprintf("%s, device %d", base_program(), trace_device(trace));
    trace_name_device(trace, trace_device(trace), device_name);
    trace_name_row(trace, (TraceRow){trace_device(trace), STEP_ROW}, "step");
    free(device_name);
    return p;
}

void profile_delete(Profile *p) {
    if (!p) return;
    if (p->tape) {
        meter_detach(p->device, &p->meter);
        p->tape->observer = (TapeObserver){0};
    }
    free(p->rows);
    free(p->calls);
    free(p->ops);
    free(p);
}

void profile_listen(Profile *p, PhaseFn listener, void *context) {
    p->listener = listener;
    p->listener_context = context;
}

void profile_step_begin(Profile *p, int64_t step) {
    if (!p) return;
    p->op_count = p->call_count = p->claimed = 0; /* of what ran between two steps */
    p->step = step;
    p->phase = PHASE_NONE;
    p->step_begin = p->phase_begin = p->charged = queue_now(&p->device->queue);
    p->cores_charged = core_seconds();
}

void profile_phase(Profile *p, Phase phase) {
    if (!p) return;
    double now = queue_now(&p->device->queue), cores = core_seconds();
    claim_rest(p);
    charge(p, p->phase, now);
    p->core_seconds[p->phase] += cores - p->cores_charged;
    p->cores_charged = cores;
    tell_phase(p, now);
    p->phase = phase;
    p->phase_begin = now;
}

void profile_step_end(Profile *p) {
    if (!p) return;
    profile_phase(p, PHASE_NONE);
    char *text = xprintf("step %lld", (long long)p->step);
    if (p->trace)
        trace_span(p->trace, (TraceRow){trace_device(p->trace), STEP_ROW}, text, p->step_begin, p->charged,
                   NULL);
    free(text);
    write_trace(p);
    p->steps++;
}

void profile_clear(Profile *p) {
    p->row_count = 0;
    p->steps = 0;
    memset(p->seconds, 0, sizeof p->seconds);
    memset(p->core_seconds, 0, sizeof p->core_seconds);
}

int64_t profile_steps(const Profile *p) { return p->steps; }

double profile_seconds(const Profile *p, Phase phase) { return p->seconds[phase]; }

double profile_core_seconds(const Profile *p, Phase phase) { return p->core_seconds[phase]; }

const ProfileRow *profile_rows(const Profile *p, int *count) {
    *count = p->row_count;
    return p->rows;
}
