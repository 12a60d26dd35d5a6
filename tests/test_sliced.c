/* The trainer of chapter 08, on every mesh of data and tensor, with every stage of ZeRO along data: losses, norms and, after
 * some steps, parameters are those of one device; evaluations too. Copies stay the same, and a copy that does not is named.
 * What a device holds is put together as a checkpoint would have it.
 *
 * TEST np: 1 2 4, all: 6 8
 * TEST variants: double */
#include "chapters/08_tensor_parallel/sliced.h"
#include "common/model/whole.h"
#include "tests/ranks.h"
#include "tests/records.h"
#include "tests/tensor_parallel.h"

#include <inttypes.h>

enum { SLICED_STEPS = 6 };
static const double limit = sizeof(real) == 8 ? 1e-10 : 2e-4;
static Comm *world;

/* Largest difference of the parameters from those of one device, relative to the largest. */
static double parameters_off(const Sliced *s, const Record *one) {
    Parts parts = sliced_parts(s);
    const Params *held = parts.optimizer->params;
    Model *whole = model_new(NULL, &s->own->config.model, s->own->config.seed, &layers_serial);
    Tensor **tensors = xcalloc((size_t)max64(held->count, 1), sizeof *tensors);
    for (int i = 0; i < held->count; i++) tensors[i] = &held->items[i]->data;
    Holding holding = {parts.comm, held, tensors, parts.copy};
    real *all = xmalloc((size_t)one->count * sizeof *all), *to = all;
    for (int i = 0; i < whole->params.count; i++) {
        const Param *p = whole->params.items[i];
        whole_gather(&holding, p->name, p->data.shape, to);
        to += tensor_count(&p->data);
    }
    double largest = 0, error = error_of(all, one->parameters, one->count, &largest);
    free(all);
    free(tensors);
    model_delete(whole);
    return error / largest;
}

static void train(const Config *c, const Mesh *mesh, const Record *one, const Dataset *data,
                  const char *name) {
    Device *device = device_new_cpu(0);
    Sliced *s = sliced_new(c, mesh, device, data);
    double losses = 0, norms = 0;
    for (int step = 0; step < SLICED_STEPS; step++) {
        MetricsRow row;
        sliced_step(s, step, &row);
        losses = worse(losses, fabs(row.loss / one->losses[step] - 1));
        norms = worse(norms, fabs(row.grad_norm / one->norms[step] - 1));
    }
    ok_on_all(world, losses <= limit && norms <= limit, "%s: losses by %.2g, norms by %.2g", name, losses,
              norms);
    double off = parameters_off(s, one);
    ok_on_all(world, off <= limit, "%s: parameters after %d steps by %.2g", name, SLICED_STEPS, off);
    const char *drifted = sliced_drift(s);
    ok_on_all(world, !drifted, "%s: copies are the same (%s)", name, drifted ? drifted : "all");
    if (mesh->size[MESH_TENSOR] > 1 && c->zero_stage == 0) {
        Params *params = fsdp_params(s->own->fsdp);
        int which = 0;
        while (tensor_parallel_holders(s->tp, params->items[which]) != mesh->axis[MESH_TENSOR]) which++;
        if (mesh->coordinate[MESH_TENSOR] == 1)
            tensor_write(&params->items[which]->data, 0, 1, &(real){0.125});
        drifted = sliced_drift(s);
        ok_on_all(world, drifted && strcmp(drifted, params->items[which]->name) == 0,
                  "%s: a copy that is not the same is named", name);
    }
    sliced_delete(s);
    device_delete(device);
}

static void test_mesh(int d, int t) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){d, 1, t});
    const char *kind;
    ModelConfig model = model_of(t > 2 ? 1 : 2, t, &kind);
    Config c = config_of(&model, d);
    Config alone = config_alone(&c);
    Training training = training_new(&alone, c.model.T, 1, 0.2);
    Record one = train_on_one(world, &training, SLICED_STEPS);
    for (int stage = 0; stage <= 4; stage++) /* the last: stage 3 in groups of 2 */
        for (int sp = 0; sp < (t > 1 ? 2 : 1); sp++) {
            if (stage == 4 && d != 4) continue;
            c.zero_stage = stage < 4 ? stage : 3;
            c.shard_group = stage < 4 ? 0 : 2;
            c.sequence_parallel = sp;
            char *name = xprintf("%d x %d, stage %" PRId64 "%s%s", d, t, c.zero_stage,
                                 c.shard_group ? " in groups" : "", sp ? ", sequence parallel" : "");
            train(&c, &mesh, &one, &training.data.dataset, name);
            free(name);
        }
    record_free(&one);
    training_delete(&training);
    mesh_close(&mesh);
}

int main(void) {
    world = ranks_world();
    for (int t = 1; t <= world->size; t++)
        if (world->size % t == 0) test_mesh(world->size / t, t);
    comm_close(world);
    return tap_done();
}
