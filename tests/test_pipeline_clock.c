/* What a pipeline's stages do when, by the model clock. With actions that all take one time and messages that take none, the
 * bubble of every schedule is its formula's, and micro-batches in flight are as many as it says. With messages that take
 * time the step takes what the plan says, which knows that they move while work goes on. What a stage keeps does not grow with
 * the micro-batches where the schedule promises that.
 *
 * TEST np: 1 2 4, all: 3 5 8
 * TEST variants: float */
#include "chapters/09_pipeline_parallel/measured.h"
#include "common/comm/clock.h"
#include "tests/staged.h"

#include <inttypes.h>
#include <math.h>

enum { VIRTUAL = 2, STEPS = 2 };
static Comm *world;

static bool near(double a, double b) { return fabs(a - b) <= 1e-6 * fmax(1, fabs(b)); }

/* A stage with a clock of its own. */
typedef struct {
    Mesh mesh;
    Device *device;
    Clock clock;
    RandomTokens data;
    Plan *plan;
    Staged *staged;
} Stage;

static Config config_of(int64_t m, const char *name) {
    ModelConfig model = awkward_model();
    model.T = 16;
    model.dropout = 0;
    Config c = record_config(world, &model, 1, m);
    c.data_parallel = 1;
    c.pipeline_parallel = world->size;
    c.global_batch = m;
    c.clock = CLOCK_MODEL;
    c.device_model = name;
    return c;
}

static void stage_open(Stage *s, ScheduleKind kind, int64_t m, const char *name) {
    Config c = config_of(m, name);
    s->mesh = mesh_new(world, (int[MESH_AXES]){1, world->size, 1});
    s->device = device_new_cpu(0);
    clock_attach(s->device, &s->clock, device_model(name));
    s->data = random_tokens(&c, 1, 0.2);
    s->plan = plan_of_kind(kind, world->size, VIRTUAL, m);
    s->staged = staged_new(&c, &s->mesh, s->plan, s->device, &s->data.dataset);
}

static void stage_close(Stage *s) {
    staged_delete(s->staged);
    plan_and_schedule_delete(s->plan);
    clock_detach(&s->clock);
    device_delete(s->device);
    mesh_close(&s->mesh);
}

static void run_steps(Stage *s) {
    for (int step = 0; step < STEPS; step++) {
        MetricsRow row;
        staged_step(s->staged, step, &row);
    }
}

static void formulas(ScheduleKind kind, int64_t m) {
    int p = world->size;
    Stage s;
    stage_open(&s, kind, m, "ideal");
    run_steps(&s);
    Measured measured = measured_of(s.staged);
    double longest = schedule_bubble_formula(kind, p, VIRTUAL, m),
           step = schedule_bubble_step_formula(kind, p, VIRTUAL, m);
    ok_on_all(world, near(measured.times.bubble, longest) && near(measured.times.bubble_step, step),
              "%s, %" PRId64 " micro-batches: bubble %.9g of %.9g, of the step %.9g of %.9g",
              schedule_names[kind], m, measured.times.bubble, longest, measured.times.bubble_step, step);
    ok_on_all(world, near(measured.by_costs.seconds, measured.times.seconds), "... as long as the plan says");
    bool same = true, busy = true;
    for (int stage = 0; stage < p; stage++) /* F, B and W of all its chunks take a millisecond each */
        busy &= near(1e3 * measured.times.busy[stage], 3 * (double)m);
    ok_on_all(world, busy, "... each stage at work for %" PRId64 " units", 3 * m);
    for (int stage = 0; stage < p; stage++)
        same &= measured.in_flight[stage] == schedule_in_flight_formula(kind, p, VIRTUAL, m, stage);
    ok_on_all(world, same, "... and as many in flight");
    measured_free(&measured, s.staged->plan);
    stage_close(&s);
}

/* Messages take time, and kernels none: an action takes `work` times as long as one message. */
static void messages(ScheduleKind kind, int64_t m, double work) {
    Stage s;
    stage_open(&s, kind, m, "h100");
    double bytes = (double)(shape_count(s.staged->layers.stream.shape) * element_bytes(TYPE_REAL));
    double moving =
        clock_message_latency(s.clock.model, 0, 1) + bytes / clock_message_bandwidth(s.clock.model, 0, 1);
    pipeline_unit_cost(s.staged->pipeline, work * moving);
    run_steps(&s);
    Measured measured = measured_of(s.staged);
    ok_on_all(world,
              near(measured.times.seconds / measured.by_costs.seconds, 1) &&
                  near(measured.times.bubble, measured.by_costs.bubble),
              "%s, %" PRId64 " micro-batches, an action takes %g messages: %.9g of %.9g",
              schedule_names[kind], m, work, measured.times.seconds, measured.by_costs.seconds);
    measured_free(&measured, s.staged->plan);
    stage_close(&s);
}

static int64_t kept(ScheduleKind kind, int64_t m) {
    Stage s;
    stage_open(&s, kind, m, "ideal");
    const Staged *staged = s.staged;
    int64_t batch = tensor_bytes(&staged->own->batch.ids) + tensor_bytes(&staged->own->batch.targets);
    int64_t losses = staged->heads ? tensor_bytes(pipeline_losses(staged->pipeline)) : 0;
    run_steps(&s);
    int64_t bytes = s.device->memory.peak[MEMORY_ACTIVATIONS] - batch - losses;
    stage_close(&s);
    return bytes;
}

/* Of more micro-batches a stage keeps no more, but with gpipe. */
static void memory(ScheduleKind kind) {
    int64_t p = world->size, few = kept(kind, 2 * p), many = kept(kind, 6 * p);
    ok_on_all(world, kind == SCHEDULE_GPIPE ? many > few : many == few,
              "%s: %" PRId64 " bytes of activations with %" PRId64 " micro-batches, %" PRId64
              " with %" PRId64,
              schedule_names[kind], few, 2 * p, many, 6 * p);
}

int main(void) {
    world = ranks_world();
    int p = world->size;
    int64_t counts[] = {1, p - 1, p, 2 * p, 3 * p + 1};
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        for (int i = 0; i < COUNT_OF(counts); i++) {
            char *hint = NULL, *problem = schedule_problem(kind, p, VIRTUAL, counts[i], &hint);
            if (!problem && counts[i] > 0) formulas(kind, counts[i]);
            free(problem);
            free(hint);
        }
        if (p > 1) messages(kind, 2 * p, 1.5);
        if (p > 1) messages(kind, 2 * p, 10);
        memory(kind);
    }
    comm_close(world);
    return tap_done();
}
