#include "chapters/09_pipeline_parallel/measured.h"

#include "common/comm/clock.h"

#include <stdlib.h>
#include <string.h>

/* ---- from the events ---- */

/* (stages), of each its actions: each device sends its own, with room for as many as the longest list has. */
static Interval **gather_actions(const Staged *s) {
    const Schedule *schedule = s->plan->schedule;
    int64_t count, most = 0;
    const ActionEvent *events = pipeline_events(s->pipeline, &count);
    for (int stage = 0; stage < schedule->stages; stage++) most = max64(most, schedule->counts[stage]);
    Interval *own = xcalloc((size_t)most, sizeof *own);
    Interval *all = xcalloc((size_t)(most * schedule->stages), sizeof *all);
    for (int64_t i = 0; i < count; i++) own[i] = (Interval){events[i].begin, events[i].end};
    comm_all_gather(s->mesh->axis[MESH_PIPE], NULL, own, all, 2 * most, TYPE_F64);
    Interval **actions = xcalloc((size_t)schedule->stages, sizeof *actions);
    for (int stage = 0; stage < schedule->stages; stage++) {
        size_t bytes = (size_t)schedule->counts[stage] * sizeof **actions;
        actions[stage] = xmalloc(bytes);
        memcpy(actions[stage], all + stage * most, bytes);
    }
    free(own);
    free(all);
    return actions;
}

/* Of each chunk and kind of action, the mean; a B that has no W is all in its B, but for a chunk some of whose Bs have one: there
 * these speak for all. */
static ChunkCost *mean_costs(const Schedule *s, const PlanTimes *times) {
    ChunkCost *costs = xcalloc((size_t)s->chunks, sizeof *costs),
              *counts = xcalloc((size_t)s->chunks, sizeof *counts);
    bool *halves = xcalloc((size_t)s->chunks, sizeof *halves);
    for (int stage = 0; stage < s->stages; stage++)
        for (int64_t i = 0; i < s->counts[stage]; i++)
            halves[s->actions[stage][i].chunk] |= s->actions[stage][i].kind == ACTION_WEIGHTS;
    for (int stage = 0; stage < s->stages; stage++)
        for (int64_t i = 0; i < s->counts[stage]; i++) {
            const Action *a = &s->actions[stage][i];
            const Interval *when = &times->actions[stage][i];
            if (a->kind == ACTION_BACKWARD && !a->inputs_only && halves[a->chunk]) continue;
            costs[a->chunk].seconds[a->kind] += when->end - when->begin;
            counts[a->chunk].seconds[a->kind]++;
        }
    for (int chunk = 0; chunk < s->chunks; chunk++)
        for (int kind = 0; kind < ACTION_KINDS; kind++)
            costs[chunk].seconds[kind] /= counts[chunk].seconds[kind] > 0 ? counts[chunk].seconds[kind] : 1;
    free(counts);
    free(halves);
    return costs;
}

/* ---- by the plan ---- */

MessageCost message_model_cost(const void *context, int from, int to) {
    const MessageModel *m = context;
    int ends[2], stages[2] = {from, to}, at[MESH_AXES];
    for (int i = 0; i < 2; i++) {
        memcpy(at, m->mesh->coordinate, sizeof at);
        at[MESH_PIPE] = stages[i];
        ends[i] = mesh_rank(m->mesh, at);
    }
    return (MessageCost){m->slower * m->bytes / clock_message_bandwidth(m->model, ends[0], ends[1]),
                         m->slower * clock_message_latency(m->model, ends[0], ends[1])};
}

MessageModel message_model_of(const Staged *s) {
    const Clock *clock = s->own->device->queue.clock;
    double bytes = (double)tensor_bytes(&s->layers.stream);
    return (MessageModel){s->mesh, clock ? clock->model : NULL, bytes, 1};
}

Measured measured_of(const Staged *s) {
    const Schedule *schedule = s->plan->schedule;
    Measured m = {.times = plan_times_measured(schedule, gather_actions(s)),
                  .in_flight = xcalloc((size_t)schedule->stages, sizeof(int64_t))};
    m.costs = mean_costs(schedule, &m.times);
    MessageModel messages = message_model_of(s);
    PlanCosts costs = {
        .chunks = m.costs, .message = messages.model ? message_model_cost : NULL, .context = &messages};
    m.by_costs = plan_times(s->plan, &costs);
    int64_t own = pipeline_in_flight(s->pipeline);
    comm_all_gather(s->mesh->axis[MESH_PIPE], NULL, &own, m.in_flight, sizeof own / sizeof(int32_t),
                    TYPE_I32);
    return m;
}

void measured_free(Measured *m, const Plan *plan) {
    plan_times_free(&m->times, plan);
    plan_times_free(&m->by_costs, plan);
    free(m->costs);
    free(m->in_flight);
}

json_t *measured_json(const Measured *m, const Schedule *schedule) {
    json_t *in_flight = json_array();
    for (int stage = 0; stage < schedule->stages; stage++)
        json_array_append_new(in_flight, json_integer(m->in_flight[stage]));
    return json_pack("{s:f, s:f, s:f, s:o}", "seconds", m->times.seconds, "bubble", m->times.bubble,
                     "bubble_step", m->times.bubble_step, "in_flight", in_flight);
}
