/* Fully sharded training is the training of chapter 05: raw gradients, losses, norms, validation and, after 20 steps, every
 * parameter have the bits of its replicas on as many devices, in every stage, with every prefetch, on small models whose
 * sizes divide nothing, with padding and dropout, some of whose shards are empty. With several micro-batches and sharded
 * gradients the sum is grouped otherwise: it has the bits of the sum over micro-batches of the sum over devices, formed on
 * the host from gradients of one device each. All of it is to rounding what one device does.
 *
 * TEST np: 1 3 8, all: 2 4 5 6 7
 * TEST variants: double, all: float */
#include "chapters/05_data_parallel/replica.h"
#include "common/model/whole.h"
#include "tests/sharded_with.h"
#include "tests/records.h"

static Comm *world, *group;

enum { STEPS = RECORD_STEPS, FEW_STEPS = 2 };
static const double rounding = sizeof(real) == 8 ? 1e-10 : 2e-4;

typedef struct {
    int stage;
    bool reduce_once, overlap;
    int prefetch;
    const char *keep;
    bool recompute;
} Way;

static char *way_text(const Way *w) {
    return xprintf("stage %d%s, prefetch %d%s%s%s%s", w->stage, w->reduce_once ? ", reduced once" : "",
                   w->prefetch, w->overlap ? ", overlap" : "", w->keep ? ", keep " : "",
                   w->keep ? w->keep : "", w->recompute ? ", recompute" : "");
}

static ModelConfig model_of(bool post_norm, bool tied) {
    ModelConfig model = post_norm ? awkward_post_norm_model() : awkward_model();
    model.tied = tied;
    model.T = 11; /* short: there are many runs */
    return model;
}

/* Fewer elements in each parameter than there are devices, and most shards empty. */
static ModelConfig smallest_model(void) {
    ModelConfig model = awkward_post_norm_model();
    model.V = 7, model.C = 6, model.F = 5, model.H = 3, model.K = 1, model.L = 2, model.T = 5;
    return model;
}

/* ---- trainings ---- */

static Sharded *sharded_of(const Config *config, const Way *way, int shard_group, const Dataset *data) {
    Config c = *config;
    c.zero_stage = way->stage;
    c.recompute = way->recompute;
    FsdpOptions options = {.stage = way->stage,
                           .reduce_once = way->reduce_once,
                           .prefetch = way->prefetch,
                           .overlap = way->overlap,
                           .keep = way->keep};
    return sharded_with(&c, &options, shard_group, group, device_new_cpu(0), data);
}

static void discard(Sharded *s) {
    Device *device = s->device;
    sharded_delete(s);
    device_delete(device);
}

/* Gradients or parameters, whole, on every device. */
static void gather(const Sharded *s, bool gradients, bool copy, real *to) {
    Params *mine = fsdp_params(s->fsdp);
    Tensor **tensors = xcalloc((size_t)mine->count + 1, sizeof *tensors);
    for (int i = 0; i < mine->count; i++)
        tensors[i] = gradients ? &mine->items[i]->grad[0] : &mine->items[i]->data;
    Holding holding = {s->comm, mine, tensors, copy};
    for (int i = 0; i < s->model->params.count; i++) {
        const Tensor *t = &s->model->params.items[i]->data;
        whole_gather(&holding, s->model->params.items[i]->name, t->shape, to);
        to += tensor_count(t);
    }
    free(tensors);
}

static Record train(Sharded *s, int steps) {
    Record record = record_new(&s->model->params, steps);
    bool copy = sharded_parts(s).copy;
    for (int step = 0; step < steps; step++) {
        MetricsRow row;
        sharded_step(s, step, &row);
        record.losses[step] = row.loss;
        record.norms[step] = row.grad_norm;
        if (step == 0) gather(s, true, copy, record.gradients);
    }
    gather(s, false, copy, record.parameters);
    return record;
}

