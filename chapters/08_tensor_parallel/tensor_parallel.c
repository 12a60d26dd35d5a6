#include "chapters/08_tensor_parallel/tensor_parallel.h"

#include "chapters/08_tensor_parallel/row_overlap.h"
#include "chapters/08_tensor_parallel/sequence.h"
#include "chapters/08_tensor_parallel/slices.h"
#include "chapters/08_tensor_parallel/vocabulary.h"
#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"

#include <stdlib.h>
#include <string.h>

static TensorParallel *of(const Model *m) { return m->layers_context; }
static int devices(const TensorParallel *tp) { return tp->mesh->size[MESH_TENSOR]; }
static int rank(const TensorParallel *tp) { return tp->mesh->coordinate[MESH_TENSOR]; }

/* y is computed, and x is read no more */
static Tensor *last(Tape *tape, Tensor *y, Tensor *x) {
    tape_drop(tape, x);
    return y;
}

/* ---- parameters: which slice lies here ---- */

static Param *named(Model *m, const char *name, const char *suffix, Slice slice) {
    char *full = xprintf("%s%s", name, suffix);
    Param *p = params_add_slice(&m->params, full, slice);
    free(full);
    return p;
}

/* Of each of the fused matrices, in their order along the columns, this device's piece: a fused qkv gives heads of
 * queries and as many of keys and of values, a fused gate and up the same columns of both. */
static void cut_columns(const TensorParallel *tp, const LinearPlan *plan, int parts, Slice *slice) {
    int64_t begin = 0;
    for (int i = 0; i < parts; i++) {
        int64_t share = plan->part_sizes[i] / devices(tp);
        slice_add(slice, begin + rank(tp) * share, share);
        begin += plan->part_sizes[i];
    }
}

/* Fewer key/value heads than devices: of keys and of values the one head that this device's queries ask for. */
static void cut_shared_head(const TensorParallel *tp, const Model *m, const LinearPlan *plan, Slice *slice) {
    int64_t D = m->config.C / m->config.H, begin = plan->part_sizes[0];
    for (int i = 1; i < plan->parts; i++) {
        slice_add(slice, begin + rank(tp) * m->config.K / devices(tp) * D, D);
        begin += plan->part_sizes[i];
    }
}

/* Weight and bias with these columns. */
static void add_columns(Model *m, Linear *layer, const LinearPlan *plan, Slice columns, int replica) {
    columns.whole = SHAPE(plan->in, plan->out);
    columns.axis = 1;
    layer->split = SPLIT_COLUMNS;
    layer->weight = named(m, plan->name, ".weight", columns);
    layer->weight->in_matmul = true;
    layer->weight->replica = replica;
    param_start(layer->weight, plan->start);
    if (!plan->bias) return;
    columns.whole = SHAPE(plan->out);
    columns.axis = 0;
    layer->bias = named(m, plan->name, ".bias", columns);
    layer->bias->replica = replica;
    param_start(layer->bias, (Start){START_CONSTANT, 0, 0});
}

static void column_create(Model *m, Linear *layer, const LinearPlan *plan) {
    TensorParallel *tp = of(m);
    Slice columns = {0}, shared = {0};
    bool share = tp->same_head && plan->parts == 3;
    cut_columns(tp, plan, share ? 1 : plan->parts, &columns);
    add_columns(m, layer, plan, columns, 0);
    if (!share) return;
    layer->more = xcalloc(1, sizeof *layer->more);
    cut_shared_head(tp, m, plan, &shared);
    add_columns(m, layer->more, plan, shared, tp->same_head->rank);
}

static void row_create(Model *m, Linear *layer, const LinearPlan *plan) {
    TensorParallel *tp = of(m);
    layer->split = SPLIT_ROWS;
    layer->weight =
        named(m, plan->name, ".weight", slice_share(SHAPE(plan->in, plan->out), 0, rank(tp), devices(tp)));
    layer->weight->in_matmul = true;
    param_start(layer->weight, plan->start);
    if (!plan->bias) return;
    char *name = xprintf("%s.bias", plan->name);
    layer->bias = params_add_copy(&m->params, name, SHAPE(plan->out), rank(tp));
    free(name);
    param_start(layer->bias, (Start){START_CONSTANT, 0, 0});
}

static void linear_create(Model *m, Linear *layer, const LinearPlan *plan) {
    (plan->split == SPLIT_COLUMNS ? column_create : row_create)(m, layer, plan);
}

