/* Parts of a model, as the stages of a pipeline have them: each parameter is in the parts that need it, starts as in the
 * whole and keeps the numbers of its blocks of squares; a model in parts computes the loss and the gradients of the whole.
 * A tied table is on both ends. Models are cut along `tensor` as well. The norm of gradients in parts, shards and slices
 * has the bits of one in one piece.
 *
 * TEST np: 1 4, all: 2 3 6 8
 * TEST variants: double, all: asan */
#define _GNU_SOURCE
#include "tests/expect_exit.h"
#include "tests/ranks.h"
#include "tests/tensor_parallel.h"
#include "tests/tensors.h"

static Comm *world, *alone; /* alone: this rank */

enum { CUTS = 4 };
typedef struct {
    const char *name;
    int stages;
    ModelPart parts[4][2]; /* (stages): those of each */
} Cut;

/* Of 3 blocks. */
static const Cut cuts[CUTS] = {
    {"alone", 1, {{{0, 3, true, true}}}},
    {"two stages", 2, {{{0, 2, true, false}}, {{2, 3, false, true}}}},
    {"stages with nothing but an end, and with nothing",
     4,
     {{{0, 0, true, false}}, {{0, 3, false, false}}, {{3, 3, false, false}}, {{3, 3, false, true}}}},
    {"down and up again",
     2,
     {{{0, 1, true, false}, {2, 3, false, true}}, {{1, 1, false, false}, {1, 2, false, false}}}},
};

static Model *planned_model(Device *device, const ModelConfig *config) {
    Model *m = model_new_of(device, config, 7, &layers_serial, NULL, true);
    start_anywhere(&m->params);
    return m;
}

static const Param *named(const Params *params, const char *name) {
    for (int i = 0; i < params->count; i++)
        if (!strcmp(params->items[i]->name, name)) return params->items[i];
    return NULL;
}

static bool has_end(const Cut *cut, int stage, bool head) {
    const ModelPart *p = cut->parts[stage];
    return head ? p[0].head || p[1].head : p[0].embedding || p[1].embedding;
}

/* By its name alone. */
static bool belongs(const Cut *cut, int stage, const char *name, bool tied) {
    bool embedding = has_end(cut, stage, false), head = has_end(cut, stage, true);
    if (!strncmp(name, "blocks.", 7)) {
        int64_t l = name[7] - '0';
        const ModelPart *p = cut->parts[stage];
        return (l >= p[0].from && l < p[0].to) || (l >= p[1].from && l < p[1].to);
    }
    if (!strcmp(name, "token.weight")) return embedding || (head && tied);
    if (!strncmp(name, "position", 8)) return embedding;
    return head; /* norm_final, head */
}

/* ---- which parameters, and what they know ---- */

static bool same_start(const Param *a, const Param *b) {
    real x[8], y[8];
    int64_t count = min64(8, tensor_count(&a->data));
    param_start_values(a, 0, count, x);
    param_start_values(b, 0, count, y);
    return tensor_count(&a->data) == tensor_count(&b->data) && !memcmp(x, y, (size_t)count * sizeof *x);
}

/* The parameters of the whole in their order, and nothing else. blocks: the first block of squares of each. */
static bool right_parameters(const Cut *cut, int stage, const Params *part, const Params *all, bool tied) {
    int at = 0;
    int64_t block = 0;
    bool right = true;
    for (int i = 0; i < all->count; i++) {
        const Param *want = all->items[i];
        if (belongs(cut, stage, want->name, tied)) {
            const Param *p = at < part->count ? part->items[at++] : NULL;
            right &= p && !strcmp(p->name, want->name) && p->first_block == block && same_start(p, want);
        }
        block += ceil_div(tensor_count(&want->data), 1024);
    }
    return right && at == part->count && part->square_blocks == block;
}

/* How a tied table is counted where it is. */
static bool right_table(const Cut *cut, int stage, const Model *part) {
    bool embedding = has_end(cut, stage, false), head = has_end(cut, stage, true);
    const Param *p = named(&part->params, "token.weight");
    if (!embedding && !head) return !p && !part->token && !part->head;
    return p->uses == embedding + head && p->replica == !embedding && p->in_matmul == head &&
           part->head_use == (embedding && head) && part->token == (embedding ? p : NULL) &&
           part->head == (head ? p : NULL);
}

