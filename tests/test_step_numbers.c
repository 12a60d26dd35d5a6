/* A step's numbers on the device: loss, norm and clip factor by the kernels that form them, an update that is left out where
 * one is not finite, and a step for which the host waits once. TEST variants: float double */
#include "common/tensor/kernels.h"
#include "tests/tap.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <math.h>

static const Kernels *k;
static Queue *q;
static Device *device;

static Tensor numbers_of(int64_t count, const double *values) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, "numbers", TYPE_F64, SHAPE(count));
    tensor_write(&t, 0, count, values);
    return t;
}

/* ---- each kernel ---- */

static void test_sums(void) {
    enum { COUNT = 5 };
    const double values[COUNT] = {0.1, 1e16, 3, -1e16, 0.7}, three = 3, begin = 0.25;
    double plain = 0, means = begin;
    for (int i = 0; i < COUNT; i++) {
        plain += values[i];
        means += values[i] / three;
    }
    Tensor x = numbers_of(COUNT, values), count = numbers_of(1, &three), total = numbers_of(1, &begin),
           inverse = tensor_new(device, MEMORY_ACTIVATIONS, "1/3", TYPE_REAL, SHAPE(1)),
           none = tensor_view(&x, 0, SHAPE(0));
    k->add_means(q, &x, &count, &total);
    ok(tensor_scalar(&total) == means, "means are added in order, each divided: %.17g", means);
    k->add_means(q, &none, &count, &total);
    ok(tensor_scalar(&total) == means, "... of nothing: as it was");
    k->sum(q, &x, &total);
    ok(tensor_scalar(&total) == plain, "a sum in order, in place of what was there: %.17g", plain);
    k->sum(q, &none, &total);
    ok(tensor_scalar(&total) == 0, "... of nothing: 0");
    k->reciprocal(q, &count, &inverse);
    ok(tensor_scalar(&inverse) == (double)(real)(1.0 / 3), "a reciprocal, rounded once");
    tensor_free(&x), tensor_free(&count), tensor_free(&total), tensor_free(&inverse);
}

static void clip_is_after(double last, double squares, double loss, double limit, double norm, double clip,
                          const char *what) {
    Tensor s = numbers_of(1, &squares), l = numbers_of(1, &loss), out = numbers_of(2, (double[]){-1, last});
    Tensor n = tensor_view(&out, 0, SHAPE(1)), c = tensor_view(&out, 1, SHAPE(1));
    k->clip(q, &s, &l, limit, &n, &c);
    double got_norm = tensor_scalar(&n), got_clip = tensor_scalar(&c);
    ok((got_norm == norm || (isnan(norm) && isnan(got_norm))) &&
           (got_clip == clip || (isnan(clip) && isnan(got_clip))),
       "%s: norm %g, clip %g", what, got_norm, got_clip);
    tensor_free(&s), tensor_free(&l), tensor_free(&out);
}

static void clip_is(double squares, double loss, double limit, double norm, double clip, const char *what) {
    clip_is_after(-1, squares, loss, limit, norm, clip, what);
}

static void test_clip(void) {
    clip_is(9, 2, 1.5, 3, 0.5, "a gradient twice as long as the limit");
    clip_is(9, 2, 3, 3, 1, "one as long");
    clip_is(9, 2, 0, 3, 1, "no limit");
    clip_is(0, 0, 1, 0, 1, "no gradient");
    clip_is(INFINITY, 2, 1, INFINITY, NAN, "an infinite one");
    clip_is(NAN, 2, 0, NAN, NAN, "one that is not a number");
    clip_is(9, -INFINITY, 1.5, 3, NAN, "an infinite loss");
    clip_is(9, NAN, 0, 3, NAN, "a loss that is not a number");
    clip_is_after(NAN, 9, 2, 1.5, 3, NAN, "one behind a step that was not finite");
}

/* w, m and v after one update of the same values, with a gradient that is multiplied by `scale` beforehand. */
static void update(OptimizerKind kind, real scale, const Tensor *clip, real *after) {
    enum { COUNT = 4 };
    Tensor all = tensor_new(device, MEMORY_ACTIVATIONS, "state", TYPE_REAL, SHAPE(4, COUNT));
    real values[4 * COUNT];
    for (int i = 0; i < 4 * COUNT; i++)
        values[i] = (real)(0.25 * (i % 7) + 0.5) * (i >= 3 * COUNT ? scale : 1);
    tensor_write(&all, 0, 4 * COUNT, values);
    Tensor w = tensor_rows_view(&all, 0, 1), m = tensor_rows_view(&all, 1, 1),
           v = tensor_rows_view(&all, 2, 1), g = tensor_rows_view(&all, 3, 1);
    if (kind == OPTIMIZER_ADAMW)
        k->adamw(q, &w, &g, &m, &v, clip, &(AdamwStep){1e-3, 0.9, 0.95, 1e-8, 0.1, 10});
    else
        k->sgd(q, &w, &g, &v, clip, 1e-3, 0.9);
    tensor_read(&all, 0, 3 * COUNT, after);
    tensor_free(&all);
}

