#include "common/model/model.h"

#include "common/tensor/kernels.h"
#include "common/base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- what parameters start as ---- */

static Start constant(double value) { return (Start){START_CONSTANT, value, 0}; }

static Start normal(const Model *m, double deviation) { return (Start){START_NORMAL, deviation, m->seed}; }

/* Glorot & Bengio 2010 */
static Start xavier(const Model *m, int64_t in, int64_t out) {
    return (Start){START_UNIFORM, sqrt(6.0 / (double)(in + out)), m->seed};
}

static Start linear_start(const Model *m, const LinearPlan *plan) {
    if (m->config.init == INIT_XAVIER)
        return xavier(m, plan->in, plan->part_sizes[0]); /* of fused parts, the first: the queries */
    bool into_residual = plan->split == SPLIT_ROWS; /* Radford et al. 2019: the stream sums 2 L of these */
    return normal(m, m->config.init_deviation / (into_residual ? sqrt(2.0 * (double)m->config.L) : 1));
}

static Start table_start(const Model *m) {
    return normal(m,
                  m->config.init == INIT_XAVIER ? 1 / sqrt((double)m->config.C) : m->config.init_deviation);
}

static Param *add_param(Model *m, const char *prefix, const char *suffix, Shape shape, Start start) {
    char *name = xprintf("%s%s", prefix, suffix);
    Param *p = params_add(&m->params, name, shape);
    free(name);
    param_start(p, start);
    return p;
}

static Norm add_norm(Model *m, const char *name) {
    Norm norm = {add_param(m, name, ".weight", SHAPE(m->config.C), constant(1)), NULL};
    if (m->config.norm == NORM_LAYERNORM && m->config.bias)
        norm.bias = add_param(m, name, ".bias", SHAPE(m->config.C), constant(0));
    return norm;
}

/* ---- the layers of one device ---- */

static void linear_create(Model *m, Linear *layer, const LinearPlan *plan) {
    layer->split = plan->split;
    layer->weight = add_param(m, plan->name, ".weight", SHAPE(plan->in, plan->out), plan->start);
    layer->weight->in_matmul = true;
    if (plan->bias) layer->bias = add_param(m, plan->name, ".bias", SHAPE(plan->out), constant(0));
}

static Param *vocabulary_create(Model *m, const char *name, Shape whole) {
    return params_add(&m->params, name, whole);
}

static Tensor *linear(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    (void)m;
    (void)pass;
    return op_linear(tape, x, layer->weight, layer->bias);
}

static Tensor *norm(Model *m, Tape *tape, const Norm *layer, Tensor *x) {
    if (m->config.norm == NORM_RMSNORM) return op_rmsnorm(tape, x, layer->gain, m->config.norm_eps);
    return op_layernorm(tape, x, layer->gain, layer->bias, m->config.norm_eps);
}

static Tensor *embedding(Model *m, Tape *tape, Tensor *ids, const Pass *pass) {
    return op_embedding(tape, ids, m->token, 0, m->position, pass->first_position);
}

static Tensor *head_loss(Model *m, Tape *tape, Tensor *x, const Tensor *targets) {
    return op_head_loss(tape, x, m->head, m->head_bias, m->head_use, targets);
}

static Tensor *logits(Model *m, Tape *tape, Tensor *x) { return op_logits(tape, x, m->head, m->head_bias); }

const LayerTable layers_serial = {linear_create, vocabulary_create, linear, norm,
                                  embedding,     head_loss,         logits};

/* ---- building ---- */

static void add_linear(Model *m, Linear *layer, LinearPlan plan) {
    plan.start = linear_start(m, &plan);
    plan.bias = m->config.bias;
    for (int i = 0; i < plan.parts; i++) plan.out += plan.part_sizes[i];
    m->layers->linear_create(m, layer, &plan);
}

static void add_block(Model *m, int64_t l) {
    const ModelConfig *c = &m->config;
    Block *block = &m->blocks[l];
    int64_t D = c->C / c->H, C = c->C, F = c->F;
    int gates = c->activation == ACTIVATION_SWIGLU ? 2 : 1;
    char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blocks.%" PRId64 "." part, l), name)
    block->norm1 = add_norm(m, NAME("norm1"));
    add_linear(m, &block->qkv,
               (LinearPlan){.name = NAME("qkv"),
                            .in = C,
                            .parts = 3,
                            .part_sizes = {c->H * D, c->K * D, c->K * D},
                            .split = SPLIT_COLUMNS});
    add_linear(m, &block->attention_out,
               (LinearPlan){.name = NAME("attention_out"),
                            .in = c->H * D,
                            .parts = 1,
                            .part_sizes = {C},
                            .split = SPLIT_ROWS});
    block->norm2 = add_norm(m, NAME("norm2"));
    add_linear(
        m, &block->ffn_up,
        (LinearPlan){
            .name = NAME("ffn_up"), .in = C, .parts = gates, .part_sizes = {F, F}, .split = SPLIT_COLUMNS});
    add_linear(
        m, &block->ffn_down,
        (LinearPlan){.name = NAME("ffn_down"), .in = F, .parts = 1, .part_sizes = {C}, .split = SPLIT_ROWS});
#undef NAME
}

