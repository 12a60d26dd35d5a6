/* A model cut over the mesh's axis `tensor` trains as on one device: raw gradients (each tensor gathered and named),
 * losses, norms and, after 20 steps of SGD, every parameter, for every option of the model, with and without sequence
 * parallel, with all-reduces that overlap, and with every stage of ZeRO along `data`, on every mesh of data and tensor.
 * Replicas keep the same bits. (Bytes, and text: test_tensor_costs.c.)
 *
 * TEST np: 1 2 4, all: 3 6 8
 * TEST variants: double */
#include "common/model/whole.h"
#include "tests/records.h"
#include "tests/tensor_parallel.h"

enum { STEPS = RECORD_STEPS };
static const double rounding = sizeof(real) == 8 ? 1e-10 : 2e-4;
static Comm *world;

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
            if (is_worse(error, off)) error = off, *where = p->name;
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

enum { WAYS = 4 };
static const struct {
    const char *name;
    TensorParallelOptions options;
} ways[WAYS] = {{"", {0}},
                {", sequence parallel", {.sequence_parallel = true}},
                {", sequence parallel, gathered again", {.sequence_parallel = true, .gather_again = true}},
                {", overlapped", {.overlap_chunks = 3}}};

static void test_training(Mesh *mesh) {
    int t = mesh->size[MESH_TENSOR], data = mesh->size[MESH_DATA];
    for (int which = 0; which < MODELS; which++) {
        const char *kind;
        ModelConfig model = model_of(which, t, &kind);
        Config c = config_of(&model, data);
        Config c1 = config_alone(&c);
        Training alone = training_new(&c1, model.T, 1, 0.2);
        start_anywhere(&alone.model->params);
        Record one = train_on_one(world, &alone, STEPS);
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
