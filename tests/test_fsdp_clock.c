/* When gathered weights are there, by the model clock: each all-gather ends at max(its start, the end of the link's earlier
 * calls) + a ring's time, and the device waits from when it wants the weights until then. Without prefetch it waits for all
 * of each; with it, as a forecast from the times of the blocks says, to 1e-6. A block's gather is hidden behind the
 * block before exactly where it takes no longer: the border is found from both sides.
 *
 * TEST np: 3, all: 1 2 8
 * TEST variants: float */
#include "tests/sharded_with.h"
#include "common/comm/clock.h"
#include "tests/fsdp_plan.h"
#include "tests/records.h"

static Comm *world, *group, *aside; /* aside: for what is no part of a pass */

static const double close = 1e-6; /* relative */

/* A machine whose links we choose; and all that runs on it. */
typedef struct {
    DeviceModel machine;
    Clock clock;
    RandomTokens tokens;
    Sharded *s;
    Plan plan;
    FsdpOptions options;
    CommEvent events[1024]; /* of the group of shards, since `events` was emptied */
    int event_count;
} Run;

static void heard(void *context, const CommEvent *event) {
    Run *r = context;
    ASSERT(r->event_count < COUNT_OF(r->events));
    r->events[r->event_count++] = *event;
}

static int64_t one_each(const Dataset *data, int64_t T) {
    (void)data, (void)T;
    return group->size;
}

static Run *run_new(const ModelConfig *model, FsdpOptions options, double latency, double bandwidth) {
    Run *r = xcalloc(1, sizeof *r);
    r->machine = *device_model("h100");
    r->machine.per_node = 8;
    r->machine.inside = (LinkModel){latency, bandwidth};
    Device *device = device_new_cpu(0);
    clock_attach(device, &r->clock, &r->machine);
    Config c = record_config(world, model, 1, 1);
    c.zero_stage = 3;
    options.stage = 3;
    r->options = options;
    r->tokens = random_tokens(&c, 1, 0.2);
    r->tokens.dataset.validation_windows = one_each;
    r->s = sharded_with(&c, &options, 0, group, device, &r->tokens.dataset);
    r->s->shards->observer = (CommObserver){.done = heard, .context = r};
    r->plan = plan_of(&c, r->s->shards->size, NULL);
    MetricsRow row; /* the first step learns the order of the units */
    sharded_step(r->s, 0, &row);
    return r;
}

static void run_delete(Run *r) {
    Device *device = r->s->device;
    sharded_delete(r->s);
    clock_detach(&r->clock);
    device_delete(device);
    free(r);
}

/* A ring of n links: each passes on n - 1 shards. */
static double ring_seconds(const Run *r, int unit) {
    double steps = r->plan.devices - 1;
    return steps * (r->machine.inside.latency +
                    (double)r->plan.unit[unit].shard * sizeof(real) / r->machine.inside.bandwidth);
}

static bool near(double got, double want, double scale) { return fabs(got - want) <= close * scale; }

static void step(Run *r) {
    MetricsRow row;
    r->event_count = 0;
    sharded_step(r->s, 1, &row);
}

/* One pass without backward, each rank with a window. Returns its seconds. */
static double forward(Run *r) {
    comm_barrier(aside, &r->s->device->queue); /* an update takes those longer that have more to update */
    r->event_count = 0;
    double begin = queue_now(&r->s->device->queue);
    evaluate(r->s->model, &r->tokens.dataset, 0, 1, aside);
    return queue_now(&r->s->device->queue) - begin;
}

/* ---- the link: one call after the other ---- */