/* Rows of the table; those of the last devices are padded: rows of zeros that no token has. */
static Param *vocabulary_create(Model *m, const char *name, Shape whole) {
    TensorParallel *tp = of(m);
    int64_t V = whole.size[0], rows = ceil_div(V, devices(tp)), first = min64(rank(tp) * rows, V);
    Slice slice = slice_of(whole, 0);
    slice_add(&slice, first, min64(V - first, rows));
    slice.size = rows;
    return named(m, name, "", slice);
}

static int64_t first_id(const Param *table) { return table->slice.first[0]; }

/* ---- linear ---- */

/* f: x, Replicate or Shard(1), for this device's columns: Private. */
static Tensor *enter(const Model *m, Tape *tape, Tensor *x) {
    bool shard = x->place[MESH_TENSOR].kind == PLACE_SHARD;
    return (shard ? op_all_gather : op_copy)(tape, of(m)->mesh, MESH_TENSOR, x);
}

/* g: the terms of this device's rows become their sum, Replicate or Shard(1). */
static Tensor *leave(const Model *m, Tape *tape, Tensor *terms, const Pass *pass) {
    Tensor *sum = pass->sequence_parallel ? op_reduce_scatter(tape, of(m)->mesh, MESH_TENSOR, terms, 1)
                                          : op_reduce(tape, of(m)->mesh, MESH_TENSOR, terms);
    return last(tape, sum, terms);
}

/* With more columns two products read what is gathered, and dx has two terms: then f is an op of its own, and its output stays
 * until backward. */
static Tensor *column_linear(Model *m, Tape *tape, const Linear *layer, Tensor *x) {
    const TensorParallelOptions *options = &of(m)->options;
    bool shard = x->place[MESH_TENSOR].kind == PLACE_SHARD;
    if (!layer->more && shard && options->gather_again)
        return op_gather_linear(tape, of(m)->mesh, MESH_TENSOR, x, layer->weight, layer->bias);
    if (!layer->more && options->overlap_chunks)
        return op_copy_linear(tape, of(m)->mesh, MESH_TENSOR, x, layer->weight, layer->bias);
    Tensor *own = enter(m, tape, x), *y = op_linear(tape, own, layer->weight, layer->bias);
    if (layer->more) {
        Tensor *q = y, *kv = op_linear(tape, own, layer->more->weight, layer->more->bias);
        y = last(tape, last(tape, op_concat(tape, q, kv), q), kv);
    }
    return last(tape, y, own);
}

static Tensor *row_linear(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    int64_t chunks = of(m)->options.overlap_chunks;
    Tensor *y = chunks ? op_linear_reduce(tape, of(m)->mesh, MESH_TENSOR, x, layer->weight, chunks)
                       : leave(m, tape, op_linear(tape, x, layer->weight, NULL), pass);
    return layer->bias ? last(tape, op_add_bias(tape, y, layer->bias), y) : y; /* to the sum: once */
}

static Tensor *linear(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    return layer->split == SPLIT_COLUMNS ? column_linear(m, tape, layer, x)
                                         : row_linear(m, tape, layer, x, pass);
}

/* ---- the two ends: a vocabulary in slices ---- */

static Tensor *norm(Model *m, Tape *tape, const Norm *layer, Tensor *x) {
    return layers_serial.norm(m, tape, layer, x);
}

static Tensor *embedding(Model *m, Tape *tape, Tensor *ids, const Pass *pass) {
    Tensor *found = op_embedding(tape, ids, m->token, first_id(m->token), NULL, 0);
    Tensor *x = leave(m, tape, found, pass);
    int64_t first = pass->first_position + pass->first_token;
    return m->position ? last(tape, op_add_position(tape, x, m->position, first), x) : x;
}

static Tensor *head_loss(Model *m, Tape *tape, Tensor *x, const Tensor *targets) {
    Tensor *own = enter(m, tape, x);
    Tensor *loss = op_vocabulary_head_loss(tape, of(m)->mesh, MESH_TENSOR, own, m->head, m->head_bias,
                                           m->head_use, targets);
    return last(tape, loss, own);
}

static Tensor *logits(Model *m, Tape *tape, Tensor *x) {
    Tensor *own = enter(m, tape, x);
    Tensor *columns = last(tape, op_logits(tape, own, m->head, m->head_bias), own);
    return last(tape, op_gather(tape, of(m)->mesh, MESH_TENSOR, columns), columns); /* behind V is padding */
}

const LayerTable layers_tensor_parallel = {linear_create, vocabulary_create, linear, norm,
                                           embedding,     head_loss,         logits};

/* ---- the model, and a pass through it ---- */