/* Chapter 05, and what it says of the validation split. */
static Record train_replicas(const Config *config, const Dataset *data, int steps, double *validation) {
    Replica *r = replica_new(config, group, device_new_cpu(0), data);
    Record record = record_new(&r->model->params, steps);
    for (int step = 0; step < steps; step++) {
        MetricsRow row;
        replica_step(r, step, &row);
        record.losses[step] = row.loss;
        record.norms[step] = row.grad_norm;
        if (step == 0) keep(&r->model->params, true, record.gradients);
    }
    keep(&r->model->params, false, record.parameters);
    *validation = evaluate(r->model, data, 0, 1, group);
    Device *device = r->device;
    replica_delete(r);
    device_delete(device);
    return record;
}

static void nothing(void *context, Param *p, int use) { (void)context, (void)p, (void)use; }

/* sum += the sum over the devices, in their order, of one gradient of each. */
static void add_devices(const Tensor *mine, bool first, real *sum) {
    int64_t count = tensor_count(mine);
    real *here = tensor_to_host(mine), *all = xmalloc((size_t)(count * world->size) * sizeof *all);
    comm_all_gather(world, NULL, here, all, count, TYPE_REAL);
    for (int64_t i = 0; i < count; i++) {
        real devices = all[i];
        for (int d = 1; d < world->size; d++) devices += all[d * count + i];
        sum[i] = first ? devices : sum[i] + devices;
    }
    free(here);
    free(all);
}

/* One step's gradient: over the micro-batches the sums over the devices, then over the uses. Returns this device's loss. */
static double gradient_by_hand(Training *t, int64_t step) {
    Params *params = &t->model->params;
    int64_t m = t->config.num_microbatches, most = 0;
    for (int i = 0; i < params->count; i++) most += tensor_count(&params->items[i]->data);
    real *sums[PARAM_MAX_USES];
    for (int use = 0; use < PARAM_MAX_USES; use++) sums[use] = xmalloc((size_t)most * sizeof(real));
    double loss = 0;
    training_load(t, step);
    for (int64_t j = 0; j < m; j++) {
        Tensor *out = training_forward_as(t, t->tape, step, world->rank * m + j, (Microbatch){0, 1});
        loss += tensor_scalar(out) / (double)t->batch.real;
        tape_backward(t->tape, out, &t->seed);
        tape_reset(t->tape);
        for (int64_t i = 0, at = 0; i < params->count; at += tensor_count(&params->items[i++]->data))
            for (int use = 0; use < params->items[i]->uses && use < PARAM_MAX_USES; use++)
                add_devices(&params->items[i]->grad[use], j == 0, sums[use] + at);
    }
    for (int64_t i = 0, at = 0; i < params->count; i++) {
        int64_t count = tensor_count(&params->items[i]->data);
        for (int64_t k = at; k < at + count && params->items[i]->uses > 1; k++) sums[0][k] += sums[1][k];
        tensor_write(&params->items[i]->grad[0], 0, count, sums[0] + at);
        at += count;
    }
    for (int use = 0; use < PARAM_MAX_USES; use++) free(sums[use]);
    return loss;
}

static Record train_by_hand(const Config *config, int steps) {
    Training t = training_new(config, config->model.T, 1, 0.2);
    t.model->params.on_grad_ready = nothing; /* uses are not added yet */
    Record record = record_new(&t.model->params, steps);
    for (int step = 0; step < steps; step++) {
        double loss = gradient_by_hand(&t, step);
        comm_all_reduce(world, NULL, &loss, &loss, 1, TYPE_F64, REDUCE_SUM);
        record.losses[step] = loss;
        record.norms[step] = optimizer_grad_norm(t.optimizer);
        if (step == 0) keep(&t.model->params, true, record.gradients);
        training_update(&t, step);
    }
    keep(&t.model->params, false, record.parameters);
    training_delete(&t);
    return record;
}

/* ---- the same bits ---- */