static void test_update(OptimizerKind kind, const char *name) {
    enum { BYTES = 12 * sizeof(real) };
    real whole[12], half[12], clipped[12], left[12], before[12];
    Tensor clip = numbers_of(1, (double[]){0.5});
    update(kind, 1, NULL, whole);
    update(kind, (real)0.5, NULL, half);
    update(kind, 1, &clip, clipped);
    ok(memcmp(clipped, half, BYTES) == 0 && memcmp(whole, half, BYTES) != 0,
       "%s: half of the gradient by a factor on the device", name);
    for (int i = 0; i < 12; i++) before[i] = (real)(0.25 * (i % 7) + 0.5);
    const double wrong[] = {NAN, INFINITY};
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        tensor_write(&clip, 0, 1, &wrong[i]);
        update(kind, NAN, &clip, left);
        ok(memcmp(left, before, BYTES) == 0, "%s: a factor of %g leaves all as it was", name, wrong[i]);
    }
    tensor_free(&clip);
}

/* ---- a step ---- */

static void issue(Training *t, int64_t number) {
    const Config *c = &t->config;
    batch_load(&t->batch, &t->data.dataset, SPLIT_TRAIN, number * c->global_batch);
    step_begin(&t->numbers, &t->batch, NULL);
    for (int64_t i = 0; i < c->num_microbatches; i++) {
        Tensor *sum = training_forward(t, t->tape, number, i);
        step_add_loss(&t->numbers, sum);
        tape_backward(t->tape, sum, &t->numbers.seed);
        tape_reset(t->tape);
    }
    step_clip(&t->numbers, t->optimizer, &(NormGroups){0}, c->grad_clip);
    optimizer_step(t->optimizer, schedule_lr(c, number), &t->numbers.clip);
    step_start_read(&t->numbers, number, number * c->global_batch);
}

static void step(Training *t, int64_t number, double *loss, double *norm) {
    issue(t, number);
    StepResult was = step_read(&t->numbers);
    *loss = was.loss;
    *norm = was.grad_norm;
}

static Config config_of_three(void) {
    Config c = *config_preset("tiny");
    c.model = awkward_model();
    c.micro_batch = 2;
    c.num_microbatches = 3;
    c.global_batch = 6;
    c.grad_clip = 0.5;
    return c;
}

/* Two trainings from the same seed, the second by a host that reads each number when it is there. */
static void test_against_the_host(void) {
    Config c = config_of_three();
    Training t = training_new(&c, c.model.T, 1, 0.2), by_host = training_new(&c, c.model.T, 1, 0.2);
    bool same = true;
    for (int64_t s = 0; s < 3; s++) {
        double loss, norm, host_loss = 0;
        step(&t, s, &loss, &norm);
        training_load(&by_host, s);
        for (int64_t i = 0; i < c.num_microbatches; i++) {
            Tensor *sum = training_forward(&by_host, by_host.tape, s, i);
            host_loss += tensor_scalar(sum) / (double)by_host.batch.real;
            tape_backward(by_host.tape, sum, &by_host.seed);
            tape_reset(by_host.tape);
        }
        double host_norm = optimizer_grad_norm(by_host.optimizer);
        Tensor clip = tensor_new(by_host.device, MEMORY_ACTIVATIONS, "clip", TYPE_F64, SHAPE(1));
        tensor_write(&clip, 0, 1, &(double){clip_factor(host_norm, c.grad_clip)});
        optimizer_step(by_host.optimizer, schedule_lr(&c, s), &clip);
        tensor_free(&clip);
        same &= loss == host_loss && norm == host_norm && norm > c.grad_clip;
    }
    for (int i = 0; i < t.model->params.count; i++)
        same &= tensor_hash(&t.model->params.items[i]->data, 0) ==
                tensor_hash(&by_host.model->params.items[i]->data, 0);
    ok(same,
       "losses, norms and weights of three clipped steps: the bits that a host gets that reads each number");
    training_delete(&t);
    training_delete(&by_host);
}

