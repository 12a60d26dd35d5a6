/* What tensor parallelism moves, exactly as the formulas say, forward and backward apart: in a layer two all-reduces of
 * b s h numbers each way; with sequence parallel as many all-gathers and reduce-scatters, which move the same, and two
 * all-gathers more in backward where columns gather again; for the cross-entropy 3 b s. And text from a model that is cut:
 * the tokens of one device.
 *
 * TEST np: 1 4, all: 2 3 6 8
 * TEST variants: float double */
#include "common/model/generate.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"
#include "tests/tensor_parallel.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;

/* ---- bytes ---- */

enum { KINDS = 3 };
static const CommKind kinds[KINDS] = {COMM_ALL_REDUCE, COMM_ALL_GATHER, COMM_REDUCE_SCATTER};
typedef struct {
    double calls[KINDS],
        numbers[KINDS]; /* numbers: S of the formula 2 (n-1) S or (n-1) S, all calls together */
} Moved;

/* By all devices along the axis since `before`, which becomes now. */
static Moved moved(Comm *comm, CommCount before[COMM_KINDS]) {
    Moved m;
    for (int k = 0; k < KINDS; k++) {
        CommCount *was = &before[kinds[k]], now = comm->counts[kinds[k]];
        double bytes = (double)(now.bytes - was->bytes);
        m.calls[k] = (double)(now.calls - was->calls);
        *was = now;
        comm_all_reduce(comm, NULL, &bytes, &bytes, 1, TYPE_F64, REDUCE_SUM);
        double links = (comm->size - 1) * (kinds[k] == COMM_ALL_REDUCE ? 2 : 1) * (double)sizeof(real);
        m.numbers[k] = links > 0 ? bytes / links : 0;
    }
    memcpy(before, comm->counts, sizeof comm->counts); /* with what was said here */
    return m;
}

static void is(const char *name, const Moved *m, int kind, double calls, double numbers) {
    if (world->size == 1) numbers = 0;
    ok_on_all(world, m->calls[kind] == calls && m->numbers[kind] == numbers,
              "%s: %.0f %s, %.0f of %.0f numbers", name, m->calls[kind], comm_kind_names[kinds[kind]],
              m->numbers[kind], numbers);
}

static void test_bytes(const Mesh *mesh, int which, TensorParallelOptions options) {
    bool sequence_parallel = options.sequence_parallel;
    const char *kind;
    ModelConfig model = model_of(which, mesh->size[MESH_TENSOR], &kind);
    Config c = config_of(&model, 1);
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    Slot s = slot_new(&c, mesh, options, MISTAKE_NONE);
    tensor_set_scalar(&s.seed, 1);
    batch_load(&s.batch, &tokens.dataset, SPLIT_TRAIN, 0);
    Batch part = batch_rows(&s.batch, 0, c.micro_batch);
    Pass pass = tensor_parallel_pass(s.tp, &model, (Pass){.training = true});
    double bsh = (double)(c.micro_batch * model.T * model.C), bs = (double)(c.micro_batch * model.T),
           layers = 2 * (double)model.L;
    CommCount before[COMM_KINDS];
    Comm *comm = mesh->axis[MESH_TENSOR];
    memcpy(before, comm->counts, sizeof before);

    Tensor *x = model_embed(s.model, s.tape, &part.ids, &pass);
    Moved embedding = moved(comm, before);
    x = model_blocks(s.model, s.tape, x, 0, model.L, &pass);
    Moved blocks = moved(comm, before);
    Tensor *loss = model_loss(s.model, s.tape, x, &part.targets);
    Moved head = moved(comm, before);
    tape_backward(s.tape, loss, &s.seed);
    Moved back = moved(comm, before);
    tape_reset(s.tape);

    char name[128];
#define NAME(part)                                                                                           \
    (snprintf(name, sizeof name, "%s%s: " part, kind,                                                        \
              options.gather_again ? ", gathered again"                                                      \
              : sequence_parallel  ? ", sequence"                                                            \
                                   : ""),                                                                     \
     name)
    double reduces = sequence_parallel ? 0 : 1, cuts = 1 - reduces;
    /* in backward for dW: of qkv, unless it is two products, and of ffn_up */
    double again = options.gather_again ? (double)model.L * (s.tp->same_head ? 1 : 2) : 0;
    is(NAME("embedding"), &embedding, 0, reduces, reduces * bsh);
    is(NAME("embedding"), &embedding, 2, cuts, cuts * bsh);
    is(NAME("blocks"), &blocks, 0, reduces * layers, reduces * layers * bsh);
    is(NAME("blocks"), &blocks, 1, cuts * layers, cuts * layers * bsh);
    is(NAME("blocks"), &blocks, 2, cuts * layers, cuts * layers * bsh);
    is(NAME("head and loss"), &head, 0, 2, 3 * bs);
    is(NAME("head and loss"), &head, 1, cuts, cuts * bsh);
    is(NAME("backward"), &back, 0, reduces * (layers + 1), reduces * (layers + 1) * bsh);
    is(NAME("backward"), &back, 1, cuts * (layers + 1) + again, (cuts * (layers + 1) + again) * bsh);
    is(NAME("backward"), &back, 2, cuts * (layers + 1), cuts * (layers + 1) * bsh);
#undef NAME
    slot_delete(&s);
}

