/* The activations of a training step by formula, derived from the ops, against what the device counted, to the byte: at the
 * peak, and after each op of the last block in backward. One device with every option of the model; the layers of chapter 08 on
 * all ranks.
 *
 * TEST np: 1 2 4, all: 8
 * TEST tier: more
 * TEST variants: float double */
#include "common/model/activation_bytes.h"
#include "tests/ranks.h"
#include "tests/tensor_parallel.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;

/* The moments of a step by formula; backward comes to them from the last op on. */
typedef struct {
    const Device *device;
    ActivationMoment moments[ACTIVATION_MOMENTS];
    int ops, next, wrong; /* next: which of them backward comes to */
} Walk;

static void after_op(void *context, const Node *node, TapePhase phase) {
    Walk *w = context;
    if (phase != TAPE_BACKWARD_INPUT) return;
    if (strstr(node->op->name, "head_loss")) w->next = w->ops - 1; /* of any micro-batch */
    if (w->next < 0) return;                                       /* a lower block */
    const ActivationMoment *m = &w->moments[w->next--];
    int64_t now = w->device->memory.now[MEMORY_ACTIVATIONS] + m->scratch;
    if (m->bytes != now && w->wrong++ == 0)
        fprintf(stderr, "# backward of %s, '%s': %lld bytes, measured %lld\n", node->op->name, m->at,
                (long long)m->bytes, (long long)now);
}

static Walk walk_of(const ModelConfig *model, const ActivationCase *c, const Device *device) {
    Walk w = {.device = device, .next = -1};
    w.ops = activation_moments(model, c, device, w.moments) - 2;
    return w;
}

/* Steps that were counted, and of them those with other bytes than the formula's, at their peak or before it. */
typedef struct {
    int steps, wrong;
} Tally;

static void compare(Tally *tally, const char *what, const Config *config, const ActivationCase *c,
                    const Walk *walk) {
    ActivationBytes a = activation_bytes(&config->model, c, walk->device);
    int64_t measured = walk->device->memory.peak[MEMORY_ACTIVATIONS];
    tally->steps++;
    if (a.peak == measured && walk->wrong == 0 && walk->next == -1) return;
    if (tally->wrong++ == 0)
        fprintf(stderr, "# %s: a peak of %lld bytes at '%s', measured %lld; %d moments wrong, %d not seen\n",
                what, (long long)a.peak, a.at, (long long)measured, walk->wrong, walk->next + 1);
}

static ActivationCase case_of(const Config *c, const Optimizer *o) {
    return (ActivationCase){.windows = c->micro_batch,
                            .microbatches = c->num_microbatches,
                            .recompute = c->recompute,
                            .square_blocks = optimizer_square_blocks(o)};
}

/* ---- one device ---- */

static Config config_for(ModelConfig model, int64_t windows, int64_t microbatches, bool recompute) {
    Config c = *config_preset("tiny");
    c.model = model;
    c.micro_batch = windows;
    c.num_microbatches = microbatches;
    c.global_batch = windows * microbatches;
    c.recompute = recompute;
    return c;
}

static void one_step(Tally *tally, const char *what, const Config *c, int64_t blocks) {
    Training t = training_new(c, c->model.T, 0, 0);
    if (blocks > 0) t.model->params.square_blocks = blocks; /* as if other devices had most of them */
    ActivationCase a = case_of(c, t.optimizer);
    Walk walk = walk_of(&c->model, &a, t.device);
    t.tape->observer = (TapeObserver){.done = after_op, .context = &walk};
    training_gradient(&t, 0);
    step_clip(&t.numbers, t.optimizer, &(NormGroups){0}, 1);
    compare(tally, what, c, &a, &walk);
    training_delete(&t);
}

/* Every option with every other, or every so manyth combination. */
static void test_options(const char *name, ModelConfig model, int64_t windows, int64_t microbatches,
                         int every) {
    enum { BITS = 8 };
    Tally tally = {0};
    for (int which = 0; which < 3 << BITS; which += every) {
        int bits = which / 3, activation = which % 3;
        ModelConfig m = model;
        m.norm_place = bits & 1 ? NORM_POST : NORM_PRE;
        m.norm = bits & 2 ? NORM_RMSNORM : NORM_LAYERNORM;
        m.positions = bits & 4 ? POSITIONS_ROPE : POSITIONS_LEARNED;
        m.activation = (Activation)activation;
        m.K = bits & 8 ? m.H : model.K;
        m.bias = bits & 16;
        m.tied = bits & 32;
        m.dropout = bits & 64 ? 0.1 : 0;
        m.dtype = sizeof(real) == sizeof(float) && which / 15 % 2 ? DTYPE_BF16 : DTYPE_F32;
        Config c = config_for(m, windows, microbatches, bits & 128);
        char what[96];
        snprintf(what, sizeof what, "%s, options %d, activation %d", name, bits, activation);
        one_step(&tally, what, &c, 0);
    }
    ok(tally.wrong == 0, "%s: %d of %d combinations of options have the bytes of the formula", name,
       tally.steps - tally.wrong, tally.steps);
}

