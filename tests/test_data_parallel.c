/* Data parallel training is the training of one device: raw gradients, losses, validation and, after 20 steps, every
 * parameter, on small models whose sizes divide nothing, with padding and dropout, with every way and size of buckets.
 * One micro-batch a device: the same bits as one device that takes the slices one after the other; several: to rounding,
 * for their sums are grouped otherwise. The bytes of a step are those of the formula, exactly, and by the model clock
 * the all-reduces end when the recurrence says.
 *
 * TEST np: 1 3 8, all: 2 4 5 6 7
 * TEST variants: double */
#include "chapters/05_data_parallel/replica.h"
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "tests/records.h"

static Comm *world, *group; /* group: all ranks again, whose counts are those of training alone */

enum { WAYS = 6, STEPS = RECORD_STEPS, FEW_STEPS = 3 };
static const struct {
    Overlap overlap;
    int64_t bucket;
} ways[WAYS] = {{OVERLAP_NONE, 1},           {OVERLAP_BUCKET, 1},       {OVERLAP_BUCKET, 30000},
                {OVERLAP_BACKWARD, 1 << 30}, {OVERLAP_BACKWARD, 30000}, {OVERLAP_BACKWARD, 1}};

static const double rounding = sizeof(real) == 8 ? 1e-10 : 2e-5;

static void discard(Replica *r) {
    Device *device = r->device;
    replica_delete(r);
    device_delete(device);
}

/* ---- the same on all devices ---- */

static Record train(Replica *r, int steps) {
    Record record = record_new(&r->model->params, steps);
    for (int step = 0; step < steps; step++) {
        MetricsRow row;
        replica_step(r, step, &row);
        record.losses[step] = row.loss;
        record.norms[step] = row.grad_norm;
        if (step == 0) keep(&r->model->params, true, record.gradients);
    }
    keep(&r->model->params, false, record.parameters);
    return record;
}

static void compare(const char *name, const Config *c, const Dataset *data, const Record *one,
                    bool want_bits) {
    Replica *r = replica_new(c, group, device_new_cpu(0), data);
    CommCount before = group->counts[COMM_ALL_REDUCE];
    Record all = train(r, one->steps);
    int steps = one->steps;
    double moved = (double)(group->counts[COMM_ALL_REDUCE].bytes - before.bytes), n = group->size;
    comm_all_reduce(world, NULL, &moved, &moved, 1, TYPE_F64, REDUCE_SUM);
    double S = (double)data_parallel_bytes(r->dp) +
               2 * sizeof(double); /* the gradients, a count of tokens, a loss */
    ok_on_all(world, moved == steps * 2 * (n - 1) * S, "%s: 2 (n-1) S bytes a step: %.0f of %.0f", name,
              moved / steps, 2 * (n - 1) * S);
    data_parallel_check(r->dp);
    RecordErrors e = record_errors(&all, one);
    if (want_bits) {
        ok_on_all(
            world, same_bits(&all, one),
            "%s: gradients, losses, norms and parameters have the same bits over %d steps (%.1g %.1g %.1g)",
            name, STEPS, e.gradients, e.losses, e.parameters);
    } else {
        ok_on_all(world, e.gradients <= rounding, "%s: raw gradients differ by %.2g of the largest", name,
                  e.gradients);
        ok_on_all(world, e.losses <= rounding, "%s: losses over %d steps by %.2g", name, steps, e.losses);
        ok_on_all(world, e.parameters <= rounding, "%s: parameters after them by %.2g", name, e.parameters);
    }
    record_free(&all);
    discard(r);
}

