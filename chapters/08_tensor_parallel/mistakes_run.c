#include "chapters/08_tensor_parallel/mistakes_run.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "common/model/whole.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3 };
static const double rounding = sizeof(real) == 8 ? 1e-10 : 1e-5; /* of gradients, on any mesh */

/* ---- planted ---- */

/* What a device that makes the mistake takes for the mesh in its step. */
typedef struct {
    Mesh mesh;
    Comm *alone;
} WrongMesh;

static Sliced *planted_new(const Config *c, Mistake mistake, const Mesh *mesh, Device *device,
                           const Dataset *data, WrongMesh *w) {
    TensorParallelOptions options = sliced_options(c);
    TensorParallel *tp = tensor_parallel_new(mesh, &c->model, &options);
    if (mistake != MISTAKE_NONE) tensor_parallel_plant(tp, mistake);
    Sliced *s = sliced_new_of(c, tp, tensor_parallel_model(tp, device, &c->model, c->seed, true), data);
    *w = (WrongMesh){*mesh, comm_self()};
    if (mistake == MISTAKE_LOCAL_COUNT) w->mesh.axis[MESH_DATA] = w->alone; /* to count tokens in */
    if (mistake == MISTAKE_LOCAL_NORM) w->mesh.size[MESH_TENSOR] = 1;       /* nobody else has a slice */
    if (mistake == MISTAKE_DROPOUT) s->own->model->seed += (uint64_t)mesh->coordinate[MESH_TENSOR];
    s->mesh = &w->mesh;
    return s;
}

/* ---- what notices it ---- */

typedef struct {
    double losses[STEPS];
    double error;      /* of a gradient of the first step, relative to the largest of all */
    const char *where; /* in this parameter; NULL: nowhere */
    bool drifted;      /* copies of a parameter differ after the last step */
} Seen;

/* The gradients of one device's first step, parameter after parameter; on rank 0 alone. */
static real *train_alone(const Config *config, Device *device, const Dataset *data, double *losses) {
    Config c = *config;
    c.num_microbatches *= c.data_parallel; /* of the same windows, one device after the other */
    c.data_parallel = 1;
    Comm *alone = comm_self();
    Sharded *one = sharded_new(&c, alone, device, data);
    const Params *params = &one->model->params;
    real *gradients = xmalloc((size_t)params_count(params) * sizeof *gradients), *to = gradients;
    for (int step = 0; step < STEPS; step++) {
        MetricsRow row;
        sharded_step(one, step, &row);
        losses[step] = row.loss;
        for (int i = 0; i < params->count && step == 0; to += tensor_count(&params->items[i++]->data))
            tensor_read(&params->items[i]->grad[0], 0, tensor_count(&params->items[i]->data), to);
    }
    sharded_delete(one);
    comm_close(alone);
    return gradients;
}

/* Holds each gradient, put together, against that of one device, which rank 0 has. */
static void compare_gradients(const Sliced *s, const real *want, Seen *seen) {
    const Sharded *own = s->own;
    const Params *held = &own->model->params;
    Model *whole = model_new(NULL, &own->config.model, own->config.seed, &layers_serial);
    Tensor **tensors = xcalloc((size_t)held->count, sizeof *tensors);
    for (int i = 0; i < held->count; i++) tensors[i] = &held->items[i]->grad[0];
    Holding holding = {s->mesh->world, held, tensors, own->comm->rank > 0};
    double largest = 0;
    for (int i = 0; i < whole->params.count; i++) {
        const Param *p = whole->params.items[i];
        int64_t count = tensor_count(&p->data);
        real *got = xmalloc((size_t)count * sizeof *got);
        whole_gather(&holding, p->name, p->data.shape, got);
        for (int64_t k = 0; k < count && want; k++) {
            double off = fabs((double)got[k] - (double)want[k]);
            largest = fmax(largest, fabs((double)want[k]));
            if (off <= seen->error) continue;
            seen->error = off;
            for (int h = 0; h < held->count; h++) /* a name that lives as long as the model */
                if (strcmp(held->items[h]->name, p->name) == 0) seen->where = held->items[h]->name;
        }
        if (want) want += count;
        free(got);
    }
    seen->error /= largest;
    free(tensors);
    model_delete(whole);
}

