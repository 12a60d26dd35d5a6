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

/* What was heard while times are not known yet. */
typedef struct {
    enum { HEARD_WORK, HEARD_KERNEL, HEARD_OP, HEARD_PHASE } what;
    const char *name; /* of the launch or copy; of the op's output */
    int64_t bytes;
    void *began, *ended; /* stamps; of a phase, the second */
    double issued;       /* when the host had issued it */
    double begin, end;   /* of these stamps, once they are known */
    KernelCall call;
    const char *op;
    TapePhase tape_phase;
    Phase phase;
    double cores;
} Heard;

struct Profile {
    Device *device;
    bool stamps; /* times are the device's: */
    Heard *heard;
    int64_t heard_count, heard_capacity;
    void *step_began;
    Tape **tapes; /* that are watched */
    int tape_count;
    bool metered; /* once there was one */
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

enum { STEP_ROW, FIRST_PHASE_ROW, QUEUE_ROW = 50, LONG_TRACE = 1 << 14 };

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

/* ---- what has happened, and when ---- */

static void kernel_at(Profile *p, const KernelCall *call) {
    p->calls = grown(p->calls, p->call_count, &p->call_capacity, sizeof *p->calls);
    p->calls[p->call_count++] = *call;
}

static void op_at(Profile *p, const char *op, const char *output, TapePhase tape_phase, double now) {
    Phase phase = tape_phase == TAPE_BACKWARD_INPUT   ? PHASE_BACKWARD_INPUT
                  : tape_phase == TAPE_BACKWARD_PARAM ? PHASE_BACKWARD_PARAM
                  : p->phase == PHASE_BACKWARD        ? PHASE_RECOMPUTE
                                                      : PHASE_FORWARD;
    size_t length;
    const char *layer = layer_of(output, &length);
    claim(p, find_row(p, op, layer, length, phase), output, p->call_count, now);
    charge(p, phase, now);
    if (p->call_count > LONG_TRACE) write_trace(p);
}

static void step_begins_at(Profile *p, double now) {
    p->op_count = p->call_count = p->claimed = 0; /* of what ran between two steps */
    p->phase = PHASE_NONE;
    p->step_begin = p->phase_begin = p->charged = now;
}

/* cores: core_seconds() then. */
static void phase_at(Profile *p, Phase phase, double now, double cores) {
    claim_rest(p);
    charge(p, p->phase, now);
    p->core_seconds[p->phase] += cores - p->cores_charged;
    p->cores_charged = cores;
    tell_phase(p, now);
    p->phase = phase;
    p->phase_begin = now;
}

/* ---- a device that does its work later ---- */

static void hear(Profile *p, Heard heard) {
    p->heard = grown(p->heard, p->heard_count, &p->heard_capacity, sizeof *p->heard);
    p->heard[p->heard_count++] = heard;
}

static void work_issued(void *context, const char *what, int64_t bytes, void *began, void *ended) {
    hear(context, (Heard){.what = HEARD_WORK,
                          .name = what,
                          .bytes = bytes,
                          .began = began,
                          .ended = ended,
                          .issued = now_seconds()});
}

static bool in_step(const Profile *p) { return p->device->work.issued; }

/* A launch is named as the source has it: "(attention_kernel<T, 64, 32>)". */
static void trace_work(Profile *p, const Heard *h) {
    const char *from = h->name + (*h->name == '(');
    char *text = xprintf("%.*s", (int)strcspn(from, "<"), from);
    trace_span(p->trace, (TraceRow){trace_device(p->trace), QUEUE_ROW}, text, h->begin, h->end,
               h->bytes ? json_pack("{s:I}", "bytes", (json_int_t)h->bytes) : NULL);
    free(text);
}

/* A kernel of the table begins with the first launch that came of it, and ends with the last. begin: where there was none. */
static void set_times(KernelCall *call, const Heard *first, const Heard *end, double begin) {
    const Heard *h = end;
    while (h > first && h[-1].what == HEARD_WORK && h[-1].issued >= call->begin) h--;
    call->begin = h < end ? h->begin : begin;
    call->end = h < end ? end[-1].end : begin;
}

/* The step is over, and its times are known. */
static void tell_heard(Profile *p) {
    double now = device_stamped(p->device, p->step_began);
    step_begins_at(p, now);
    for (Heard *h = p->heard; h < p->heard + p->heard_count; h++) switch (h->what) {
        case HEARD_WORK:
            h->begin = device_stamped(p->device, h->began);
            h->end = now = device_stamped(p->device, h->ended);
            trace_work(p, h);
            break;
        case HEARD_KERNEL:
            set_times(&h->call, p->heard, h, now);
            kernel_at(p, &h->call);
            break;
        case HEARD_OP: op_at(p, h->op, h->name, h->tape_phase, now); break;
        case HEARD_PHASE:
            now = device_stamped(p->device, h->ended);
            phase_at(p, h->phase, now, h->cores);
            break;
        }
    p->heard_count = 0;
}

/* ---- what is heard ---- */

static void kernel_done(void *context, const KernelCall *call) {
    Profile *p = context;
    if (!p->stamps)
        kernel_at(p, call);
    else if (in_step(p))
        hear(p, (Heard){.what = HEARD_KERNEL, .call = *call});
}

static void op_done(void *context, const Node *node, TapePhase tape_phase) {
    Profile *p = context;
    const char *op = node->op->name, *output = node->out->name;
    if (!p->stamps)
        op_at(p, op, output, tape_phase, queue_now(&p->device->queue));
    else if (in_step(p))
        hear(p, (Heard){.what = HEARD_OP, .op = op, .name = output, .tape_phase = tape_phase});
}

/* What this process has had of the cores. */
static double core_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* ---- for programs ---- */

Profile *profile_new(Device *device, Tape *tape, RoofFn roof, const void *machine, Trace *trace) {
    Profile *p = xcalloc(1, sizeof *p);
    *p = (Profile){.device = device, .roof = roof, .machine = machine, .trace = trace};
    p->stamps = trace && device->backend->stamp && !device->queue.clock;
    device->stamps |= p->stamps;
    p->meter = (Meter){.done = kernel_done, .context = p};
    if (tape) profile_watch(p, tape);
    if (!trace) return p;
    char *device_name = xprintf("%s, device %d", base_program(), trace_device(trace));
    trace_name_device(trace, trace_device(trace), device_name);
    trace_name_row(trace, (TraceRow){trace_device(trace), STEP_ROW}, "step");
    free(device_name);
    if (p->stamps)
        trace_name_row(trace, (TraceRow){trace_device(trace), QUEUE_ROW}, "queue: kernels and copies");
    return p;
}

void profile_delete(Profile *p) {
    if (!p) return;
    if (p->stamps) p->device->stamps = false;
    if (p->metered) meter_detach(p->device, &p->meter);
    for (int i = 0; i < p->tape_count; i++) p->tapes[i]->observer = (TapeObserver){0};
    free(p->tapes);
    free(p->rows);
    free(p->calls);
    free(p->heard);
    free(p->ops);
    free(p);
}

static void tape_gone(void *context, Tape *tape) {
    Profile *p = context;
    int i = 0;
    while (p->tapes[i] != tape) i++;
    p->tapes[i] = p->tapes[--p->tape_count];
}

void profile_watch(Profile *p, Tape *tape) {
    if (!p) return;
    if (!p->metered) meter_attach(p->device, &p->meter);
    p->metered = true;
    p->tapes = xrealloc(p->tapes, (size_t)(p->tape_count + 1) * sizeof(Tape *));
    p->tapes[p->tape_count++] = tape;
    tape->observer = (TapeObserver){.done = op_done, .context = p, .gone = tape_gone};
}

void profile_listen(Profile *p, PhaseFn listener, void *context) {
    p->listener = listener;
    p->listener_context = context;
}

void profile_step_begin(Profile *p, int64_t step) {
    if (!p) return;
    p->step = step;
    p->cores_charged = core_seconds();
    if (!p->stamps) {
        step_begins_at(p, queue_now(&p->device->queue));
        return;
    }
    p->step_began = device_stamp(p->device, &p->device->queue);
    p->device->work = (WorkObserver){work_issued, p};
}

void profile_phase(Profile *p, Phase phase) {
    if (!p) return;
    if (!p->stamps)
        phase_at(p, phase, queue_now(&p->device->queue), core_seconds());
    else if (in_step(p))
        hear(p, (Heard){.what = HEARD_PHASE,
                        .phase = phase,
                        .ended = device_stamp(p->device, &p->device->queue),
                        .cores = core_seconds()});
}

void profile_step_end(Profile *p) {
    if (!p) return;
    profile_phase(p, PHASE_NONE);
    if (p->stamps) {
        p->device->work = (WorkObserver){0};
        tell_heard(p);
    }
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