static void test_training(void) {
    ModelConfig first = awkward_model(), second = awkward_post_norm_model();
    second.tied = true;
    const ModelConfig *models[] = {&first, &second};
    for (int m = 0; m < COUNT_OF(models); m++) {
        const char *kind = m ? "tied" : "untied";
        Config c = record_config(world, models[m], 1, 1);
        RandomTokens tokens = random_tokens(&c, 1, 0.2);
        Record few = train_alone(world, &c, FEW_STEPS), one = train_alone(world, &c, STEPS);
        for (int w = 0; w < WAYS; w++) {
            c.overlap = ways[w].overlap;
            c.bucket_size = ways[w].bucket;
            char *name = xprintf("%s, way %d", kind, w);
            compare(name, &c, &tokens.dataset,
                    c.overlap == OVERLAP_BACKWARD && c.bucket_size > 1 << 20 ? &one : &few, true);
            free(name);
        }
        record_free(&few);
        record_free(&one);
        c = record_config(world, models[m], 1, 3);
        c.bucket_size = 30000;
        c.optimizer = OPTIMIZER_SGD; /* Adam's division would hide a factor */
        one = train_alone(world, &c, STEPS);
        char *name = xprintf("%s, three micro-batches", kind);
        compare(name, &c, &tokens.dataset, &one, false);
        free(name);
        record_free(&one);
    }
}

/* ---- several micro-batches under way ---- */

/* A step's gradients with all forwards before all backwards, and those in reverse order. */
static void gradient_on_many_tapes(Replica *r) {
    enum { COUNT = 3 };
    Tape *tapes[COUNT];
    Tensor *sums[COUNT];
    Batch parts[COUNT];
    int64_t rows = r->config.micro_batch, first = r->comm->rank * COUNT * rows;
    ASSERT(r->config.num_microbatches == COUNT);
    batch_load(&r->batch, r->data, SPLIT_TRAIN, first);
    step_begin(&r->numbers, &r->batch, r->comm);
    for (int i = 0; i < COUNT; i++) {
        Pass pass = {.training = true, .first_sample = first + i * rows};
        parts[i] = batch_rows(&r->batch, i * rows, rows);
        tapes[i] = tape_new(r->device, true);
        tape_begin_microbatch(tapes[i], i, COUNT);
        Tensor *x = model_embed(r->model, tapes[i], &parts[i].ids, &pass);
        x = model_blocks(r->model, tapes[i], x, 0, r->config.model.L, &pass);
        sums[i] = model_loss(r->model, tapes[i], x, &parts[i].targets);
    }
    for (int i = COUNT; i-- > 0;) {
        tape_backward(tapes[i], sums[i], &r->numbers.seed);
        tape_delete(tapes[i]);
    }
    data_parallel_finish(r->dp);
}

static void test_under_way(void) {
    ModelConfig model = awkward_post_norm_model();
    model.tied = true;
    Config c = record_config(world, &model, 1, 3);
    c.overlap = OVERLAP_BACKWARD;
    c.bucket_size = 30000;
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    for (int recompute = 0; recompute < 2; recompute++) {
        c.recompute = recompute;
        Replica *r = replica_new(&c, group, device_new_cpu(0), &tokens.dataset);
        Record one_by_one = record_new(&r->model->params, 1), under_way = record_new(&r->model->params, 1);
        gradient_on_many_tapes(r);
        keep(&r->model->params, true, under_way.gradients);
        MetricsRow row;
        replica_step(r, 0, &row);
        keep(&r->model->params, true, one_by_one.gradients);
        ok_on_all(
            world,
            !memcmp(under_way.gradients, one_by_one.gradients, (size_t)one_by_one.count * sizeof(real)),
            "three micro-batches under way at once, the last one first%s: the bits of one after the other",
            recompute ? ", recomputed" : "");
        record_free(&one_by_one);
        record_free(&under_way);
        discard(r);
    }
}

/* ---- evaluation: the work is shared, the result is that of one ---- */

static void test_evaluation(void) {
    ModelConfig model = awkward_model();
    RandomTokens tokens = {
        {.vocab_size = model.V, .window = random_window, .validation_windows = nine_windows}, 7, 1, 0.2};
    Config c = record_config(world, &model, 1, 1);
    Replica *r = replica_new(&c, group, device_new_cpu(0), &tokens.dataset);
    for (int64_t rows = 1; rows <= 4; rows += 3) {
        double all = evaluate(r->model, &tokens.dataset, 0, rows, group);
        double one = evaluate(r->model, &tokens.dataset, 0, rows, NULL);
        ok_on_all(world, all == one, "validation loss by %d rows: %.17g and %.17g", (int)rows, all, one);
    }
    discard(r);
}

