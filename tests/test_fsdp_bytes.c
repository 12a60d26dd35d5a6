/* What a device of fully sharded training holds and sends is what the formulas say, exactly: bytes of parameters,
 * gradients and optimizer in each stage, the most that gathered weights and gradients under way take for each prefetch, how
 * often each unit is gathered, bytes of each kind of collective with several micro-batches and with groups of copies. The
 * formulas are made here once more from the sizes of the model alone. Sizes that do not divide, shards that are empty,
 * parameters with fewer elements than devices are among the cases.
 *
 * TEST np: 1 3 8, all: 2 4 5 6 7
 * TEST variants: double */
#include "tests/sharded_with.h"
#include "tests/fsdp_plan.h"
#include "tests/records.h"

static Comm *world, *group; /* group: all ranks again, whose counts are those of training alone */

/* ---- what is held ---- */

static void check_memory(const char *name, const Plan *plan, const Config *c, const FsdpOptions *o,
                         Sharded *s) {
    int64_t weights = 0, gradients = 0, all = 0;
    for (int u = 0; u < plan->units; u++) {
        const PlannedUnit *unit = &plan->unit[u];
        weights += o->stage == 3 ? unit->shard : whole(plan, u);
        gradients += unit->uses * (o->stage >= 2 && !o->reduce_once ? unit->shard : whole(plan, u));
        for (int i = 0; i < unit->params; i++) all += unit->counts[i];
    }
    if (c->num_microbatches > 1 && (o->stage < 2 || o->reduce_once)) gradients += most_formed(plan);
    int64_t moments = 2 * (o->stage ? own_elements(plan, s->shards->rank) : all);
    const int64_t *peak = s->device->memory.peak;
    ok_on_all(world, peak[MEMORY_PARAMETERS] == weights * ELEMENT,
              "%s: %lld bytes of parameters, formula %lld", name, (long long)peak[MEMORY_PARAMETERS],
              (long long)weights * ELEMENT);
    ok_on_all(world, peak[MEMORY_GRADIENTS] == gradients * ELEMENT,
              "%s: %lld bytes of gradients, formula %lld", name, (long long)peak[MEMORY_GRADIENTS],
              (long long)gradients * ELEMENT);
    ok_on_all(world, peak[MEMORY_OPTIMIZER] == moments * ELEMENT, "%s: %lld bytes of moments, formula %lld",
              name, (long long)peak[MEMORY_OPTIMIZER], (long long)moments * ELEMENT);
    int64_t most = most_under_way(plan, c, o) * ELEMENT;
    ok_on_all(world, peak[MEMORY_COMMUNICATION] == most, "%s: at most %lld bytes under way, formula %lld",
              name, (long long)peak[MEMORY_COMMUNICATION], (long long)most);
    ok_on_all(world, s->device->memory.now[MEMORY_COMMUNICATION] == 0, "%s: nothing is left of them", name);
}

/* ---- what is sent ---- */

static Sent counted(void) {
    double sum[] = {(double)group->counts[COMM_ALL_REDUCE].bytes,
                    (double)group->counts[COMM_ALL_GATHER].bytes,
                    (double)group->counts[COMM_REDUCE_SCATTER].bytes};
    comm_all_reduce(world, NULL, sum, sum, 3, TYPE_F64, REDUCE_SUM);
    return (Sent){sum[0], sum[1], sum[2]};
}

static void check_sent(const char *name, Sent before, Sent now, Sent formula) {
    Sent sent = {now.all_reduce - before.all_reduce, now.all_gather - before.all_gather,
                 now.reduce_scatter - before.reduce_scatter};
    ok_on_all(world,
              sent.all_reduce == formula.all_reduce && sent.all_gather == formula.all_gather &&
                  sent.reduce_scatter == formula.reduce_scatter,
              "%s: %.0f bytes all-reduced, %.0f gathered, %.0f reduce-scattered; formula %.0f %.0f %.0f",
              name, sent.all_reduce, sent.all_gather, sent.reduce_scatter, formula.all_reduce,
              formula.all_gather, formula.reduce_scatter);
}

