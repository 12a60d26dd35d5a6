/* TEST variants: float, all: double asan
 * The meter counts what the formulas say, and changes nothing; the profile charges it to the right op and phase. */
#include "common/cpu/device_cpu.h"
#include "common/tensor/meter.h"
#include "common/run/profile.h"
#include "tests/tap.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

/* Both tables have their functions in the same places. */
static bool test_table(Device *device) {
    typedef void (*Function)(void);
    enum { FIRST = offsetof(Kernels, zero) / sizeof(Function), ALL = sizeof(Kernels) / sizeof(Function) };
    Function plain[ALL], metered[ALL];
    Meter meter = {0};
    const Kernels *before = device->kernels;
    memcpy(plain, device->kernels, sizeof plain);
    meter_attach(device, &meter);
    memcpy(metered, device->kernels, sizeof metered);
    int missing = 0;
    for (int i = FIRST; i < ALL; i++) missing += plain[i] && (!metered[i] || metered[i] == plain[i]);
    bool all = ok(missing == 0, "all of the table's %d functions are metered, but %d", ALL - FIRST, missing);
    meter_detach(device, &meter);
    ok(device->kernels == before && !device->queue.meter, "the meter goes away again");
    return all;
}

/* ---- single kernels, counted by hand ---- */

static KernelCall last_call;
static void remember(void *context, const KernelCall *call) {
    (void)context;
    last_call = *call;
}

static Tensor tensor(Device *device, Shape shape) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, "t", TYPE_REAL, shape);
    fill_constant(&t, 0);
    return t;
}

static void cost_is(const char *what, int64_t product, int64_t again, int64_t other, int64_t elements) {
    Cost c = last_call.cost;
    int64_t size = element_bytes(TYPE_REAL);
    ok(c.product == product && c.again == again && c.other == other && c.bytes == elements * size &&
           last_call.end >= last_call.begin,
       "%s: %lld + %lld + %lld FLOPs, %lld bytes", what, (long long)c.product, (long long)c.again,
       (long long)c.other, (long long)c.bytes);
}