static Param *add_vocabulary(Model *m, const char *name, Shape whole, Start start) {
    Param *p = m->layers->vocabulary_create(m, name, whole);
    param_start(p, start);
    return p;
}

static Tensor rope_table_new(Device *device, int64_t T, int64_t D) {
    Tensor table = tensor_new(device, MEMORY_ACTIVATIONS, "rope table", TYPE_REAL, SHAPE(T, D));
    if (device->queue.dry) return table;
    real *values = xmalloc((size_t)tensor_bytes(&table));
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < D / 2; i++) {
            double angle = (double)t * pow(10000.0, -2.0 * (double)i / (double)D);
            values[t * D + i] = (real)cos(angle);
            values[t * D + D / 2 + i] = (real)sin(angle);
        }
    }
    tensor_write(&table, 0, T * D, values);
    free(values);
    return table;
}

ElementType model_type(const ModelConfig *config) {
    return config->dtype == DTYPE_BF16 ? TYPE_BF16 : TYPE_REAL;
}

Model *model_new_of(Device *device, const ModelConfig *config, uint64_t seed, const LayerTable *layers,
                    void *layers_context, bool planned) {
    Model *m = xcalloc(1, sizeof *m);
    m->config = *config;
    m->seed = seed;
    m->device = m->params.device = device;
    m->params.planned = planned;
    m->params.type = model_type(config);
    m->layers = layers;
    m->layers_context = layers_context;
    m->heads = config->H;
    m->key_value_heads = config->K;
    m->token = add_vocabulary(m, "token.weight", SHAPE(config->V, config->C), table_start(m));
    if (config->positions == POSITIONS_LEARNED)
        m->position = add_param(m, "position", ".weight", SHAPE(config->T, config->C), table_start(m));
    else if (device)
        m->rope_table = rope_table_new(device, config->T, config->C / config->H);
    m->blocks = xcalloc((size_t)config->L, sizeof *m->blocks);
    m->first_param = xcalloc((size_t)config->L + 1, sizeof *m->first_param);
    for (int64_t l = 0; l < config->L; l++) {
        m->first_param[l] = m->params.count;
        add_block(m, l);
    }
    m->first_param[config->L] = m->params.count;
    if (config->norm_place == NORM_PRE) m->norm_final = add_norm(m, "norm_final");
    if (config->tied) {
        m->head = m->token;
        m->token->uses = 2; /* 0: the look-up, 1: the head */
        m->head_use = 1;
    } else {
        Start start =
            config->init == INIT_XAVIER ? xavier(m, config->C, config->V) : normal(m, config->init_deviation);
        m->head = add_vocabulary(m, "head.weight", SHAPE(config->V, config->C), start);
    }
    m->head->in_matmul = true;
    if (config->bias && !config->tied)
        m->head_bias = add_vocabulary(m, "head.bias", SHAPE(config->V), constant(0));
    return m;
}

Model *model_new(Device *device, const ModelConfig *config, uint64_t seed, const LayerTable *layers) {
    return model_new_of(device, config, seed, layers, NULL, false);
}

void model_delete(Model *m) {
    params_free(&m->params);
    if (m->rope_table.data) tensor_free(&m->rope_table);
    for (int64_t l = 0; l < m->config.L; l++) free(m->blocks[l].qkv.more);
    free(m->blocks);
    free(m->first_param);
    free(m);
}

/* ---- running ---- */

/* y = f(x) where x is read no more */
static Tensor *last(Tape *tape, Tensor *y, Tensor *x) {
    if (y != x) tape_drop(tape, x);
    return y;
}

/* The residual dropout of branch 0 (attention) or 1 (ffn) in block l. */
static Tensor *drop(Model *m, Tape *tape, Tensor *x, int64_t l, int branch, const Pass *pass) {
    if (!pass->training || m->config.dropout == 0) return x;
    char name[64];
    snprintf(name, sizeof name, "dropout.%" PRId64 ".%s", l, branch ? "ffn" : "attention");
    int64_t C = m->config.C, window = m->config.T * C;
    return op_dropout(tape, x,
                      (DropoutSite){.rate = m->config.dropout,
                                    .seed = m->seed,
                                    .stream = rng_stream(name),
                                    .first = pass->first_sample * window + pass->first_token * C,
                                    .window = window});
}