/* The gathers of the step's last pass, unit by unit. */
static void check_gathers(const char *name, const Plan *plan, const Config *c, const FsdpOptions *o,
                          Sharded *s) {
    bool same = fsdp_units(s->fsdp) == plan->units;
    int counts[MOST_UNITS] = {0};
    for (int i = 0; i < fsdp_gathers(s->fsdp); i++) counts[fsdp_gather(s->fsdp, i).unit]++;
    for (int u = 0; u < plan->units && same; u++) {
        FsdpUnit unit = fsdp_unit(s->fsdp, u);
        int want = o->stage < 3 ? 0 : gathers_of(plan, u, o->prefetch);
        if (plan->unit[u].kept) want = c->num_microbatches == 1;
        if (counts[u] != want)
            fprintf(stderr, "# %s: %s is gathered %d times, not %d\n", name, unit.name, counts[u], want);
        same &= counts[u] == want && !strcmp(unit.name, plan->unit[u].name) &&
                unit.shard == plan->unit[u].shard && unit.kept == plan->unit[u].kept;
    }
    ok_on_all(world, same, "%s: units, and how often each is gathered in a pass", name);
}

/* ---- cases ---- */

static const char *const stage_names[] = {"stage 0", "stage 1", "stage 2", "stage 3"};

/* Two steps and a third one: the first passes learn the order of the units. Returns the joint peak, losses in `losses`. */
static int64_t run(const char *kind, const Config *config, const FsdpOptions *o, int shard_group,
                   int64_t budget, double losses[2]) {
    Config c = *config;
    c.zero_stage = o->stage;
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    Sharded *s = sharded_with(&c, o, shard_group, group, device_new_cpu(budget), &tokens.dataset);
    Plan plan = plan_of(&c, s->shards->size, o->keep);
    char *name = xprintf("%s, %s%s, m = %d, prefetch %d%s%s%s", kind, stage_names[o->stage],
                         o->reduce_once ? " reduced once" : "", (int)c.num_microbatches, o->prefetch,
                         o->overlap ? ", overlap" : "", o->keep ? ", keep " : "", o->keep ? o->keep : "");
    for (int step = 0; step < 2; step++) {
        Sent before = counted();
        MetricsRow row;
        sharded_step(s, step, &row);
        losses[step] = row.loss;
        check_sent(name, before, counted(), sent_of(&plan, &c, o, s->copies->size, step == 0));
    }
    check_gathers(name, &plan, &c, o, s);
    check_memory(name, &plan, &c, o, s);
    free(name);
    int64_t peak = s->device->memory.joint_peak;
    Device *device = s->device;
    sharded_delete(s);
    bool empty = true;
    for (int class = 0; class < MEMORY_CLASSES; class ++) empty &= device->memory.now[class] == 0;
    ok_on_all(world, empty, "%s: all memory is given back", kind);
    device_delete(device);
    return peak;
}

static void test_model(const char *kind, const ModelConfig *model) {
    double losses[2];
    for (int64_t m = 1; m <= 3; m += 2) {
        Config c = record_config(world, model, 1, m);
        for (int stage = 0; stage <= 2; stage++)
            run(kind, &c, &(FsdpOptions){.stage = stage, .overlap = true}, 0, 0, losses);
        run(kind, &c, &(FsdpOptions){.stage = 2}, 0, 0, losses);
        run(kind, &c, &(FsdpOptions){.stage = 2, .reduce_once = true, .overlap = true}, 0, 0, losses);
        run(kind, &c, &(FsdpOptions){.stage = 3, .reduce_once = true, .prefetch = 1}, 0, 0, losses);
        static const int prefetches[] = {0, 1, 2, 5};
        for (int i = 0; i < COUNT_OF(prefetches); i++)
            run(kind, &c, &(FsdpOptions){.stage = 3, .overlap = i != 1, .prefetch = prefetches[i]}, 0, 0,
                losses);
        run(kind, &c, &(FsdpOptions){.stage = 3, .overlap = true, .prefetch = 1, .keep = "blocks.1,token"}, 0,
            0, losses);
    }
}