static void test_parameters(const ModelConfig *config, const char *what) {
    for (int c = 0; c < CUTS; c++) {
        const Cut *cut = &cuts[c];
        Model *all = planned_model(NULL, config);
        double flops = 0;
        int64_t matmul = 0;
        bool right = true, table = true;
        for (int s = 0; s < cut->stages; s++) {
            Model *part = planned_model(NULL, config);
            model_keep(part, cut->parts[s], 2);
            right &= right_parameters(cut, s, &part->params, &all->params, config->tied);
            table &= !config->tied || right_table(cut, s, part);
            flops += model_flops_per_token(part);
            matmul += params_matmul_count(&part->params);
            model_delete(part);
        }
        ok_on_all(world, right, "%s, %s: each part has its parameters, with the numbers of the whole", what,
                  cut->name);
        ok_on_all(world, table, "%s, %s: the table of words", what, cut->name);
        ok_on_all(world, flops == model_flops_per_token(all) && matmul == params_matmul_count(&all->params),
                  "%s, %s: FLOPs and weights in products add up to those of the whole", what, cut->name);
        model_delete(all);
    }
}

/* ---- what a part cannot do ends the program ---- */

static void run_block_elsewhere(void *argument) {
    (void)argument;
    ModelConfig config = awkward_model();
    Device *device = device_new_cpu(0);
    Model *m = planned_model(device, &config);
    model_keep(m, cuts[1].parts[1], 2);
    Tape *tape = tape_new(device, true);
    Tensor *x = tape_tensor(tape, "x", TYPE_REAL, SHAPE(1, 1, config.C), NULL);
    model_blocks(m, tape, x, 1, 2, &(Pass){0});
}

/* ---- a model in parts computes what the whole does ---- */

typedef struct {
    bool halves, recompute;
    int zero_stage;
} Way;
static const Way ways[] = {{false, false, 0}, {true, false, 0}, {true, true, 0}, {true, true, 3}};

typedef struct {
    Model *model;
    Fsdp *fsdp; /* gives it memory */
    Tape *tape;
    Tensor *in, *out, seed;
} Stage;

static Stage stage_new(Device *device, const ModelConfig *config, const ModelPart *parts, Way way) {
    Stage s = {.model = planned_model(device, config), .tape = tape_new(device, true)};
    if (parts) model_keep(s.model, parts, 2);
    s.model->recompute = way.recompute;
    s.fsdp = fsdp_new(&s.model->params, &(FsdpOptions){.stage = way.zero_stage, .shards = alone});
    return s;
}

static void stage_delete(Stage *s) {
    tape_delete(s->tape);
    fsdp_delete(s->fsdp);
    model_delete(s->model);
}

static Tensor *copy_leaf(Tape *tape, const Tensor *from) {
    Tensor *leaf = tape_tensor(tape, "from another part", TYPE_REAL, from->shape, NULL);
    KERNELS(tape)->copy(QUEUE(tape), from, leaf);
    return leaf;
}

/* Where a stage has two parts, the second one is not run here: its gradients would need two tapes. */
static double run_parts(const Cut *cut, Stage *stages, const Batch *batch, Tensor *seed, Way way) {
    Pass pass = {.training = true};
    double loss = 0;
    for (int s = 0; s < cut->stages; s++) {
        Stage *stage = &stages[s];
        const ModelPart *part = cut->parts[s];
        Tape *tape = stage->tape;
        fsdp_begin(stage->fsdp);
        if (part->embedding)
            stage->out = model_embed(stage->model, tape, (Tensor *)(uintptr_t)&batch->ids, &pass);
        else
            stage->out = stage->in = copy_leaf(tape, stages[s - 1].out);
        stage->out = model_blocks(stage->model, tape, stage->out, part->from, part->to, &pass);
        if (!part->head) continue;
        stage->out = model_loss(stage->model, tape, stage->out, &batch->targets);
        loss = tensor_scalar(stage->out);
    }
    for (int s = cut->stages; s-- > 0;) {
        Tensor *gradient = s + 1 == cut->stages ? seed : stages[s + 1].in->grad;
        (way.halves ? tape_backward_inputs : tape_backward)(stages[s].tape, stages[s].out, gradient);
    }
    for (int s = 0; s < cut->stages; s++) {
        if (way.halves) tape_backward_params(stages[s].tape);
        fsdp_finish(stages[s].fsdp);
    }
    return loss;
}