static Tensor *attention(Model *m, Tape *tape, Tensor *x, int64_t l, const Pass *pass) {
    const Block *block = &m->blocks[l];
    int64_t H = m->heads, K = m->key_value_heads;
    Tensor *qkv = m->layers->linear(m, tape, &block->qkv, x, pass);
    if (m->config.positions == POSITIONS_ROPE)
        qkv = last(tape, op_rope(tape, qkv, &m->rope_table, H, K, pass->first_position), qkv);
    Tensor *out =
        pass->caches ? op_attention_cached(tape, qkv, H, K, &pass->caches[l]) : op_attention(tape, qkv, H, K);
    tape_drop(tape, qkv);
    out = last(tape, m->layers->linear(m, tape, &block->attention_out, out, pass), out);
    return last(tape, drop(m, tape, out, l, 0, pass), out);
}

static Tensor *ffn(Model *m, Tape *tape, Tensor *x, int64_t l, const Pass *pass) {
    const Block *block = &m->blocks[l];
    Tensor *h = m->layers->linear(m, tape, &block->ffn_up, x, pass);
    Activation a = m->config.activation;
    h = last(tape,
             a == ACTIVATION_RELU   ? op_relu(tape, h)
             : a == ACTIVATION_GELU ? op_gelu(tape, h)
                                    : op_swiglu(tape, h),
             h);
    h = last(tape, m->layers->linear(m, tape, &block->ffn_down, h, pass), h);
    return last(tape, drop(m, tape, h, l, 1, pass), h);
}

static Tensor *add(Tape *tape, Tensor *x, Tensor *branch) {
    Tensor *y = op_add(tape, x, branch);
    tape_drop(tape, branch);
    tape_drop(tape, x);
    return y;
}

static Tensor *run_block(Model *m, Tape *tape, Tensor *x, int64_t l, const Pass *pass) {
    const LayerTable *layers = m->layers;
    const Block *block = &m->blocks[l];
    if (m->config.norm_place == NORM_PRE) {
        Tensor *h = layers->norm(m, tape, &block->norm1, x);
        x = add(tape, x, last(tape, attention(m, tape, h, l, pass), h));
        h = layers->norm(m, tape, &block->norm2, x);
        return add(tape, x, last(tape, ffn(m, tape, h, l, pass), h));
    }
    x = add(tape, x, attention(m, tape, x, l, pass));
    x = last(tape, layers->norm(m, tape, &block->norm1, x), x);
    x = add(tape, x, ffn(m, tape, x, l, pass));
    return last(tape, layers->norm(m, tape, &block->norm2, x), x);
}

typedef struct {
    Model *model;
    int64_t block;
    Pass pass;
} BlockContext;

static Tensor *block_segment(void *context, Tape *tape, Tensor *x) {
    const BlockContext *c = context;
    return run_block(c->model, tape, x, c->block, &c->pass);
}

Tensor *model_embed(Model *m, Tape *tape, Tensor *ids, const Pass *pass) {
    ASSERT(m->token);
    if (m->before_pass) m->before_pass(m->pass_context);
    return m->layers->embedding(m, tape, ids, pass);
}

Tensor *model_blocks(Model *m, Tape *tape, Tensor *x, int64_t from, int64_t to, const Pass *pass) {
    for (int64_t l = from; l < to; l++) {
        ASSERT(model_has_block(m, l));
        if (m->recompute && tape->recording) {
            BlockContext context = {m, l, *pass};
            x = last(tape, op_recompute(tape, x, block_segment, &context, sizeof context), x);
        } else {
            x = run_block(m, tape, x, l, pass);
        }
    }
    return x;
}

static Tensor *final_norm(Model *m, Tape *tape, Tensor *x) {
    ASSERT(m->head);
    if (m->config.norm_place == NORM_POST) return x; /* the last block ended in one */
    return last(tape, m->layers->norm(m, tape, &m->norm_final, x), x);
}

Tensor *model_loss(Model *m, Tape *tape, Tensor *x, const Tensor *targets) {
    x = final_norm(m, tape, x);
    return last(tape, m->layers->head_loss(m, tape, x, targets), x);
}

Tensor *model_logits(Model *m, Tape *tape, Tensor *x) {
    x = final_norm(m, tape, x);
    return last(tape, m->layers->logits(m, tape, x), x);
}

/* ---- about the model ---- */

double model_flops_per_token(const Model *m) {
    const ModelConfig *c = &m->config;
    int64_t blocks = 0;
    for (int64_t l = 0; l < c->L; l++) blocks += model_has_block(m, l);
    return 6.0 * (double)params_matmul_count(&m->params) + 6.0 * (double)blocks * (double)c->C * (double)c->T;
}

void model_print(const Model *m, FILE *out) {
    for (int i = 0; i < m->params.count; i++) {
        const Tensor *t = &m->params.items[i]->data;
        fprintf(out, "%-32s %-16s %12" PRId64 "\n", t->name, shape_text(t->shape).text, tensor_count(t));
    }
    int64_t count = params_count(&m->params);
    fprintf(out, "%" PRId64 " parameters, %" PRId64 " of them in matrix products, %" PRId64 " bytes\n", count,
            params_matmul_count(&m->params), count * element_bytes(TYPE_REAL));
}