static void test_groups(const ModelConfig *model) {
    double losses[2];
    Config c = record_config(world, model, 1, 2);
    for (int g = 2; g < world->size; g *= 2) {
        if (world->size % g != 0) continue;
        char *kind = xprintf("groups of %d", g);
        for (int stage = 0; stage <= 3; stage++)
            run(kind, &c, &(FsdpOptions){.stage = stage, .overlap = true, .prefetch = 1}, g, 0, losses);
        free(kind);
    }
}

/* What does not fit on a device in stage 0 trains in stage 3, within what was seen to be its peak. */
static void test_budget(const ModelConfig *model) {
    Config c = record_config(world, model, 1, 1);
    double losses[3][2];
    FsdpOptions none = {.stage = 0, .overlap = true}, all = {.stage = 3, .overlap = true, .prefetch = 1};
    int64_t replicated = run("no budget", &c, &none, 0, 0, losses[0]);
    int64_t sharded = run("no budget", &c, &all, 0, 0, losses[1]);
    if (world->size > 2)
        ok_on_all(world, sharded < replicated, "stage 3 holds %lld bytes at most, stage 0 %lld",
                  (long long)sharded, (long long)replicated);
    run("a budget of its peak", &c, &all, 0, sharded, losses[2]);
    ok_on_all(world,
              !memcmp(losses[1], losses[2], sizeof losses[1]) &&
                  !memcmp(losses[0], losses[1], sizeof losses[0]),
              "the same losses, with a budget and without");
}

/* Of a unit that is one block of the norm, one device has all, and the others nothing: no piece to update. */
static void test_empty_shards(const ModelConfig *model) {
    Config c = record_config(world, model, 1, 1);
    c.zero_stage = 3;
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    Sharded *s = sharded_with(&c, &(FsdpOptions){.stage = 3}, 0, group, device_new_cpu(0), &tokens.dataset);
    Plan plan = plan_of(&c, s->shards->size, NULL);
    int want = 0;
    for (int u = 0; u < plan.units; u++)
        for (int i = 0; i < plan.unit[u].params; i++) {
            const PlannedUnit *unit = &plan.unit[u];
            int64_t from = world->rank * unit->shard;
            want += unit->first[i] < from + unit->shard && from < unit->first[i] + unit->counts[i];
        }
    int have = fsdp_params(s->fsdp)->count;
    ok_on_all(world, have == want, "%d pieces on this device, expected %d", have, want);
    double least = have;
    comm_all_reduce(world, NULL, &(double){-least}, &least, 1, TYPE_F64, REDUCE_MAX);
    if (world->size == 8) ok_on_all(world, least == 0, "a device has nothing to update");
    Device *device = s->device;
    sharded_delete(s);
    device_delete(device);
}

int main(void) {
    world = ranks_world();
    group = comm_split(world, 0, world->rank, "data");
    ModelConfig untied = awkward_model(), tied = awkward_post_norm_model(),
                smallest = awkward_post_norm_model();
    untied.T = tied.T = 5;
    tied.tied = true;
    smallest.V = 7, smallest.C = 6, smallest.F = 5, smallest.H = 3, smallest.K = 1, smallest.L = 2,
    smallest.T = 5;
    test_model("untied", &untied);
    test_model("post-norm, tied", &tied);
    test_model("smallest", &smallest);
    test_groups(&tied);
    test_budget(&untied);
    test_empty_shards(&smallest);
    comm_close(group);
    comm_close(world);
    return tap_done();
}