/* The gradients of all parts, those of a tied table added up, are those of the whole. */
static bool same_gradients(const Cut *cut, const Stage *stages, const Params *whole) {
    bool same = true;
    for (int i = 0; i < whole->count; i++) {
        const Param *want = whole->items[i], *found = NULL;
        for (int s = 0; s < cut->stages; s++) {
            const Param *p = named(fsdp_params(stages[s].fsdp), want->name);
            if (!p) continue;
            if (found)
                p->data.device->kernels->accumulate(&p->data.device->queue, &p->grad[0],
                                                    (Tensor *)(uintptr_t)&found->grad[0]);
            else
                found = p;
        }
        same &= found && same_elements(&found->grad[0], &want->grad[0]);
    }
    return same;
}

static void test_runs(const ModelConfig *config, const char *what) {
    for (int k = 0; k < (CUTS - 1) * COUNT_OF(ways); k++) {
        const Cut *cut = &cuts[k % (CUTS - 1)];
        Way way = ways[k / (CUTS - 1)];
        Device *device = device_new_cpu(0);
        Config settings = *config_preset("tiny");
        settings.model = *config;
        RandomTokens data = random_tokens(&settings, 1, 0.2);
        Batch batch = batch_new(device, 2, config->T);
        batch_load(&batch, &data.dataset, SPLIT_TRAIN, 0);
        Tensor seed = tensor_new(device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
        tensor_set_scalar(&seed, 1 / (double)batch.real);

        Stage whole = stage_new(device, config, NULL, ways[0]),
              *stages = xcalloc((size_t)cut->stages, sizeof *stages);
        for (int s = 0; s < cut->stages; s++) stages[s] = stage_new(device, config, cut->parts[s], way);
        double want = run_parts(&cuts[0], &whole, &batch, &seed, ways[0]);
        double loss = run_parts(cut, stages, &batch, &seed, way);
        ok_on_all(world, loss == want && same_gradients(cut, stages, &whole.model->params),
                  "%s, %s%s%s, stage %d: the loss and the gradients of the whole", what, cut->name,
                  way.halves ? ", in halves" : "", way.recompute ? ", recomputed" : "", way.zero_stage);
        stage_delete(&whole);
        for (int s = 0; s < cut->stages; s++) stage_delete(&stages[s]);
        free(stages);
        tensor_free(&seed);
        batch_free(&batch);
        device_delete(device);
    }
}

/* ---- cut along `tensor` as well ---- */

static void test_cut_model(int which) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    const char *what;
    ModelConfig config = model_of(which, world->size, &what);
    config.L = 3;
    TensorParallel *tp = tensor_parallel_new(&mesh, &config, &(TensorParallelOptions){0});
    for (int c = 0; c < CUTS; c++) {
        const Cut *cut = &cuts[c];
        Model *all = tensor_parallel_model(tp, NULL, &config, 7, true);
        bool right = true;
        for (int s = 0; s < cut->stages; s++) {
            Model *part = tensor_parallel_model(tp, NULL, &config, 7, true);
            model_keep(part, cut->parts[s], 2);
            right &= right_parameters(cut, s, &part->params, &all->params, config.tied);
            right &= !config.tied || right_table(cut, s, part);
            model_delete(part);
        }
        ok_on_all(world, right, "%s over %d devices, %s: each part has its slices", what, world->size,
                  cut->name);
        model_delete(all);
    }
    tensor_parallel_delete(tp);
    mesh_close(&mesh);
}

/* ---- the norm of gradients that stages, shards and slices hold ---- */

