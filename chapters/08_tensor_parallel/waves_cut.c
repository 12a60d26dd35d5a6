#include "chapters/08_tensor_parallel/waves_cut.h"

#include "chapters/05_data_parallel/data_parallel.h"
#include "chapters/05_data_parallel/waves_run.h"
#include "chapters/08_tensor_parallel/mlp_parallel.h"
#include "common/model/optim.h"
#include "datasets/waves.h"

#include <inttypes.h>
#include <math.h>

/* One device's slices of the network, and what trains them. */
typedef struct {
    Config config;
    const Mesh *mesh;
    Device *device;
    Mlp *mlp;
    DataParallel *dp; /* along `data` */
    Optimizer *optimizer;
    Tape *tape;
    Waves waves; /* the share of this coordinate along `data` */
    Tensor seed;
} CutFit;

static CutFit fit_new(const WavesTask *task, const Config *config, const Mesh *mesh, Device *device) {
    CutFit f = {.config = *config, .mesh = mesh, .device = device};
    f.mlp = mlp_parallel_new(mesh, device, WAVE_POINTS, task->hidden, WAVE_POINTS, config->seed, false);
    f.dp = data_parallel_new(&f.mlp->params, mesh->axis[MESH_DATA], config->overlap, config->bucket_size);
    f.optimizer = optimizer_new(&f.mlp->params, config);
    f.tape = tape_new(device, true);
    f.waves = waves_new(device, task->batch / mesh->size[MESH_DATA]);
    f.seed = tensor_new(device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&f.seed, 1.0 / (double)(task->batch * WAVE_POINTS)); /* the loss is a mean */
    return f;
}

static void fit_free(CutFit *f) {
    tensor_free(&f->seed);
    waves_free(&f->waves);
    tape_delete(f->tape);
    optimizer_delete(f->optimizer);
    data_parallel_delete(f->dp);
    mlp_delete(f->mlp);
}

/* One step: the mean squared error of the whole batch. */
static double fit_step(CutFit *f, const WavesTask *task, int64_t step) {
    Comm *data = f->mesh->axis[MESH_DATA];
    int64_t share = task->batch / data->size;
    waves_load(&f->waves, f->config.seed, SPLIT_TRAIN, step * task->batch + data->rank * share);
    Tensor *error =
        op_squared_error(f->tape, mlp_parallel_forward(f->mlp, f->mesh, f->tape, &f->waves.x), &f->waves.y);
    double loss = tensor_scalar(error) / (double)(task->batch * WAVE_POINTS);
    tape_backward(f->tape, error, &f->seed);
    tape_reset(f->tape);
    data_parallel_finish(f->dp);
    Queue host = queue_of_host(&f->device->queue);
    comm_all_reduce(data, &host, &loss, &loss, 1, TYPE_F64, REDUCE_SUM);
    optimizer_step(f->optimizer, schedule_lr(&f->config, step), NULL);
    return loss;
}

static void print_slices(const CutFit *f) {
    for (int i = 0; i < f->mlp->params.count; i++) {
        const Param *p = f->mlp->params.items[i];
        printf("  %-12s %-12s of which a device has %-12s %s\n", p->name, shape_text(p->slice.whole).text,
               shape_text(p->data.shape).text, place_text(p->data.place[MESH_TENSOR]).text);
    }
}

static void check_sizes(const WavesTask *task, const Mesh *mesh) {
    char *hint, *problem = mlp_parallel_problem(task->hidden, mesh->size[MESH_TENSOR], &hint);
    if (problem) comm_refuse(mesh->world, hint, problem);
    waves_check_shared(task, mesh->world, mesh->size[MESH_DATA]);
}

bool waves_cut_run(const Config *program, const WavesTask *task, Comm *world, Device *device) {
    Config config = waves_config(program, task);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, (int)config.tensor_parallel});
    int data = mesh.size[MESH_DATA], tensor = mesh.size[MESH_TENSOR];
    check_sizes(task, &mesh);
    CutFit f = fit_new(task, &config, &mesh, device);
    waves_print_task(task, 2 * WAVE_POINTS * task->hidden + task->hidden + WAVE_POINTS);
    printf(" on %d x %d devices\n", data, tensor);
    print_slices(&f);
    WavesRecord all = waves_record_new(&config, task, "devices", xprintf("%d x %d devices", data, tensor),
                                       world->rank == 0);
    for (int64_t step = 0; step < task->steps; step++) {
        double began = now_seconds(), loss = fit_step(&f, task, step);
        waves_record_step(&all, loss, now_seconds() - began);
    }
    data_parallel_check(f.dp);
    fit_free(&f);

    double difference = 0;
    if (world->rank == 0) {
        WavesRecord one = waves_record_new(&config, task, "one", xstrdup("one device"), true);
        waves_train_alone(&config, task, device, data, &one);
        difference = waves_print_losses(&all, &one);
        waves_draw_losses(&all, &one);
        waves_record_free(&one);
    }
    double first = all.losses[0];
    waves_record_free(&all);
    comm_barrier(world, NULL);
    mesh_close(&mesh);
    return difference <= (sizeof(real) == 8 ? 1e-9 : 1e-3) * first;
}