static void compare(const char *kind, const Config *c, const Dataset *data, const Way *way,
                    const Record *want, const double *validation) {
    Sharded *s = sharded_of(c, way, 0, data);
    Record got = train(s, want->steps);
    fsdp_check(s->fsdp);
    char *name = way_text(way);
    RecordErrors e = record_errors(&got, want);
    ok_on_all(world, same_bits(&got, want),
              "%s, %s: gradients, losses, norms and parameters have the same bits over %d steps; %s differs "
              "(%.1g %.1g %.1g %.1g)",
              kind, name, want->steps, first_difference(&got, want, &s->model->params), e.gradients, e.losses,
              e.norms, e.parameters);
    if (validation) {
        double loss = evaluate(s->model, data, 0, 1, group);
        ok_on_all(world, loss == *validation, "%s, %s: validation loss %.17g and %.17g", kind, name, loss,
                  *validation);
        /* what evaluation has gathered is not what the next step computes with */
        double before = evaluate(s->model, data, 0, 4, group);
        MetricsRow row;
        sharded_step(s, want->steps, &row);
        ok_on_all(world, evaluate(s->model, data, 0, 4, group) != before, "%s, %s: a step changes it", kind,
                  name);
    }
    free(name);
    record_free(&got);
    discard(s);
}

static void compare_to_one(const char *kind, const Record *got, const Record *one) {
    RecordErrors e = record_errors(got, one);
    ok_on_all(world,
              e.gradients <= rounding && e.losses <= rounding && e.norms <= rounding &&
                  e.parameters <= rounding,
              "%s: raw gradients, losses, norms, parameters differ from one device's by %.2g %.2g %.2g %.2g",
              kind, e.gradients, e.losses, e.norms, e.parameters);
}

static RandomTokens tokens_of(const Config *c) {
    RandomTokens tokens = random_tokens(c, 1, 0.2);
    tokens.dataset.validation_windows = nine_windows;
    return tokens;
}

/* Twenty steps of one way of each stage, on one micro-batch. */
static const Way long_ways[] = {{0, false, true, 0, NULL, false},
                                {1, false, true, 0, NULL, false},
                                {2, false, true, 0, NULL, false},
                                {3, false, true, 1, NULL, false}};
/* A few steps of others. */
static const Way few_ways[] = {
    {0, false, false, 0, NULL, true}, {1, false, false, 0, NULL, false}, {2, false, false, 0, NULL, true},
    {2, true, true, 0, NULL, false},  {3, true, true, 2, NULL, false},
};

static void test_one_microbatch(const char *kind, const ModelConfig *model, bool all_prefetches) {
    Config c = record_config(world, model, 1, 1);
    RandomTokens tokens = tokens_of(&c);
    double validation, few_validation;
    Record want = train_replicas(&c, &tokens.dataset, STEPS, &validation);
    Record few = train_replicas(&c, &tokens.dataset, FEW_STEPS, &few_validation);
    Record one = train_alone(world, &c, STEPS);
    compare_to_one(kind, &want, &one);
    for (int w = 0; w < COUNT_OF(long_ways); w++)
        compare(kind, &c, &tokens.dataset, &long_ways[w], &want, &validation);
    for (int w = 0; w < COUNT_OF(few_ways); w++) compare(kind, &c, &tokens.dataset, &few_ways[w], &few, NULL);
    static const int prefetches[] = {0, 1, 2, 5};
    for (int w = 0; w < 32 && all_prefetches; w++) {
        Way way = {3, false, w & 4, prefetches[w & 3], w & 8 ? "blocks.1,token" : NULL, w & 16};
        compare(kind, &c, &tokens.dataset, &way, &few, w % 8 > 4 ? &few_validation : NULL);
    }
    record_free(&want);
    record_free(&few);
    record_free(&one);
}