static void test_kernels(Device *device) {
    enum { B = 2, T = 6, H = 4, K = 2, D = 8, C = H * D, W = (H + 2 * K) * D, F = 20, R = B * T };
    Meter meter = {.done = remember};
    meter_attach(device, &meter);
    const Kernels *k = device->kernels;
    Queue *q = &device->queue;
    Tensor x = tensor(device, SHAPE(B, T, C)), y = tensor(device, SHAPE(B, T, F)),
           w = tensor(device, SHAPE(C, F)), bias = tensor(device, SHAPE(F)),
           x2 = tensor(device, SHAPE(B, T, C)), gain = tensor(device, SHAPE(C)),
           stats = tensor(device, SHAPE(R, 2)), qkv = tensor(device, SHAPE(B, T, W)),
           dqkv = tensor(device, SHAPE(B, T, W)), lse = tensor(device, SHAPE(B, T, H)),
           scratch = tensor(device, SHAPE(k->attention_scratch(q, B, T, H, D)));

    k->matmul(q, &x, false, &w, false, &bias, &y, false);
    cost_is("matmul with bias", 2 * R * C * F, 0, R * F, R * C + C * F + F + R * F);
    ok(!strcmp(last_call.kernel, "matmul") && shape_equal(last_call.shapes[0], x.shape) &&
           shape_equal(last_call.shapes[1], w.shape) && shape_equal(last_call.shapes[2], y.shape),
       "its name and the shapes of its operands");
    k->matmul(q, &x, true, &y, false, NULL, &w, true);
    cost_is("matmul, transposed, added to", 2 * R * C * F, 0, 0, R * C + R * F + 2 * C * F);
    k->matmul(q, &y, false, &w, true, NULL, &x, false);
    cost_is("matmul, the other transposed", 2 * R * C * F, 0, 0, R * F + C * F + R * C);
    k->add(q, &x, &x2, &x);
    cost_is("add", 0, 0, R * C, 3 * R * C);
    k->add_row(q, &y, &bias, &y);
    cost_is("add a row", 0, 0, R * F, 2 * R * F + F);
    k->copy_slice(q, &x, 1, &x2, 3, 1, 2, false); /* two of T rows of each window */
    cost_is("copy of a slice", 0, 0, 0, 2 * B * 2 * C);
    k->copy_slice(q, &x, 1, &x2, 3, 1, 2, true);
    cost_is("copy of a slice, added to", 0, 0, B * 2 * C, 3 * B * 2 * C);
    /* of each row of y, all columns but two exist */
    Tensor top = tensor(device, SHAPE(R)),
           loss = tensor_new(device, MEMORY_ACTIVATIONS, "loss", TYPE_F64, SHAPE(1)),
           targets = tensor_new(device, MEMORY_ACTIVATIONS, "targets", TYPE_I32, SHAPE(R));
    k->zero(q, &loss), k->zero(q, &targets);
    int64_t real_of_targets = R * 4 / element_bytes(TYPE_REAL);
    k->row_max(q, &y, F - 2, &top);
    cost_is("row max", 0, 0, R * (F - 2), R * (F - 2) + R);
    k->exp_sums(q, &y, F - 2, &top, &targets, 0, 0, &stats);
    cost_is("sums of exponentials", 0, 0, 3 * R * (F - 2), 2 * R * (F - 2) + 3 * R + real_of_targets);
    k->split_cross_entropy(q, &y, F - 2, &top, &stats, &targets, 0, 0, &loss);
    cost_is("cross-entropy of some columns", 0, 0, R * (F - 2),
            R * (F - 2) + R * F + 3 * R + real_of_targets);
    k->layernorm(q, &x, &gain, NULL, 1e-5, &x2, &stats);
    cost_is("layernorm", 0, 0, 7 * R * C, 2 * R * C + C + 2 * R);
    k->gelu_backward(q, &x, &x2, &x, true);
    cost_is("gelu backward, added to", 0, 0, 20 * R * C, 4 * R * C);
    k->adamw(q, &w, &w, &w, &w, NULL, &(AdamwStep){.lr = 0, .beta1 = 0.9, .beta2 = 0.9, .eps = 1, .step = 1});
    cost_is("adamw", 0, 0, 15 * C * F, 7 * C * F);
    /* for each window and head: q k^T and p v, of each half of T x T x D products */
    k->attention(q, &qkv, H, K, &x, &lse, &scratch);
    cost_is("attention", B * H * 2 * (2 * T * T * D / 2), 0, B * H * 5 * T * T / 2, R * W + R * C + R * H);
    k->attention_backward(q, &x, &qkv, &x2, &lse, H, K, &dqkv, &scratch);
    cost_is("attention backward", B * H * 4 * (2 * T * T * D / 2), B * H * (2 * T * T * D / 2),
            B * H * 5 * T * T / 2 + 2 * R * C, 2 * R * W + 2 * R * C + R * H);
    Tensor *all[] = {&x,   &y,    &w,   &bias,    &x2,  &gain, &stats,
                     &qkv, &dqkv, &lse, &scratch, &top, &loss, &targets};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
    meter_detach(device, &meter);
}

/* ---- whole steps ---- */

static void add_up(void *context, const KernelCall *call) {
    Cost *sum = context;
    *sum = cost_sum(*sum, call->cost);
}

static Cost step_cost(Training *t) {
    Cost sum = {0};
    Meter meter = {.done = add_up, .context = &sum};
    meter_attach(t->device, &meter);
    training_gradient(t, 0);
    meter_detach(t->device, &meter);
    return sum;
}

static int64_t update_bytes(Training *t) {
    Cost sum = {0};
    Meter meter = {.done = add_up, .context = &sum};
    meter_attach(t->device, &meter);
    optimizer_step(t->optimizer, 1e-3, NULL);
    meter_detach(t->device, &meter);
    return sum.bytes;
}

