#include "chapters/09_pipeline_parallel/schedule_point.h"

#include "chapters/09_pipeline_parallel/pp_options.h"
#include "common/comm/clock.h"
#include "common/run/machine.h"

#include <math.h>
#include <stdlib.h>

/* Does the step, on a device of its own. */
static void measure(SchedulePoint *p, const Config *c, const Mesh *mesh, const Dataset *data) {
    Clock clock;
    Device *device = machine_clock_device(c, c->device_memory, &clock, device_model(c->device_model));
    Staged *s = staged_new(c, mesh, p->plan, device, data);
    MetricsRow row;
    double began = clock.now;
    staged_step(s, 0, &row);
    p->step = comm_most(mesh->world, clock.now - began);
    p->in_flight = (int64_t)comm_most(mesh->world, (double)pipeline_in_flight(s->pipeline));
    p->activations = comm_most(mesh->world, (double)device->memory.peak[MEMORY_ACTIVATIONS]);
    p->was = measured_of(s);
    p->messages = message_model_of(s);
    staged_delete(s);
    clock_detach(&clock);
    device_delete(device);
}

static bool is_explained(const SchedulePoint *p) {
    const PlanTimes *was = &p->was.times;
    PlanTimes times = plan_times(
        p->plan, &(PlanCosts){.took = was->actions, .message = message_model_cost, .context = &p->messages});
    double off = 0;
    for (int stage = 0; stage < p->schedule->stages; stage++)
        for (int64_t i = 0; i < p->schedule->counts[stage]; i++)
            off = fmax(off, fabs((times.actions[stage][i].begin - times.begin) -
                                 (was->actions[stage][i].begin - was->begin)));
    plan_times_free(&times, p->plan);
    return off <= 1e-5 * was->seconds;
}

static Config config_for(const Config *config, ScheduleKind kind, int64_t m) {
    Config c = *config;
    c.clock = CLOCK_MODEL;
    c.pipeline_schedule = kind;
    c.schedule_file = NULL;
    c.num_microbatches = m;
    c.global_batch = m * c.micro_batch * c.data_parallel;
    return c;
}

SchedulePoint schedule_point(const Config *config, const Mesh *mesh, const Dataset *data, ScheduleKind kind,
                             int64_t m) {
    Config c = config_for(config, kind, m);
    int p = mesh->size[MESH_PIPE], v = pp_virtual_stages(&c);
    char *problem, *hint;
    SchedulePoint point = {.kind = kind, .m = m};
    if ((problem = schedule_problem(kind, p, v, m, &hint))) {
        free(problem);
        free(hint);
        return point;
    }
    point.schedule = schedule_new(kind, p, v, m);
    point.plan = plan_new(point.schedule, &problem, &hint);
    ASSERT(point.plan);
    measure(&point, &c, mesh, data);
    point.explained = is_explained(&point);
    point.formula = schedule_bubble_step_formula(kind, p, v, m);
    for (int stage = 0; stage < p; stage++)
        point.in_flight_formula =
            max64(point.in_flight_formula, schedule_in_flight_formula(kind, p, v, m, stage));
    return point;
}

void schedule_point_free(SchedulePoint *p) {
    if (!p->schedule) return;
    measured_free(&p->was, p->plan);
    plan_delete(p->plan);
    schedule_delete(p->schedule);
}

double schedule_point_seconds(const SchedulePoint *p, double slower) {
    MessageModel messages = p->messages;
    messages.slower = slower;
    PlanTimes times = plan_times(
        p->plan, &(PlanCosts){.chunks = p->was.costs, .message = message_model_cost, .context = &messages});
    double seconds = times.seconds;
    plan_times_free(&times, p->plan);
    return seconds;
}
