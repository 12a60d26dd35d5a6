#include "chapters/10_3d_parallel/trainer.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/09_pipeline_parallel/pp_texts.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a stage must know of layers that several devices share ---- */

static Pass slice_pass(const void *context, Pass pass) {
    const Trainer *t = context;
    return tensor_parallel_pass(t->tp, &t->staged->own->config.model, pass);
}

static void finish_slices(const void *context, Params *updated) {
    const Trainer *t = context;
    tensor_parallel_finish(t->tp, updated);
}

/* What goes from stage to stage: the residual stream of a micro-batch, which every device along `tensor` has as a whole, or, with
 * sequence parallel, its slice of the sequence of. Each sends to the one at its own place: nothing is sent twice. */
static Tensor stream_of(const Config *c) {
    int64_t T = c->model.T;
    Tensor x = {.name = "x", .type = model_type(&c->model), .shape = SHAPE(c->micro_batch, T, c->model.C)};
    if (c->sequence_parallel && c->tensor_parallel > 1) {
        x.shape.size[1] = T / c->tensor_parallel;
        x.place[MESH_TENSOR] = (Place){PLACE_SHARD, 1};
    }
    return x;
}

/* ---- all of it ---- */

Mesh trainer_mesh(const Config *c, Comm *world) {
    return mesh_new(world, (int[MESH_AXES]){0, (int)c->pipeline_parallel, (int)c->tensor_parallel});
}

Trainer *trainer_new(const Config *c, const Mesh *mesh, const Plan *plan, Device *device,
                     const Dataset *data) {
    Trainer *t = xcalloc(1, sizeof *t);
    if (mesh->size[MESH_TENSOR] == 1) {
        t->staged = staged_new(c, mesh, plan, device, data);
        return t;
    }
    TensorParallelOptions options = sliced_options(c);
    t->tp = tensor_parallel_new(mesh, &c->model, &options);
    Model *slices = tensor_parallel_model(t->tp, device, &c->model, c->seed, true);
    StageLayers layers = {stream_of(c), slice_pass, finish_slices, t};
    t->staged = staged_new_of(c, mesh, plan, slices, &layers, data);
    return t;
}

void trainer_delete(Trainer *t) {
    staged_delete(t->staged);
    if (t->tp) tensor_parallel_delete(t->tp);
    free(t);
}

static void read_axes(const Trainer *t, AxisCost *costs) {
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const Comm *comm = t->staged->mesh->axis[axis];
        memcpy(costs[axis].counts, comm->counts, sizeof comm->counts);
        costs[axis].seconds = comm->seconds;
    }
}

void trainer_issue(Trainer *t, int64_t step, MetricsRow *row) {
    AxisCost before[MESH_AXES];
    read_axes(t, before);
    staged_issue(t->staged, step, row);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const Comm *comm = t->staged->mesh->axis[axis];
        t->along[axis].seconds = comm->seconds - before[axis].seconds;
        comm_counts_since(comm, before[axis].counts, t->along[axis].counts);
    }
}

void trainer_step(Trainer *t, int64_t step, MetricsRow *row) {
    trainer_issue(t, step, row);
    staged_read(t->staged, row);
}

const char *trainer_drift(const Trainer *t) {
    const char *along_tensor = t->tp ? tensor_parallel_drift(t->tp, fsdp_params(t->staged->own->fsdp)) : NULL;
    const char *others = staged_drift(t->staged);
    return along_tensor ? along_tensor : others;
}

double trainer_evaluate(Trainer *t) {
    const char *drifted = trainer_drift(t);
    CHECK(!drifted, "every device must do the same with the same gradients",
          "devices hold different copies of '%s'", drifted);
    return staged_evaluate(t->staged);
}

/* ---- a prompt ---- */

/* The checkpoint's model, whatever the flags: whether it can be cut is known now. */
typedef struct {
    const Mesh *mesh;
    TensorParallel *tp;
} Cut;

static Model *cut_model(void *context, const Config *c, Device *device) {
    Cut *cut = context;
    sliced_check_sizes(c, cut->mesh->world);
    TensorParallelOptions options = sliced_options(c);
    cut->tp = tensor_parallel_new(cut->mesh, &c->model, &options);
    return tensor_parallel_model(cut->tp, device, &c->model, c->seed, true);
}

void trainer_continue(const Config *c, const Mesh *mesh, const Plan *plan, Device *device) {
    if (mesh->size[MESH_TENSOR] == 1) {
        pp_texts_continue(c, mesh, plan->schedule, device);
        return;
    }
    Cut cut = {mesh, NULL};
    pp_texts_continue_of(c, mesh, plan->schedule, device, cut_model, &cut);
    tensor_parallel_delete(cut.tp);
}

/* ---- ahead of a run ---- */

double trainer_dry(const Config *c, Comm *world, Device *device, const Dataset *data) {
    Plan *plan = pp_plan(c);
    Mesh mesh = trainer_mesh(c, world);
    Trainer *t = trainer_new(c, &mesh, plan, device, data);
    double seconds = staged_run_dry(t->staged);
    trainer_delete(t);
    mesh_close(&mesh);
    pp_plan_delete(plan);
    return seconds;
}

bool trainer_is_possible(const Config *c) { return sliced_is_possible(c) && pp_is_possible(c); }