static void test_step(const Config *config, const char *name) {
    Training t = training_new(config, config->model.T, 1, 0.2);
    const ModelConfig *m = &t.config.model;
    double tokens = (double)(t.config.global_batch * m->T), formula = model_flops_per_token(t.model);
    double plain = training_gradient(&t, 0);
    Cost cost = step_cost(&t), again = step_cost(&t);
    ok((double)cost.product == tokens * formula, "%s: products %lld = (6 N + 6 L C T) x tokens = %.0f", name,
       (long long)cost.product, tokens * formula);
    double scores = (double)(m->L * m->C * m->T); /* a sixth of 6 L C T */
    ok((double)cost.again == tokens * scores, "%s: the scores a second time: L C T for each token", name);
    ok(!memcmp(&cost, &again, sizeof cost), "%s: the same step costs the same", name);
    ok(training_gradient(&t, 0) == plain, "%s: and computes the same with a meter and without", name);

    t.model->recompute = true;
    Cost more = step_cost(&t);
    double forward = 2 * (double)(params_matmul_count(&t.model->params) - m->V * m->C) + 2 * scores;
    ok((double)(more.product - cost.product) == tokens * forward, "%s: recomputed, the blocks' forward twice",
       name);
    int64_t weights = params_count(&t.model->params) * element_bytes(TYPE_REAL);
    ok(update_bytes(&t) == 7 * weights, "%s: AdamW reads four numbers for each weight and writes three",
       name);
    training_delete(&t);
}

/* ---- the profile ---- */

static const ProfileRow *find(const Profile *p, const char *op, const char *layer, Phase phase) {
    int count;
    const ProfileRow *rows = profile_rows(p, &count);
    for (int i = 0; i < count; i++)
        if (rows[i].phase == phase && !strcmp(rows[i].op, op) && !strcmp(rows[i].layer, layer))
            return &rows[i];
    return NULL;
}

static double a_nanosecond(const void *machine, Cost cost) {
    (void)machine;
    (void)cost;
    return 1e-9;
}

/* Two micro-batches under way at once, as in a pipeline: each op of either tape is counted. */
static void test_several_tapes(const Config *config) {
    Training t = training_new(config, config->model.T, 1, 0.2);
    const ModelConfig *m = &t.config.model;
    Tape *other = tape_new(t.device, true), *third = tape_new(t.device, false);
    Profile *p = profile_new(t.device, NULL, NULL, NULL, NULL);
    ok(!t.device->queue.meter, "profile: without a tape there is no meter");
    Tape *const tapes[] = {t.tape, other};
    profile_watch(p, t.tape);
    profile_watch(p, third);
    profile_watch(p, other);
    Tensor *losses[2];
    profile_step_begin(p, 0);
    training_load(&t, 0);
    profile_phase(p, PHASE_FORWARD);
    for (int i = 0; i < 2; i++) losses[i] = training_forward_as(&t, tapes[i], 0, i, (Microbatch){i, 2});
    profile_phase(p, PHASE_BACKWARD);
    for (int i = 0; i < 2; i++) tape_backward_inputs(tapes[i], losses[i], &t.seed);
    for (int i = 0; i < 2; i++) tape_backward_params(tapes[i]);
    tape_delete(third); /* before the profile */
    profile_step_end(p);
    const ProfileRow *r = find(p, "linear", "ffn_up", PHASE_FORWARD);
    ok(r && r->calls == 2 * m->L, "profile: forward on two tapes");
    r = find(p, "linear", "ffn_up", PHASE_BACKWARD_INPUT);
    ok(r && r->calls == 2 * m->L, "profile: ... and backward");
    int count;
    const ProfileRow *rows = profile_rows(p, &count);
    int64_t product = 0;
    for (int i = 0; i < count; i++) product += rows[i].cost.product;
    double tokens = (double)(2 * t.config.micro_batch * m->T);
    ok((double)product == tokens * model_flops_per_token(t.model), "profile: ... no call is lost");
    profile_delete(p);
    ok(!t.tape->observer.done && !other->observer.done && !t.device->queue.meter,
       "profile: takes all observers away");
    tape_delete(other); /* behind it */
    training_delete(&t);
}