static void test_three_microbatches(const char *kind, const ModelConfig *model, int steps) {
    Config c = record_config(world, model, 1, 3);
    c.optimizer = OPTIMIZER_SGD; /* Adam's division would hide a factor */
    RandomTokens tokens = tokens_of(&c);
    double validation;
    Record once = train_replicas(&c, &tokens.dataset, steps, &validation);
    Record each = train_by_hand(&c, steps), one = train_alone(world, &c, steps);
    compare_to_one(kind, &once, &one);
    compare_to_one(kind, &each, &one);
    if (world->size > 2) /* with one device or two both orders are the same, or nearly */
        ok_on_all(world, memcmp(once.gradients, each.gradients, (size_t)once.count * sizeof(real)) != 0,
                  "%s: the two orders of summing have other bits", kind);
    const Way ways[] = {{0, false, true, 0, NULL, false},
                        {1, false, false, 0, NULL, false},
                        {2, true, true, 0, NULL, false},
                        {3, true, true, 1, NULL, true},
                        {2, false, true, 0, NULL, false},
                        {2, false, false, 0, NULL, true},
                        {3, false, true, 1, "blocks.0,head", false},
                        {3, false, false, 0, NULL, false},
                        {3, false, true, 5, NULL, true}};
    for (int w = 0; w < COUNT_OF(ways); w += steps == STEPS ? 3 : 1) {
        Way way = ways[w];
        if (model->tied && way.keep) way.keep = "blocks.0,token";
        compare(kind, &c, &tokens.dataset, &way, way.stage < 2 || way.reduce_once ? &once : &each, NULL);
    }
    record_free(&once);
    record_free(&each);
    record_free(&one);
}

/* ---- shards within groups, copies between them ---- */

static void test_hybrid(int shard_group) {
    ModelConfig model = model_of(true, true);
    Config c = record_config(world, &model, 1, 2);
    RandomTokens tokens = tokens_of(&c);
    Record one = train_alone(world, &c, FEW_STEPS);
    double alone = 0;
    for (int stage = 0; stage <= 3; stage++) {
        Way way = {stage, false, true, 1, NULL, false};
        Sharded *s = sharded_of(&c, &way, shard_group, &tokens.dataset);
        Record got = train(s, FEW_STEPS);
        char *kind = xprintf("groups of %d, stage %d", shard_group, stage);
        compare_to_one(kind, &got, &one);
        fsdp_check(s->fsdp);
        bool same = true; /* what the k-th copy holds, for each k */
        real *copy = xmalloc((size_t)got.count * sizeof *copy);
        for (int k = 0; k < s->copies->size; k++) {
            gather(s, false, stage == 0 ? s->comm->rank != k * shard_group : s->copies->rank != k, copy);
            same &= memcmp(copy, got.parameters, (size_t)got.count * sizeof *copy) == 0;
        }
        ok_on_all(world, same, "%s: all copies are equal to the bit", kind);
        double loss = evaluate(s->model, &tokens.dataset, 0, 1, group);
        if (stage == 0) alone = loss;
        ok_on_all(world, fabs(loss - alone) <= rounding * alone, "%s: validation loss %.17g and %.17g", kind,
                  loss, alone);
        free(copy);
        free(kind);
        record_free(&got);
        discard(s);
    }
    record_free(&one);
}

int main(void) {
    world = ranks_world();
    group = comm_split(world, 0, world->rank, "data");
    ModelConfig untied = model_of(false, false), post_norm = model_of(true, true),
                tied = model_of(false, true), smallest = smallest_model();
    test_one_microbatch("untied", &untied, true);
    test_one_microbatch("post-norm, tied", &post_norm, false);
    test_one_microbatch("smallest", &smallest, false);
    test_three_microbatches("three micro-batches, tied", &tied, FEW_STEPS);
    test_three_microbatches("three micro-batches, post-norm, tied", &post_norm, STEPS);
    test_three_microbatches("three micro-batches, untied", &untied, FEW_STEPS);
    for (int g = 2; g < world->size; g *= 2)
        if (world->size % g == 0) test_hybrid(g);
    comm_close(group);
    comm_close(world);
    return tap_done();
}