/* Gradients that each element has by its name and its place in the whole: what it starts as. */
static double norm_of(Params *params, const NormGroups *groups) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        int64_t count = tensor_count(&p->data);
        real *values = xmalloc((size_t)count * sizeof *values);
        param_start_values(p, 0, count, values);
        tensor_write(&p->grad[0], 0, count, values);
        free(values);
    }
    Config c = *config_preset("tiny");
    c.optimizer = OPTIMIZER_SGD;
    Optimizer *o = optimizer_new(params, &c);
    double norm = optimizer_grad_norm_among(o, groups);
    optimizer_delete(o);
    return norm;
}

static Comm *others(const Mesh *mesh, MeshAxis along) {
    return mesh->size[along] > 1 ? mesh->axis[along] : NULL;
}

/* part NULL: the whole model, on devices that have the same slice. */
static double norm_on(const Mesh *mesh, TensorParallel *tp, const ModelConfig *config, const ModelPart *part,
                      int zero_stage) {
    Device *device = device_new_cpu(0);
    Model *m = tensor_parallel_model(tp, device, config, 7, true);
    start_anywhere(&m->params);
    if (part) model_keep(m, part, 1);
    Fsdp *f = fsdp_new(&m->params,
                       &(FsdpOptions){.stage = zero_stage, .shards = part ? mesh->axis[MESH_DATA] : alone});
    NormGroups groups = {.slices = others(mesh, MESH_TENSOR)};
    if (part) groups.stages = others(mesh, MESH_PIPE);
    if (zero_stage > 0) groups.shards = others(mesh, MESH_DATA);
    double norm = norm_of(fsdp_params(f), &groups);
    fsdp_delete(f);
    model_delete(m);
    device_delete(device);
    return norm;
}

static void test_norm(int d, int p, int t) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){d, p, t});
    int s = mesh.coordinate[MESH_PIPE];
    for (int which = 0; which < MODELS; which++) {
        const char *what;
        ModelConfig config = model_of(which, t, &what);
        config.L = p < 4 ? 3 : 2; /* of 4 stages two have no blocks, and one of them nothing at all */
        TensorParallel *tp = tensor_parallel_new(&mesh, &config, &(TensorParallelOptions){0});
        ModelPart part = {config.L * s / p, config.L * (s + 1) / p, s == 0, s == p - 1};
        double want = norm_on(&mesh, tp, &config, NULL, 0);
        bool same = true;
        for (int zero_stage = 0; zero_stage <= 3; zero_stage++)
            same &= norm_on(&mesh, tp, &config, &part, zero_stage) == want;
        ok_on_all(world, same && want > 0, "%d x %d x %d, %s: the norm has the bits of a model in one piece",
                  d, p, t, what);
        tensor_parallel_delete(tp);
    }
    mesh_close(&mesh);
}

int main(void) {
    /* before there are ranks: a child of this process meets the error */
    Exit elsewhere = expect_exit(run_block_elsewhere, NULL);
    world = ranks_world();
    alone = comm_self();
    ok_on_all(world, refused(&elsewhere, 1, "model_has_block"), "a block that is not here does not run: %s",
              elsewhere.text);
    ModelConfig pre = awkward_model(), post = awkward_post_norm_model(), tied = awkward_post_norm_model();
    tied.tied = true;
    tied.norm_place = NORM_PRE;
    test_parameters(&pre, "rotary positions");
    test_parameters(&post, "post-norm, learned positions");
    test_parameters(&tied, "tied");
    if (world->rank == 0) {
        Comm *all = world;
        world = alone;
        test_runs(&pre, "rotary positions");
        test_runs(&post, "post-norm, learned positions");
        test_runs(&tied, "tied");
        world = all;
    }
    for (int which = 0; which < MODELS; which++) test_cut_model(which);
    for (int p = 1; p <= world->size; p++)
        for (int t = 1; world->size % p == 0 && t <= world->size / p; t++)
            if (world->size / p % t == 0) test_norm(world->size / p / t, p, t);
    comm_close(alone);
    comm_close(world);
    return tap_done();
}