/* Some steps. Returns the words for them; the caller frees them. */
static char *train_sliced(const Config *c, Mistake mistake, const Mesh *mesh, Device *device,
                          const Dataset *data, const real *want, Seen *seen) {
    WrongMesh wrong;
    Sliced *s = planted_new(c, mistake, mesh, device, data, &wrong);
    for (int step = 0; step < STEPS; step++) {
        MetricsRow row;
        sliced_step(s, step, &row);
        seen->losses[step] = row.loss;
        if (step == 0)
            compare_gradients(s, want, seen); /* raw: they are clipped on their way into the weights */
    }
    s->mesh = mesh;
    const char *drifted = sliced_drift(s);
    seen->drifted = drifted;
    char *words =
        xprintf("%9.6f %9.6f %9.6f  %8.1e in %-28s %s", seen->losses[0], seen->losses[1], seen->losses[2],
                seen->error, seen->where ? seen->where : "none", drifted ? drifted : "the same");
    sliced_delete(s);
    comm_close(wrong.alone);
    return words;
}

/* What the mistake needs in order to be seen. */
static Config config_for(const Config *config, Mistake mistake, Comm *world) {
    Config c = *config;
    int64_t t = c.tensor_parallel;
    if (t == 1)
        comm_refuse(world, "--tensor-parallel-size 2",
                    xstrdup("--mistake needs devices that share each layer"));
    if (c.model.K < t)
        comm_refuse(world, xprintf("--num-key-value-heads %" PRId64, t),
                    xstrdup("--mistake needs a key/value head for each device"));
    if (mistake == MISTAKE_LOCAL_COUNT && c.data_parallel == 1)
        comm_refuse(world, "a smaller --tensor-parallel-size",
                    xstrdup("--mistake local-count needs devices that share the batch"));
    c.zero_stage = 0;
    c.optimizer = OPTIMIZER_SGD; /* Adam's division would hide a factor */
    c.learning_rate = 0.1;
    c.warmup_ratio = 0;
    c.sequence_parallel = mistake == MISTAKE_UNSUMMED;
    c.overlap_tensor = 1;
    if (mistake == MISTAKE_DROPOUT && c.model.dropout == 0) c.model.dropout = 0.1;
    if (mistake == MISTAKE_BIAS) c.model.bias = true;
    if (mistake == MISTAKE_LOCAL_NORM) c.grad_clip = 0.1; /* all are longer */
    if (mistake == MISTAKE_PADDING && c.model.V % t == 0) c.model.V++;
    sliced_check_sizes(&c, world);
    return c;
}

bool mistakes_run(const Config *config, Mistake mistake, Comm *world, Device *device, const Dataset *data) {
    Config c = config_for(config, mistake, world);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, (int)c.tensor_parallel});
    Seen one = {0}, right = {0}, wrong = {0};
    real *want = world->rank == 0 ? train_alone(&c, device, data, one.losses) : NULL;
    printf("the mistake: %s\n\n", mistake_texts[mistake].what);
    printf("%-16s %29s  %-40s %s\n", "", "loss of steps 1, 2, 3", "largest difference of a gradient",
           "copies");
    printf("%-16s %9.6f %9.6f %9.6f\n", "one device", one.losses[0], one.losses[1], one.losses[2]);
    char *words = train_sliced(&c, MISTAKE_NONE, &mesh, device, data, want, &right);
    char *name = xprintf("%d x %d devices", mesh.size[MESH_DATA], mesh.size[MESH_TENSOR]);
    printf("%-16s %s\n", name, words);
    fflush(stdout); /* the next may end the program */
    free(words);
    words = train_sliced(&c, mistake, &mesh, device, data, want, &wrong);
    bool gradient = wrong.error > rounding, noticed = gradient || wrong.drifted;
    printf("%-16s %s\n\n", "with the mistake", words);
    printf("noticed by: %s%s%s%s\n", gradient ? "the gradient of one device" : "",
           gradient && wrong.drifted ? ", and " : "", wrong.drifted ? "copies that drift apart" : "",
           noticed ? "" : "nothing");
    free(words);
    free(name);
    free(want);
    mesh_close(&mesh);
    int32_t answer = noticed; /* rank 0 alone has compared */
    comm_broadcast(world, NULL, &answer, 1, TYPE_I32, 0);
    return answer;
}
