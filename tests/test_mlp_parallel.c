/* The small network cut over the mesh's axis `tensor`: the output and raw gradients of one device, parameters after 20
 * steps of SGD, on each mesh of data and tensor; one all-reduce forward, one backward where somebody asks for dx.
 *
 * TEST np: 1 2 4, all: 3 8
 * TEST variants: double */
#include "chapters/07_fsdp/fsdp.h"
#include "chapters/08_tensor_parallel/mlp_parallel.h"
#include "common/cpu/device_cpu.h"
#include "common/model/optim.h"
#include "common/model/whole.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

#include <stdlib.h>
#include <string.h>

enum { B = 9, IN = 13, OUT = 7, STEPS = 20 };

static Comm *world;

/* A network that is trained: whole, or a slice of it. */
typedef struct {
    Device *device;
    Mlp *mlp;
    Fsdp *fsdp;
    Optimizer *optimizer;
    Tape *tape;
    Tensor x, target, seed;
} Fit;

static Tensor *forward(const Fit *f, const Mesh *mesh) {
    Tensor *x = (Tensor *)(uintptr_t)&f->x;
    return mesh ? mlp_parallel_forward(f->mlp, mesh, f->tape, x) : mlp_forward(f->mlp, f->tape, x);
}

static Fit fit_new(const Mesh *mesh, Comm *data, int stage, int64_t hidden) {
    Fit f = {.device = device_new_cpu(0)};
    f.mlp = mesh ? mlp_parallel_new(mesh, f.device, IN, hidden, OUT, 5, true)
                 : mlp_new(f.device, IN, hidden, OUT, 5);
    param_start(f.mlp->up_bias, (Start){START_UNIFORM, 0.5, 11});
    param_start(f.mlp->down_bias, (Start){START_UNIFORM, 0.5, 11});
    Config c = *config_preset("tiny");
    c.optimizer = OPTIMIZER_SGD;
    f.fsdp = fsdp_new(&f.mlp->params, &(FsdpOptions){.stage = stage, .shards = data});
    f.optimizer = optimizer_new(fsdp_params(f.fsdp), &c);
    f.tape = tape_new(f.device, true);
    f.x = tensor_new(f.device, MEMORY_ACTIVATIONS, "x", TYPE_REAL, SHAPE(B, IN));
    f.x.constant = true;
    f.target = tensor_new(f.device, MEMORY_ACTIVATIONS, "target", TYPE_REAL, SHAPE(B, OUT));
    f.seed = tensor_new(f.device, MEMORY_ACTIVATIONS, "scale", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&f.seed, 1.0 / B);
    return f;
}

static void fit_free(Fit *f) {
    tensor_free(&f->x);
    tensor_free(&f->target);
    tensor_free(&f->seed);
    tape_delete(f->tape);
    optimizer_delete(f->optimizer);
    fsdp_delete(f->fsdp);
    mlp_delete(f->mlp);
    device_delete(f->device);
}

/* Adds micro-batch `index` of the step's `count`: part `part` of the step's batch. */
static double add_part(Fit *f, const Mesh *mesh, int step, int part, int index, int count) {
    fill_normal(&f->x, (uint64_t)(step * 100 + part), rng_stream("x"), 1);
    fill_normal(&f->target, (uint64_t)(step * 100 + part), rng_stream("target"), 1);
    fsdp_begin(f->fsdp);
    tape_begin_microbatch(f->tape, index, count);
    Tensor *loss = op_squared_error(f->tape, forward(f, mesh), &f->target);
    double value = tensor_scalar(loss);
    tape_backward(f->tape, loss, &f->seed);
    tape_reset(f->tape);
    return value;
}

/* The largest difference of the networks' gradients, or of their parameters, relative to the largest. */
static double off(const Fit *cut, const Fit *one, Comm *data, int stage, bool gradients) {
    const Params *params = fsdp_params(cut->fsdp), *whole = &one->mlp->params;
    Tensor **tensors = xcalloc((size_t)params->count + 1, sizeof *tensors);
    for (int i = 0; i < params->count; i++)
        tensors[i] = gradients ? &params->items[i]->grad[0] : &params->items[i]->data;
    Holding holding = {world, params, tensors, stage == 0 && data->rank > 0};
    double error = 0, largest = 0;
    for (int i = 0; i < whole->count; i++) {
        const Param *p = whole->items[i];
        int64_t count = tensor_count(&p->data);
        real *got = xmalloc((size_t)count * sizeof *got),
             *want = tensor_to_host(gradients ? &p->grad[0] : &p->data);
        whole_gather(&holding, p->name, p->data.shape, got);
        for (int64_t k = 0; k < count; k++) {
            error = worse(error, fabs((double)got[k] - (double)want[k]));
            largest = worse(largest, fabs((double)want[k]));
        }
        free(got);
        free(want);
    }
    free(tensors);
    return error / largest;
}

