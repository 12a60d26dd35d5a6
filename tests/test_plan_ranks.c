/* Plans of chapter 09 carried out between ranks, with numbers for tensors: each stage goes through its steps, each action gets
 * what was made for it, and under the model clock each begins and ends when plan_times says. Every built-in schedule and random
 * ones, in which messages cross.
 *
 * TEST np: 2 4, all: 3 5
 * TEST variants: float, all: asan */
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "tests/ranks.h"
#include "tests/schedules.h"

#include <inttypes.h>

enum { COUNT = 500, MOST_CHUNKS = 16 };

static Comm *world;
static Device *device;
static Clock clock_;
/* A message takes about as long as an action; devices 0 to 2 are one node. */
static const DeviceModel model = {.name = "test",
                                  .flops = 1,
                                  .memory_bandwidth = 1,
                                  .per_node = 3,
                                  .inside = {0.2, 5000},
                                  .across = {0.7, 2000}};
static ChunkCost costs[MOST_CHUNKS];

static MessageCost message(const void *context, int from, int to) {
    (void)context;
    double bytes = COUNT * sizeof(double);
    return (MessageCost){bytes / clock_message_bandwidth(&model, from, to),
                         clock_message_latency(&model, from, to)};
}

/* Which tensor it is, in whole numbers. */
static double element(const Action *a, int i) {
    return (double)((((int)a->kind * 1000 + a->chunk) * 1000 + a->microbatch) * 1000 + i);
}

static void fill(double *tensor, const Action *maker) {
    for (int i = 0; i < COUNT; i++) tensor[i] = element(maker, i);
}

static bool holds(const double *tensor, const Action *need) {
    Action maker = *need;
    maker.chunk += need->kind == ACTION_FORWARD ? -1 : 1;
    for (int i = 0; i < COUNT; i++)
        if (tensor[i] != element(&maker, i)) return false;
    return true;
}

typedef struct {
    bool tensors; /* every action got its own */
    double off;   /* the largest difference of a begin or an end */
} Seen;

static Seen carry_out(const Plan *plan, int stage, const PlanTimes *predicted) {
    const Schedule *s = plan->schedule;
    size_t count = (size_t)s->counts[stage];
    double *in = xmalloc(count * COUNT * sizeof *in), *out = xmalloc(count * COUNT * sizeof *out);
    CommRequest **received = xcalloc(count, sizeof(CommRequest *)),
                **sent = xcalloc(count, sizeof(CommRequest *));
    Queue *q = &device->queue;
    Seen seen = {.tensors = true};
    int64_t k = 0;
    for (int64_t i = 0; i < plan->counts[stage]; i++) {
        const PlanStep *step = &plan->steps[stage][i];
        const Action *a = &step->action;
        if (step->kind != PLAN_ACT) {
            int64_t need = plan_index(plan, a->kind, a->chunk, a->microbatch);
            received[need] = comm_start_recv(world, q, in + need * COUNT, COUNT, TYPE_F64, step->peer);
            continue;
        }
        if (received[k]) {
            comm_wait(world, q, received[k]);
            seen.tensors &= holds(in + k * COUNT, a);
        }
        const double *seconds = costs[a->chunk].seconds;
        bool whole = a->kind == ACTION_BACKWARD && !a->inputs_only;
        const Interval *when = &predicted->actions[stage][k];
        seen.off = worse(seen.off, fabs(clock_.now - when->begin));
        clock_.now += seconds[a->kind] + (whole ? seconds[ACTION_WEIGHTS] : 0);
        seen.off = worse(seen.off, fabs(clock_.now - when->end));
        if (step->peer >= 0) {
            fill(out + k * COUNT, a);
            sent[k] = comm_start_send(world, q, out + k * COUNT, COUNT, TYPE_F64, step->peer);
        }
        k++;
    }
    for (size_t j = 0; j < count; j++)
        if (sent[j]) comm_wait(world, q, sent[j]);
    free(in);
    free(out);
    free(received);
    free(sent);
    return seen;
}

static Seen run(const Schedule *s) {
    Plan *plan = plan_of(s);
    PlanTimes predicted = plan_times(plan, &(PlanCosts){.chunks = costs, .message = message});
    clock_attach(device, &clock_, &model);
    Seen seen = carry_out(plan, world->rank, &predicted);
    clock_detach(&clock_);
    plan_times_free(&predicted, plan);
    plan_delete(plan);
    return seen;
}

static void both(Seen *all, Seen one) {
    *all = (Seen){all->tensors && one.tensors, worse(all->off, one.off)};
}

static void say(Seen seen, int runs, const char *name) {
    ok_on_all(world, seen.tensors, "%s: in %d runs every action gets what was made for it", name, runs);
    ok_on_all(world, seen.off <= 1e-11, "%s: begins and ends as predicted, within %.1g s", name, seen.off);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    world = ranks_world();
    device = device_new_cpu(0);
    int p = world->size;
    for (int chunk = 0; chunk < MOST_CHUNKS; chunk++)
        costs[chunk] =
            (ChunkCost){{0.5 + 0.1 * (chunk % 3), 0.6 + 0.2 * (chunk % 2), 0.3 + 0.1 * (chunk % 5)}};
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        Seen all = {true, 0};
        int runs = 0;
        for (int64_t m = 1; m <= 2 * p + 1; m++) {
            if (kind == SCHEDULE_INTERLEAVED && m % p) continue;
            Schedule *s = schedule_new(kind, p, 2, m);
            both(&all, run(s));
            runs++;
            schedule_delete(s);
        }
        say(all, runs, schedule_names[kind]);
    }
    Rng rng = {21, rng_stream("ranks"), 0};
    Seen all = {true, 0};
    enum { RUNS = 30 };
    for (int i = 0; i < RUNS; i++) {
        Schedule *s = random_schedule(p, p + (int)rng_below(&rng, 4), 1 + rng_below(&rng, 5), &rng);
        both(&all, run(s));
        schedule_delete(s);
    }
    say(all, RUNS, "random");
    device_delete(device);
    comm_close(world);
    return tap_done();
}