static void test_profile(const Config *config) {
    Training t = training_new(config, config->model.T, 1, 0.2);
    const ModelConfig *m = &t.config.model;
    Profile *p = profile_new(t.device, t.tape, a_nanosecond, NULL, NULL);
    enum { STEPS = 3 };
    double began = now_seconds();
    for (int step = 0; step < STEPS; step++) {
        if (step == 1) profile_clear(p); /* the first warms up */
        if (step == 1) began = now_seconds();
        profile_step_begin(p, step);
        profile_phase(p, PHASE_DATA);
        training_load(&t, step);
        for (int64_t i = 0; i < t.config.num_microbatches; i++) {
            profile_phase(p, PHASE_FORWARD);
            Tensor *loss = training_forward(&t, t.tape, step, i);
            profile_phase(p, PHASE_BACKWARD);
            tape_backward(t.tape, loss, &t.seed);
            tape_reset(t.tape);
        }
        profile_phase(p, PHASE_OPTIMIZER);
        optimizer_step(t.optimizer, 1e-3, NULL);
        profile_step_end(p);
    }
    double all = now_seconds() - began, charged = 0, kernels = 0;
    for (Phase phase = 0; phase < PHASES; phase++) charged += profile_seconds(p, phase);
    int count;
    const ProfileRow *rows = profile_rows(p, &count);
    Cost sum = {0};
    double bound = 0;
    int64_t calls = 0;
    for (int i = 0; i < count; i++) {
        sum = cost_sum(sum, rows[i].cost);
        kernels += rows[i].seconds;
        bound += rows[i].bound;
        calls += rows[i].calls;
    }
    ok(profile_steps(p) == STEPS - 1, "profile: steps since it was cleared");
    ok(kernels > 0 && kernels <= charged && charged <= all,
       "profile: kernels, phases, all: each within the next");
    double tokens = (double)((STEPS - 1) * t.config.global_batch * m->T);
    ok((double)sum.product == tokens * model_flops_per_token(t.model), "profile: no call is lost");
    close_to(bound, 1e-9 * (double)calls, 1e-15, "profile: the roof of each call");

    int64_t batches = (STEPS - 1) * t.config.num_microbatches, R = t.config.micro_batch * m->T;
    const ProfileRow *r = find(p, "linear", "ffn_up", PHASE_FORWARD);
    ok(r && r->calls == batches * m->L && r->cost.product == 2 * batches * m->L * R * m->C * m->F,
       "profile: a layer's forward, over all blocks");
    r = find(p, "linear", "ffn_up", PHASE_BACKWARD_INPUT);
    ok(r && r->calls == batches * m->L, "profile: its backward towards the input");
    ok(find(p, "linear", "ffn_up", PHASE_BACKWARD_PARAM), "profile: ... towards the weight");
    ok(find(p, "attention", "", PHASE_FORWARD) && find(p, "head_loss", "", PHASE_FORWARD),
       "profile: ops without a layer");
    r = find(p, "adamw", "", PHASE_OPTIMIZER);
    ok(r && r->calls == (STEPS - 1) * t.model->params.count, "profile: a kernel outside the tape");
    ok(profile_seconds(p, PHASE_DATA) > 0 && profile_seconds(p, PHASE_CLIP) == 0,
       "profile: phases that were named");

    t.model->recompute = true;
    profile_step_begin(p, STEPS);
    profile_phase(p, PHASE_FORWARD);
    Tensor *loss = training_forward(&t, t.tape, 0, 0);
    profile_phase(p, PHASE_BACKWARD);
    tape_backward(t.tape, loss, &t.seed);
    profile_step_end(p);
    ok(find(p, "linear", "ffn_up", PHASE_RECOMPUTE), "profile: forward inside backward is recomputation");
    profile_delete(p);
    ok(!t.device->queue.meter && !t.tape->observer.done, "profile: takes meter and observer away");
    training_delete(&t);
}

int main(void) {
    Device *device = device_new_cpu(0);
    if (!test_table(device)) return tap_done(); /* the others would crash */
    test_kernels(device);
    device_delete(device);

    Config config = *config_preset("tiny");
    config.micro_batch = 1, config.num_microbatches = config.global_batch = 2;
    config.model.K = config.model.H;
    config.model.V = 300;
    config.model.L = 2;
    config.model.T = 48;
    test_step(&config, "tied, gelu");
    test_profile(&config);
    test_several_tapes(&config);
    config.model = awkward_model();
    test_step(&config, "rope, grouped, swiglu, biases, dropout");
    config.model = awkward_post_norm_model();
    test_step(&config, "post-norm, relu, learned positions");
    return tap_done();
}