static void test_training(const Mesh *mesh, int stage) {
    int t = mesh->size[MESH_TENSOR], parts = mesh->size[MESH_DATA];
    Comm *self = comm_self(), *data = mesh->axis[MESH_DATA];
    Fit one = fit_new(NULL, self, 0, 5 * t), cut = fit_new(mesh, data, stage, 5 * t);
    double losses = 0, gradients = 0;
    for (int step = 0; step < STEPS; step++) {
        double want = 0, got = add_part(&cut, mesh, step, data->rank, 0, 1);
        for (int part = 0; part < parts; part++) want += add_part(&one, NULL, step, part, part, parts);
        fsdp_finish(one.fsdp);
        fsdp_finish(cut.fsdp);
        comm_all_reduce(data, NULL, &got, &got, 1, TYPE_F64, REDUCE_SUM);
        losses = worse(losses, fabs(got / want - 1));
        if (step == 0) gradients = off(&cut, &one, data, stage, true);
        optimizer_step(one.optimizer, 1e-3, NULL);
        optimizer_step(cut.optimizer, 1e-3, NULL);
        fsdp_updated(cut.fsdp);
    }
    double parameters = off(&cut, &one, data, stage, false);
    ok_on_all(
        world, losses <= 1e-10 && gradients <= 1e-10 && parameters <= 1e-10,
        "(%d,%d), stage %d: losses, raw gradients and parameters after %d steps are off by %.1g, %.1g, %.1g",
        parts, t, stage, STEPS, losses, gradients, parameters);
    fit_free(&one);
    fit_free(&cut);
    comm_close(self);
}

/* All-reduces of one pass, and their numbers in all. */
static void test_bytes(const Mesh *mesh, bool constant) {
    Comm *comm = mesh->axis[MESH_TENSOR];
    Fit f = fit_new(mesh, mesh->axis[MESH_DATA], 0, 5 * comm->size);
    fill_constant(&f.x, 1);
    f.x.constant = constant;
    fill_constant(&f.target, 1);
    CommCount before = comm->counts[COMM_ALL_REDUCE];
    Tensor *loss = op_squared_error(f.tape, forward(&f, mesh), &f.target);
    tape_backward(f.tape, loss, &f.seed);
    CommCount now = comm->counts[COMM_ALL_REDUCE];
    double bytes = (double)(now.bytes - before.bytes),
           want = 2.0 * (comm->size - 1) * B * (OUT + (constant ? 0 : IN)) * sizeof(real);
    comm_all_reduce(comm, NULL, &bytes, &bytes, 1, TYPE_F64, REDUCE_SUM);
    ok_on_all(world, now.calls - before.calls == 2 - constant && bytes == want,
              "%d all-reduces, %.0f of %.0f bytes", (int)(now.calls - before.calls), bytes, want);
    tape_reset(f.tape);
    f.x.grad = NULL;
    fit_free(&f);
}

static void test_refusal(void) {
    char *hint = NULL, *problem = mlp_parallel_problem(512, 3, &hint);
    ok(problem && !strcmp(problem, "--tensor-parallel-size 3 does not divide --mlp-hidden 512") &&
           !strcmp(hint, "--mlp-hidden 510 or 513 can"),
       "%s (hint: %s)", problem, hint);
    free(problem);
    free(hint);
    ok(!mlp_parallel_problem(512, 4, &hint), "what can be cut is not refused");
}

int main(void) {
    world = ranks_world();
    for (int t = 1; t <= world->size; t++) {
        if (world->size % t != 0) continue;
        Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, t});
        for (int stage = 0; stage < 4; stage++) test_training(&mesh, stage);
        test_bytes(&mesh, true);
        test_bytes(&mesh, false);
        mesh_close(&mesh);
    }
    test_refusal();
    comm_close(world);
    return tap_done();
}