TensorParallel *tensor_parallel_new(const Mesh *mesh, const ModelConfig *model,
                                    const TensorParallelOptions *options) {
    TensorParallel *tp = xcalloc(1, sizeof *tp);
    *tp = (TensorParallel){.mesh = mesh, .options = *options, .layers = layers_tensor_parallel};
    int64_t sharing = devices(tp) / model->K; /* devices for each key/value head */
    if (sharing > 1)
        tp->same_head = comm_split_strided(mesh->axis[MESH_TENSOR], (int)sharing, 1, "key/value head");
    return tp;
}

void tensor_parallel_delete(TensorParallel *tp) {
    if (tp->same_head) comm_close(tp->same_head);
    free(tp);
}

Model *tensor_parallel_model(TensorParallel *tp, Device *device, const ModelConfig *config, uint64_t seed,
                             bool planned) {
    Model *m = model_new_of(device, config, seed, &tp->layers, tp, planned);
    m->heads = config->H / devices(tp);
    m->key_value_heads = max64(config->K / devices(tp), 1);
    for (int i = 0; i < m->params.count;
         i++) { /* norms and the position table, which the model made itself */
        Param *p = m->params.items[i];
        if (p->data.place[MESH_TENSOR].kind == PLACE_REPLICATE) p->replica = rank(tp);
    }
    return m;
}

Pass tensor_parallel_pass(const TensorParallel *tp, const ModelConfig *config, Pass pass) {
    if (!tp->options.sequence_parallel) return pass;
    pass.sequence_parallel = true;
    pass.first_token = config->T / devices(tp) * rank(tp);
    return pass;
}

/* ---- once a step: what is Partial still ---- */

static bool in_shared_head(const TensorParallel *tp, const Param *p) { /* the keys and the values of a qkv */
    return tp->same_head && p->slice.runs == 2 && strstr(p->name, ".qkv.");
}

Comm *tensor_parallel_holders(const TensorParallel *tp, const Param *p) {
    if (p->data.place[MESH_TENSOR].kind == PLACE_REPLICATE) return tp->mesh->axis[MESH_TENSOR];
    return in_shared_head(tp, p) ? tp->same_head : NULL;
}

/* The gradients of parameters that all of `comm` hold, one behind the other, become their sums. */
static void sum_gradients(const TensorParallel *tp, Comm *comm, Params *params) {
    Device *device = params->device;
    Queue *q = &device->queue;
    int64_t count = 0;
    for (int i = 0; i < params->count; i++)
        if (tensor_parallel_holders(tp, params->items[i]) == comm)
            count += tensor_count(&params->items[i]->data);
    if (count == 0) return;
    Tensor packed = tensor_new(device, MEMORY_COMMUNICATION, "gradients to sum", TYPE_REAL, SHAPE(count));
    for (int back = 0; back < 2; back++) {
        int64_t at = 0;
        if (back) comm_all_reduce(comm, q, packed.data, packed.data, count, TYPE_REAL, REDUCE_SUM);
        for (int i = 0; i < params->count; i++) {
            Param *p = params->items[i];
            if (tensor_parallel_holders(tp, p) != comm) continue;
            Tensor place = tensor_view(&packed, at, p->grad[0].shape);
            device->kernels->copy(q, back ? &place : &p->grad[0], back ? &p->grad[0] : &place);
            at += tensor_count(&place);
        }
    }
    tensor_free(&packed);
}

void tensor_parallel_finish(TensorParallel *tp, Params *params) {
    if (tp->unsummed) return;
    /* norms, row biases, positions: each device has applied them to its slice of the sequence */
    if (tp->options.sequence_parallel) sum_gradients(tp, tp->mesh->axis[MESH_TENSOR], params);
    if (tp->same_head) sum_gradients(tp, tp->same_head, params);
}

/* ---- copies ---- */

static bool same_on(Comm *comm, uint64_t hash) {
    uint64_t *all = xmalloc((size_t)comm->size * sizeof *all);
    comm_all_gather(comm, NULL, &hash, all, sizeof hash / sizeof(int32_t), TYPE_I32);
    bool same = true;
    for (int r = 1; r < comm->size; r++) same &= all[r] == all[0];
    free(all);
    return same;
}

const char *tensor_parallel_drift(const TensorParallel *tp, const Params *params) {
    int32_t first = INT32_MAX; /* among the parameters of this device */
    for (int i = 0; i < params->count; i++) {
        Comm *holders = tensor_parallel_holders(tp, params->items[i]);
        if (holders && !same_on(holders, tensor_hash(&params->items[i]->data, 0)) && i < first) first = i;
    }
    int32_t found = -first;
    comm_all_reduce(tp->mesh->world, NULL, &found, &found, 1, TYPE_I32, REDUCE_MAX);
    if (found == -INT32_MAX) return NULL;
    return first < INT32_MAX ? params->items[first]->name : "a parameter of another device";
}