static void test_waits(void) {
    Config c = config_of_three();
    Training t = training_new(&c, c.model.T, 1, 0.2);
    int64_t ids = 2 * c.global_batch * c.model.T * 4;
    double loss, norm;
    for (int64_t s = 0; s < 3; s++) {
        QueueCounts before = t.device->queue.counts;
        step(&t, s, &loss, &norm);
        QueueCounts spent = queue_counts_since(&t.device->queue, before);
        ok(spent.synchronisations == 1 && spent.bytes_to_host == 16 && spent.bytes_to_device == ids + 8,
           "step %d: the host waits %d times, reads %d bytes, and writes %d", (int)s,
           (int)spent.synchronisations, (int)spent.bytes_to_host, (int)spent.bytes_to_device);
    }
    QueueCounts before = t.device->queue.counts;
    batch_load(&t.batch, &t.data.dataset, SPLIT_TRAIN, 0);
    ok(queue_counts_since(&t.device->queue, before).synchronisations == 0,
       "a batch behind a step waits for nothing");
    batch_load(&t.batch, &t.data.dataset, SPLIT_TRAIN, 0);
    ok(queue_counts_since(&t.device->queue, before).synchronisations == 0,
       "... nor does one behind another, which may be under way still");
    batch_load(&t.batch, &t.data.dataset, SPLIT_TRAIN, 0);
    ok(queue_counts_since(&t.device->queue, before).synchronisations == 1,
       "the next takes the place of the first of them, and waits for that");
    training_delete(&t);
}

/* A host that reads a step's numbers when it has issued the next. */
static void test_late(void) {
    Config c = config_of_three();
    Training at_once = training_new(&c, c.model.T, 1, 0.2), t = training_new(&c, c.model.T, 1, 0.2);
    bool same = true, once = true;
    double loss, norm;
    issue(&t, 0);
    for (int64_t s = 1; s < 5; s++) {
        QueueCounts before = t.device->queue.counts;
        issue(&t, s);
        once &= queue_counts_since(&t.device->queue, before).synchronisations == 0;
        StepResult was = step_read(&t.numbers);
        once &= queue_counts_since(&t.device->queue, before).synchronisations == 1;
        step(&at_once, s - 1, &loss, &norm);
        same &= was.loss == loss && was.grad_norm == norm && was.step == s - 1 &&
                was.first_window == (s - 1) * c.global_batch;
    }
    ok(same, "read when the next step is issued: the same numbers");
    ok(once, "... the host waits once a step, behind the next one");
    issue(&t, 5);
    device_sync(t.device, &t.device->queue);
    QueueCounts before = t.device->queue.counts;
    step_read(&t.numbers);
    step_read(&t.numbers);
    ok(queue_counts_since(&t.device->queue, before).synchronisations == 0,
       "when it has waited for all, it waits for neither of two");
    training_delete(&t);
    training_delete(&at_once);
}

static void test_not_finite(void) {
    Config c = config_of_three();
    Training t = training_new(&c, c.model.T, 1, 0.2);
    double loss, norm;
    step(&t, 0, &loss, &norm);
    Params *params = &t.model->params;
    tensor_write(&params->items[0]->data, 0, 1, &(real){NAN});
    uint64_t *hashes = xcalloc((size_t)params->count, sizeof *hashes);
    for (int i = 0; i < params->count; i++) hashes[i] = tensor_hash(&params->items[i]->data, 0);
    /* all tokens of the vocabulary are in use: the first row is looked up */
    for (int64_t s = 1; s < 4 && !isnan(loss); s++) step(&t, s, &loss, &norm);
    bool same = true;
    for (int i = 0; i < params->count; i++) same &= hashes[i] == tensor_hash(&params->items[i]->data, 0);
    ok(isnan(loss) && same, "a loss of %g, a norm of %g: the weights are those that made it", loss, norm);
    tensor_write(&params->items[0]->data, 0, 1, &(real){0.1f});
    hashes[0] = tensor_hash(&params->items[0]->data, 0);
    step(&t, 5, &loss, &norm);
    same = isfinite(loss) && isfinite(norm);
    for (int i = 0; i < params->count; i++) same &= hashes[i] == tensor_hash(&params->items[i]->data, 0);
    ok(same,
       "a step behind it, which may be under way before anybody knows, changes nothing, whatever its loss: "
       "%g",
       loss);
    free(hashes);
    training_delete(&t);
}

int main(void) {
    device = device_new_cpu(0);
    k = device->kernels;
    q = &device->queue;
    test_sums();
    test_clip();
    test_update(OPTIMIZER_ADAMW, "adamw");
    test_update(OPTIMIZER_SGD, "sgd");
    device_delete(device);
    test_against_the_host();
    test_waits();
    test_late();
    test_not_finite();
    return tap_done();
}