static void check_link(Run *r, const char *name) {
    int gather = 0;
    bool ends = true, ready = true;
    double busy = 0;
    for (int i = 0; i < r->event_count; i++) {
        const CommEvent *e = &r->events[i];
        double begin = e->begin; /* of a reduction: as it was seen */
        if (e->call.kind == COMM_ALL_GATHER) {
            FsdpGather g = fsdp_gather(r->s->fsdp, gather++);
            begin = fmax(g.started, busy);
            busy = begin + ring_seconds(r, g.unit);
            ready &= near(g.ready, fmax(g.wanted, busy), busy) && g.started <= g.wanted;
            ends &= e->call.count == r->plan.unit[g.unit].shard;
        } else {
            ends &= e->begin >= busy - close * busy;
            busy = e->end;
        }
        ends &= near(e->begin, begin, busy) && near(e->end, busy, busy);
    }
    ok_on_all(world, gather == fsdp_gathers(r->s->fsdp) && gather > 0,
              "%s: %d gathers of the step, each seen on the link", name, gather);
    ok_on_all(world, ends, "%s: each begins when the link is free, and takes a ring's time", name);
    ok_on_all(world, ready, "%s: weights are ready when they have come, or before they are wanted", name);
}

static void test_link(const ModelConfig *model) {
    static const int prefetches[] = {0, 1, 2, 5};
    for (int w = 0; w < 8; w++) {
        FsdpOptions options = {.prefetch = prefetches[w & 3], .overlap = w & 4};
        Run *r = run_new(model, options, 2e-6, 5e9);
        step(r);
        char *name = xprintf("prefetch %d%s", options.prefetch, options.overlap ? ", overlap" : "");
        check_link(r, name);
        bool in_full = true;
        for (int i = 0; i < fsdp_gathers(r->s->fsdp) && !options.overlap && !options.prefetch; i++) {
            FsdpGather g = fsdp_gather(r->s->fsdp, i);
            in_full &= g.started == g.wanted &&
                       near(g.ready - g.wanted, ring_seconds(r, g.unit), g.ready - g.wanted);
        }
        if (!options.overlap && !options.prefetch)
            ok_on_all(world, in_full, "%s: the device waits for the whole of each gather", name);
        free(name);
        run_delete(r);
    }
}

/* ---- a forecast of the forward pass ---- */

/* Seconds of work at each position of the forward pass, as they are without prefetch. */
static void measure_work(const ModelConfig *model, double work[3 * MOST_UNITS]) {
    Run *r = run_new(model, (FsdpOptions){.prefetch = 0}, 2e-6, 5e9);
    forward(r);
    for (int i = 0; i < r->plan.head_at; i++)
        work[i] = fsdp_gather(r->s->fsdp, i + 1).wanted - fsdp_gather(r->s->fsdp, i).ready;
    run_delete(r);
}

/* With links, of no latency, on which a block's gather takes so many times as long as the block's work: position 0 is the
 * table's, and blocks are alike. */
static Run *run_with_ratio(const ModelConfig *model, FsdpOptions options, const double *work, double ratio) {
    Run *r = run_new(model, options, 0, 1);
    double seconds = ring_seconds(r, r->plan.order[2]);
    run_delete(r);
    return run_new(model, options, 0, seconds / (ratio * work[2]));
}

/* The device comes to a unit, starts the gathers of those `prefetch` ahead, waits for its own, and works. */
static double forecast(const Run *r, const double *work, double exposed[3 * MOST_UNITS]) {
    double now = 0, link = 0, end[3 * MOST_UNITS] = {0}, sum = 0;
    for (int at = 0, next = 0; at <= r->plan.head_at; at++) {
        for (; next <= r->plan.head_at && next <= at + r->options.prefetch; next++)
            end[next] = link = fmax(now, link) + ring_seconds(r, r->plan.order[next]);
        exposed[at] = fmax(end[at] - now, 0);
        sum += exposed[at];
        now += exposed[at] + work[at];
    }
    return sum;
}

