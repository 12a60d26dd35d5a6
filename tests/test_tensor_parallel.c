/* A model cut over the mesh's axis `tensor` trains as on one device: raw gradients (each tensor gathered and named),
 * losses, norms and, after 20 steps of SGD, every parameter, for every option of the model, with and without sequence
 * parallel, on every mesh of data and tensor. Replicas keep the same bits; the bytes are those of the formula, exactly;
 * text comes out token by token as on one device.
 *
 * TEST np: 1 2 4, all: 3 6 8
 * TEST variants: double */
#include "common/model/whole.h"
#include "tests/ranks.h"
#include "tests/tensor_parallel.h"
#include "tests/tensors.h"

enum { STEPS = 20 };
static const double rounding = sizeof(real) == 8 ? 1e-10 : 2e-4;
static Comm *world;

/* ---- what a training leaves ---- */

typedef struct {
    double losses[STEPS], norms[STEPS];
    real *gradients, *parameters; /* whole: all of the first step, before clipping; all after the last */
} Record;

static Record record_new(const Params *whole) {
    size_t bytes = (size_t)params_count(whole) * sizeof(real);
    return (Record){.gradients = xmalloc(bytes), .parameters = xmalloc(bytes)};
}

static void record_free(Record *r) {
    free(r->gradients);
    free(r->parameters);
}

/* On one device, by code that knows nothing of several (tests/training.h). Rank 0 does it, the others are told. */
static Record train_alone(const Config *config, Training *t) {
    Config c = *config;
    c.num_microbatches *= c.data_parallel;
    c.data_parallel = 1;
    *t = training_new(&c, c.model.T, 1, 0.2);
    Params *params = &t->model->params;
    start_anywhere(params);
    Record r = record_new(params);
    for (int step = 0; step < STEPS && world->rank == 0; step++) {
        r.losses[step] = training_gradient(t, step);
        r.norms[step] = optimizer_grad_norm(t->optimizer);
        real *to = r.gradients;
        for (int i = 0; i < params->count && step == 0; to += tensor_count(&params->items[i++]->data))
            tensor_read(&params->items[i]->grad[0], 0, tensor_count(&params->items[i]->data), to);
        training_update(t, step);
    }
    real *to = r.parameters;
    for (int i = 0; i < params->count; to += tensor_count(&params->items[i++]->data))
        tensor_read(&params->items[i]->data, 0, tensor_count(&params->items[i]->data), to);
    comm_broadcast(world, NULL, r.losses, STEPS, TYPE_F64, 0);
    comm_broadcast(world, NULL, r.norms, STEPS, TYPE_F64, 0);
    comm_broadcast(world, NULL, r.gradients, params_count(params), TYPE_REAL, 0);
    comm_broadcast(world, NULL, r.parameters, params_count(params), TYPE_REAL, 0);
    return r;
}

/* ---- held against each other ---- */

/* Each parameter's data or gradient, put together; the largest difference from `want`, relative to the largest of all,
 * and where it is. */
static double compare_tensors(const Slot *s, const Params *whole, bool gradients, const real *want,
                              const char **where) {
    const Params *params = fsdp_params(s->fsdp);
    Tensor **tensors = xcalloc((size_t)params->count, sizeof *tensors);
    for (int i = 0; i < params->count; i++)
        tensors[i] = gradients ? &params->items[i]->grad[0] : &params->items[i]->data;
    bool copy = s->config.zero_stage == 0 && s->mesh->coordinate[MESH_DATA] > 0;
    Holding holding = {world, params, tensors, copy};
    double error = 0, largest = 0;
    *where = "none";
    for (int i = 0; i < whole->count; i++) {
        const Param *p = whole->items[i];
        int64_t count = tensor_count(&p->data);
        real *got = xmalloc((size_t)count * sizeof *got);
        whole_gather(&holding, p->name, p->data.shape, got);
        for (int64_t k = 0; k < count; k++) {
            double off = fabs((double)got[k] - (double)want[k]);
            if (!(off <= error)) error = off, *where = p->name;
            largest = worse(largest, fabs((double)want[k]));
        }
        want += count;
        free(got);
    }
    free(tensors);
    return error / largest;
}

static void train_and_compare(const char *name, const Config *c, Mesh *mesh, TensorParallelOptions options,
                              const Training *alone, const Record *one) {
    Slot s = slot_new(c, mesh, options, MISTAKE_NONE);
    const Params *whole = &alone->model->params;
    const char *where;
    double losses = 0, norms = 0;
    for (int step = 0; step < STEPS; step++) {
        losses = worse(losses, fabs(slot_gradient(&s, &alone->data.dataset, step) / one->losses[step] - 1));
        if (step == 0) {
            double error = compare_tensors(&s, whole, true, one->gradients, &where);
            ok_on_all(world, error <= rounding, "%s: raw gradients differ by %.2g of the largest (%s)", name,
                      error, where);
        }
        norms = worse(norms, fabs(slot_update(&s, step) / one->norms[step] - 1));
    }
    ok_on_all(world, losses <= rounding && norms <= rounding, "%s: losses by %.2g, norms by %.2g", name,
              losses, norms);
    double error = compare_tensors(&s, whole, false, one->parameters, &where);
    ok_on_all(world, error <= rounding, "%s: parameters after %d steps by %.2g (%s)", name, STEPS, error,
              where);
    ok_on_all(world, replicas_are_equal(&s), "%s: replicas have the same bits", name);
    slot_delete(&s);
}

enum { WAYS = 3 };
static const struct {
    const char *name;
    TensorParallelOptions options;
} ways[WAYS] = {
    {"", {0}}, {", sequence parallel", {.sequence_parallel = true}}, {", overlapped", {.overlap_chunks = 3}}};

static void test_training(Mesh *mesh) {
    int t = mesh->size[MESH_TENSOR], data = mesh->size[MESH_DATA];
    for (int which = 0; which < MODELS; which++) {
        const char *kind;
        ModelConfig model = model_of(which, t, &kind);
        Config c = config_of(&model, data);
        Training alone;
        Record one = train_alone(&c, &alone);
        for (int way = 0; way < WAYS; way++) {
            c.zero_stage = data > 1 ? (which + way) % 4 : 0;
            c.recompute = way > 0 && which % 2;
            char *name =
                xprintf("(%d,%d) %s%s%s", data, t, kind, ways[way].name, c.recompute ? ", recomputed" : "");
            train_and_compare(name, &c, mesh, ways[way].options, &alone, &one);
            free(name);
        }
        record_free(&one);
        training_delete(&alone);
    }
}

int main(void) {
    world = ranks_world();
    for (int t = 1; t <= world->size; t++) {
        if (world->size % t != 0 || (t == 1 && world->size > 1)) continue;
        Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, t});
        test_training(&mesh);
        mesh_close(&mesh);
    }
    comm_close(world);
    return tap_done();
}