/* Which moment is the peak depends on the sizes: each is the peak of one of these. */
static void test_moments(void) {
    static const struct {
        const char *at;
        ModelConfig model;
        int64_t windows, blocks;
        bool recompute;
    } cases[] = {
        {"head, forward", {.V = 900, .C = 8, .F = 8, .L = 1, .H = 2, .K = 1, .T = 30}, 1, 0, false},
        {"activation",
         {.V = 3, .C = 8, .F = 300, .L = 2, .H = 2, .K = 1, .T = 8, .activation = ACTIVATION_SWIGLU},
         20,
         0,
         false},
        {"ffn_down", {.V = 3, .C = 24, .F = 900, .L = 2, .H = 2, .K = 1, .T = 64}, 4, 0, false},
        {"attention", {.V = 3, .C = 8, .F = 1, .L = 2, .H = 1, .K = 1, .T = 600}, 1, 0, true},
        {"add ffn", {.V = 3, .C = 16, .F = 1, .L = 3, .H = 8, .K = 1, .T = 8}, 80, 0, true},
        {"sums of squares", {.V = 9, .C = 8, .F = 8, .L = 1, .H = 2, .K = 1, .T = 9}, 1, 1 << 16, false},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        ModelConfig m = cases[i].model;
        m.init_deviation = 0.02, m.norm_eps = 1e-6;
        Config c = config_for(m, cases[i].windows, 1, cases[i].recompute);
        Tally tally = {0};
        one_step(&tally, cases[i].at, &c, cases[i].blocks);
        Device *device = device_new_cpu(0);
        ActivationCase a = {.windows = c.micro_batch,
                            .microbatches = 1,
                            .recompute = c.recompute,
                            .square_blocks = cases[i].blocks};
        const char *at = activation_bytes(&m, &a, device).at;
        ok(tally.wrong == 0 && !strcmp(at, cases[i].at), "a peak at '%s', by formula at '%s'", cases[i].at,
           at);
        device_delete(device);
    }
}

/* The table of the header, from sizes at which small things are small. */
static void test_units(void) {
    Device *device = device_new_cpu(0);
    ModelConfig m = {
        .V = 9, .C = 1 << 20, .F = 4 << 20, .L = 1, .H = 8, .K = 8, .T = 64, .activation = ACTIVATION_GELU};
    double unit = (double)(m.C * m.T * element_bytes(TYPE_REAL));
    for (int t = 1; t <= 8; t *= 2) {
        ActivationCase c = {.windows = 1, .microbatches = 1, .tensor = t};
        double whole = (double)activation_bytes(&m, &c, device).kept / unit;
        c.sequence_parallel = true;
        double gathered = (double)activation_bytes(&m, &c, device).kept / unit;
        c.gather_again = true;
        double slices = (double)activation_bytes(&m, &c, device).kept / unit;
        ok(fabs(whole - (4 + 12.0 / t)) < 1e-3 && fabs(gathered - (2 + 14.0 / t)) < 1e-3 &&
               fabs(slices - 16.0 / t) < 1e-3,
           "a block keeps %.4f B T C on each of %d devices, with sequence parallel %.4f, or %.4f in slices",
           whole, t, gathered, slices);
    }
    device_delete(device);
}

/* ---- several devices ---- */

static void test_tensor_parallel(const Mesh *mesh, TensorParallelOptions options, const char *name) {
    int t = mesh->size[MESH_TENSOR];
    Tally tally = {0};
    for (int which = 0; which < 4 * MODELS; which++) {
        const char *kind;
        ModelConfig model = model_of(which % MODELS, t, &kind);
        model.T *= which / MODELS % 2 ? 1 : 20; /* enough rows for a product that needs scratch */
        model.dtype = sizeof(real) == sizeof(float) && which % 2 ? DTYPE_BF16 : DTYPE_F32;
        Config c = config_of(&model, 1);
        c.recompute = which / MODELS / 2;
        if (c.recompute) c.model.dropout = 0; /* with it the others are */
        RandomTokens tokens = random_tokens(&c, 1, 0.2);
        Slot s = slot_new(&c, mesh, options, MISTAKE_NONE);
        ActivationCase a = case_of(&c, s.optimizer);
        a.tensor = t;
        a.sequence_parallel = options.sequence_parallel;
        a.gather_again = options.gather_again;
        a.overlap = options.overlap_chunks > 0;
        Walk walk = walk_of(&c.model, &a, s.device);
        s.tape->observer = (TapeObserver){.done = after_op, .context = &walk};
        slot_gradient(&s, &tokens.dataset, 0);
        step_clip(&s.numbers, s.optimizer, &(NormGroups){0}, 1);
        compare(&tally, kind, &c, &a, &walk);
        slot_delete(&s);
    }
    ok_on_all(world, tally.wrong == 0, "%s: %d of %d models have the bytes of the formula on every device",
              name, tally.steps - tally.wrong, tally.steps);
}

int main(void) {
    world = ranks_world();
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    if (world->size == 1) {
        ModelConfig awkward = awkward_model(), wide = awkward, one = awkward;
        wide.T = 150, wide.V = 1000, wide.L = 2;
        one.T = 1, one.L = 1, one.V = 2, one.K = 1;
        awkward.T = 17;
        bool all = getenv("TEST_ALL") != NULL;
        test_options("few rows, three micro-batches", awkward, 2, 3, all ? 1 : 5);
        test_options("several chunks of logits", wide, 2, 1, all ? 1 : 7);
        test_options("one token, one layer", one, 1, 1, all ? 1 : 5);
        test_moments();
        test_units();
    }
    test_tensor_parallel(&mesh, (TensorParallelOptions){0}, "tensor parallel");
    test_tensor_parallel(&mesh, (TensorParallelOptions){.sequence_parallel = true}, "sequence parallel");
    test_tensor_parallel(&mesh, (TensorParallelOptions){.sequence_parallel = true, .gather_again = true},
                         "gathered again");
    test_tensor_parallel(&mesh, (TensorParallelOptions){.overlap_chunks = 3}, "overlapped");
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