static void test_forecast(const ModelConfig *model) {
    double work[3 * MOST_UNITS] = {0}, none = 0;
    measure_work(model, work);
    static const double ratios[] = {4, 1.1, 0.5, 0.1};
    for (int b = 0; b < COUNT_OF(ratios); b++) {
        for (int prefetch = 0; prefetch <= 3; prefetch++) {
            Run *r =
                run_with_ratio(model, (FsdpOptions){.prefetch = prefetch, .overlap = true}, work, ratios[b]);
            fsdp_begin(r->s->fsdp);    /* done with what the pass before has gathered ahead */
            r->s->shards->seconds = 0; /* a sum over all runs so far would lose digits */
            double seconds = forward(r), waited = r->s->shards->seconds, want[3 * MOST_UNITS],
                   sum = forecast(r, work, want);
            double measured = 0;
            bool each = true;
            for (int i = 0; i <= r->plan.head_at; i++) {
                FsdpGather g = fsdp_gather(r->s->fsdp, i);
                measured += g.ready - g.wanted;
                each &= g.unit == r->plan.order[i] && near(g.ready - g.wanted, want[i], fmax(sum, 1e-9));
            }
            ok_on_all(
                world, each && near(measured, sum, sum),
                "gather / block %.1f, prefetch %d: the device waits %.4g us, forecast %.4g, unit by unit",
                ratios[b], prefetch, measured * 1e6, sum * 1e6);
            ok_on_all(world, near(waited, sum, sum), "and so the group has it: %.4g us", waited * 1e6);
            if (prefetch == 0) none = seconds - sum;
            ok_on_all(world, near(seconds - sum, none, seconds),
                      "the rest of the pass takes as long: %.4g us", (seconds - sum) * 1e6);
            run_delete(r);
        }
    }
}

/* ---- where prefetch hides a block's gather: exactly while it takes no longer than the block before ---- */

static void test_border(const ModelConfig *model) {
    if (world->size == 1) return;
    double work[3 * MOST_UNITS] = {0};
    measure_work(model, work);
    static const double ratios[] = {0.2, 0.999, 1.001, 5};
    for (int i = 0; i < COUNT_OF(ratios); i++) {
        Run *r = run_with_ratio(model, (FsdpOptions){.prefetch = 1}, work, ratios[i]);
        forward(r);
        double worst = 0, formula = fmax(ratios[i] - 1, 0) * work[2];
        for (int at = 2; at <= (int)model->L; at++) {
            FsdpGather g = fsdp_gather(r->s->fsdp, at);
            worst = worse(worst, fabs(g.ready - g.wanted - formula));
        }
        ok_on_all(world, worst <= close * work[2],
                  "a gather that takes %.3f of a block: %.4g us of each are seen, within %.1g", ratios[i],
                  formula * 1e6, worst * 1e6);
        run_delete(r);
    }
}

/* In a step with backward: with a fast link and enough units ahead only the first two are waited for, before there is
 * anything to hide them behind. With one unit ahead the head comes too late, behind the short last norm. */
static void test_step(const ModelConfig *model) {
    if (world->size == 1) return;
    double work[3 * MOST_UNITS] = {0};
    measure_work(model, work);
    for (int prefetch = 1; prefetch <= 3; prefetch += 2) {
        Run *r = run_with_ratio(model, (FsdpOptions){.prefetch = prefetch, .overlap = true}, work, 0.3);
        step(r);
        int late = 0;
        double first = 0, rest = 0;
        for (int i = 0; i < fsdp_gathers(r->s->fsdp); i++) {
            FsdpGather g = fsdp_gather(r->s->fsdp, i);
            *(i < 2 ? &first : &rest) += g.ready - g.wanted;
            late += i >= 2 && g.ready > g.wanted;
        }
        ok_on_all(world, prefetch == 1 ? late > 0 : late == 0 && rest == 0 && first > 0,
                  "a fast link, prefetch %d: %.4g us for the first two, %.4g for %d others", prefetch,
                  first * 1e6, rest * 1e6, late);
        run_delete(r);
    }
}

int main(void) {
    world = ranks_world();
    group = comm_split(world, 0, world->rank, "data");
    aside = comm_split(world, 0, world->rank, "aside");
    ModelConfig model = awkward_model(), tied = awkward_post_norm_model();
    model.L = 5;
    tied.tied = true;
    test_link(&model);
    test_link(&tied);
    test_forecast(&model);
    test_border(&model);
    test_step(&model);
    comm_close(aside);
    comm_close(group);
    comm_close(world);
    return tap_done();
}