/* ---- text ---- */

enum { PROMPT = 3 };

/* Tokens behind a prompt, from caches of keys and values: tokens (T). */
static void continue_text(Model *m, int32_t *tokens) {
    const ModelConfig *c = &m->config;
    KeyValueCache *caches = xcalloc((size_t)c->L, sizeof *caches);
    Shape shape = SHAPE(c->T, m->key_value_heads * (c->C / c->H));
    for (int64_t l = 0; l < c->L; l++) {
        caches[l].keys = tensor_new(m->device, MEMORY_ACTIVATIONS, "keys", TYPE_REAL, shape);
        caches[l].values = tensor_new(m->device, MEMORY_ACTIVATIONS, "values", TYPE_REAL, shape);
    }
    Tape *tape = tape_new(m->device, false);
    real *logits = xmalloc((size_t)c->V * sizeof *logits);
    Rng rng = {5, rng_stream("sample"), 0};
    for (int64_t done = 0, count = PROMPT; count < c->T; done = count++) {
        Tensor *ids = tape_tensor(tape, "ids", TYPE_I32, SHAPE(1, count - done), NULL);
        tensor_write(ids, 0, count - done, tokens + done);
        for (int64_t l = 0; l < c->L; l++) caches[l].count = done;
        Pass pass = {.first_position = done, .caches = caches};
        Tensor *x = model_blocks(m, tape, model_embed(m, tape, ids, &pass), 0, c->L, &pass);
        Tensor last = tensor_view(x, (count - done - 1) * c->C, SHAPE(1, 1, c->C));
        tensor_read(model_logits(m, tape, &last), 0, c->V, logits);
        tokens[count] = sample_token(logits, c->V, &(Sampling){.temperature = 1, .top_p = 1}, rng_next(&rng));
        tape_reset(tape);
    }
    for (int64_t l = 0; l < c->L; l++) {
        tensor_free(&caches[l].keys);
        tensor_free(&caches[l].values);
    }
    free(caches);
    free(logits);
    tape_delete(tape);
}

static void test_text(const Mesh *mesh, int which) {
    const char *kind;
    ModelConfig model = model_of(which, mesh->size[MESH_TENSOR], &kind);
    model.init_deviation = 0.5; /* so that what comes depends on what came */
    Config c = config_of(&model, 1);
    model.T = c.model.T = 40;
    Slot s = slot_new(&c, mesh, (TensorParallelOptions){0}, MISTAKE_NONE);
    Device *device = device_new_cpu(0);
    Model *alone = model_new(device, &model, c.seed, &layers_serial);
    start_anywhere(&alone->params);
    int32_t one[40] = {1, 2, 3}, all[40] = {1, 2, 3}, distinct = 0;
    continue_text(alone, one);
    continue_text(s.model, all);
    for (int i = PROMPT + 1; i < 40; i++) distinct += one[i] != one[i - 1];
    ok_on_all(world, !memcmp(one, all, sizeof one), "%s: the tokens of one device, %d times another one",
              kind, (int)distinct);
    model_delete(alone);
    device_delete(device);
    slot_delete(&s);
}

int main(void) {
    world = ranks_world();
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    for (int which = 0; which < MODELS; which++) {
        test_bytes(&mesh, which, (TensorParallelOptions){0});
        test_bytes(&mesh, which, (TensorParallelOptions){.sequence_parallel = true});
        test_bytes(&mesh, which, (TensorParallelOptions){.sequence_parallel = true, .gather_again = true});
        test_text(&mesh, which);
    }
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