/* ---- resuming: what rank 0 has read goes to all ---- */

static void test_broadcast(void) {
    ModelConfig model = awkward_model();
    RandomTokens tokens = {{.vocab_size = model.V, .window = random_window}, 7, 1, 0};
    Config c = record_config(world, &model, 1, 1);
    Replica *a = replica_new(&c, group, device_new_cpu(0), &tokens.dataset);
    Replica *b = replica_new(&c, group, device_new_cpu(0), &tokens.dataset);
    MetricsRow row;
    for (int step = 0; step < 3; step++) replica_step(a, step, &row);
    for (int i = 0; i < b->model->params.count; i++) { /* what the ranks have is theirs, but for rank 0 */
        Tensor *t = &b->model->params.items[i]->data;
        if (world->rank) fill_constant(t, (real)world->rank);
        if (world->rank) continue;
        copy_elements(&a->model->params.items[i]->data, t);
        copy_elements(&a->optimizer->m[i], &b->optimizer->m[i]);
        copy_elements(&a->optimizer->v[i], &b->optimizer->v[i]);
    }
    if (world->rank == 0) b->optimizer->step = 3, b->next_window = a->next_window;
    replica_broadcast(b);
    for (int step = 3; step < 6; step++) {
        replica_step(a, step, &row);
        replica_step(b, step, &row);
    }
    bool same = true;
    for (int i = 0; i < a->model->params.count; i++)
        same &= same_elements(&a->model->params.items[i]->data, &b->model->params.items[i]->data);
    ok_on_all(world, same && b->optimizer->step == 6 && b->next_window == a->next_window,
              "broadcast: goes on with the same bits");
    discard(a);
    discard(b);
}

/* ---- the model clock ---- */

static void test_recurrence(void) {
    ModelConfig model = awkward_model();
    RandomTokens tokens = {{.vocab_size = model.V, .window = random_window}, 7, 1, 0.2};
    for (int w = 0; w < WAYS; w++) {
        Config c = record_config(world, &model, 1, 2);
        c.overlap = ways[w].overlap;
        c.bucket_size = ways[w].bucket;
        Device *device = device_new_cpu(0);
        Clock clock;
        const DeviceModel *laptop = device_model("laptop-core");
        clock_attach(device, &clock, laptop);
        Replica *r = replica_new(&c, group, device, &tokens.dataset);
        MetricsRow row;
        double worst = 0, n = group->size;
        int count = data_parallel_buckets(r->dp);
        for (int step = 0; step < 2; step++) {
            double last = 0, end = 0;
            replica_step(r, step, &row);
            for (int k = 0; k < count; k++) last = worse(last, data_parallel_times(r->dp, k).ready);
            for (int k = 0; k < count; k++) {
                BucketTimes t = data_parallel_times(r->dp, k);
                double cost = 2 * (n - 1) * laptop->inside.latency +
                              2 * (n - 1) / n * (double)t.bytes / laptop->inside.bandwidth;
                end = fmax(c.overlap == OVERLAP_BACKWARD ? t.ready : last, end) + cost;
                worst = worse(worst, fabs(t.done / fmax(end, last) - 1));
            }
        }
        ok_on_all(world, worst <= 1e-6, "way %d: end_k = max(ready_k, end_k-1) + cost, to %.1g", w, worst);
        replica_delete(r);
        clock_detach(&clock);
        device_delete(device);
    }
}

int main(void) {
    world = ranks_world();
    group = comm_split(world, 0, world->rank, "data");
    test_training();
    test_under_way();
    test_evaluation();
    test_broadcast();
    test_recurrence();
    comm_close(group);
    comm_close(world);
    return tap_done();
}
