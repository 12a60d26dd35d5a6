#include "chapters/05_data_parallel/waves_run.h"

#include "chapters/05_data_parallel/data_parallel.h"
#include "common/model/mlp.h"
#include "common/model/optim.h"
#include "datasets/waves.h"

#include <inttypes.h>

/* The network and what trains it: `parts` slices of the batch, spread over the ranks of comm. */
typedef struct {
    Config config;
    Comm *comm;
    Device *device;
    int64_t parts, part; /* part: waves in each */
    Mlp *mlp;
    DataParallel *dp;
    Optimizer *optimizer;
    Tape *tape;
    Waves waves;
    Tensor seed;
} Fit;

static Fit fit_new(const WavesTask *task, const Config *config, Comm *comm, Device *device, int64_t parts) {
    Fit f = {.config = *config, .comm = comm, .device = device, .parts = parts, .part = task->batch / parts};
    f.mlp = mlp_new(device, WAVE_POINTS, task->hidden, WAVE_POINTS, config->seed);
    f.dp = data_parallel_new(&f.mlp->params, comm, config->overlap, config->bucket_size);
    f.optimizer = optimizer_new(&f.mlp->params, config);
    f.tape = tape_new(device, true);
    f.waves = waves_new(device, f.part);
    f.seed = tensor_new(device, MEMORY_ACTIVATIONS, "loss scale", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&f.seed, 1.0 / (double)(task->batch * WAVE_POINTS)); /* the loss is a mean */
    return f;
}

static void fit_free(Fit *f) {
    tensor_free(&f->seed);
    waves_free(&f->waves);
    tape_delete(f->tape);
    optimizer_delete(f->optimizer);
    data_parallel_delete(f->dp);
    mlp_delete(f->mlp);
}

/* One step: the mean squared error of the whole batch. */
static double fit_step(Fit *f, int64_t step) {
    int64_t own = f->parts / f->comm->size, first = f->comm->rank * own;
    double loss = 0, all = (double)(f->parts * f->part * WAVE_POINTS);
    for (int64_t i = 0; i < own; i++) {
        waves_load(&f->waves, f->config.seed, SPLIT_TRAIN, (step * f->parts + first + i) * f->part);
        tape_begin_microbatch(f->tape, i, own);
        Tensor *error = op_squared_error(f->tape, mlp_forward(f->mlp, f->tape, &f->waves.x), &f->waves.y);
        loss += tensor_scalar(error) / all;
        tape_backward(f->tape, error, &f->seed);
        tape_reset(f->tape);
    }
    data_parallel_finish(f->dp);
    Queue host = queue_of_host(&f->device->queue);
    comm_all_reduce(f->comm, &host, &loss, &loss, 1, TYPE_F64, REDUCE_SUM);
    optimizer_step(f->optimizer, schedule_lr(&f->config, step), NULL);
    return loss;
}

static void fit_train(Fit *f, WavesRecord *record) {
    for (int64_t step = 0; step < f->config.max_steps; step++) {
        double began = now_seconds(), loss = fit_step(f, step);
        waves_record_step(record, loss, now_seconds() - began);
    }
}

void waves_train_alone(const Config *config, const WavesTask *task, Device *device, int64_t parts,
                       WavesRecord *record) {
    Comm *alone = comm_self();
    Fit f = fit_new(task, config, alone, device, parts);
    fit_train(&f, record);
    waves_load(&f.waves, config->seed, SPLIT_VALIDATION, 0);
    waves_draw(&f.waves, mlp_forward(f.mlp, f.tape, &f.waves.x), config->output_dir);
    tape_reset(f.tape);
    fit_free(&f);
    comm_close(alone);
}

bool waves_run(const Config *program, const WavesTask *task, Comm *comm, Device *device) {
    int n = comm->size;
    Config config = waves_config(program, task);
    waves_check_shared(task, comm, n);
    Fit f = fit_new(task, &config, comm, device, n);
    waves_print_task(task, params_count(&f.mlp->params));
    printf(", %" PRId64 " on each of %d devices\n", f.part, n);
    WavesRecord all = waves_record_new(&config, task, "devices", xprintf("%d devices", n), comm->rank == 0);
    fit_train(&f, &all);
    data_parallel_check(f.dp);
    fit_free(&f);

    double difference = 0;
    if (comm->rank == 0) {
        WavesRecord one = waves_record_new(&config, task, "one", xstrdup("one device"), true);
        waves_train_alone(&config, task, device, n, &one);
        difference = waves_print_losses(&all, &one);
        waves_draw_losses(&all, &one);
        waves_record_free(&one);
    }
    waves_record_free(&all);
    comm_barrier(comm, NULL);
    return difference == 0;
}
