#include "chapters/07_fsdp/waves_sharded.h"

#include "chapters/05_data_parallel/waves_run.h"
#include "chapters/07_fsdp/fsdp.h"
#include "common/base/size_text.h"
#include "common/model/mlp.h"
#include "common/model/optim.h"
#include "datasets/waves.h"

#include <inttypes.h>

/* What one device has. */
typedef struct {
    Config config;
    Comm *comm;
    Device *device;
    int64_t part; /* waves of each step that it takes */
    Mlp *mlp;
    Fsdp *fsdp;
    Optimizer *optimizer;
    Tape *tape;
    Waves waves;
    Tensor seed;
} Fit;

static Fit fit_new(const WavesTask *task, const Config *config, Comm *comm, Device *device) {
    Fit f = {.config = *config, .comm = comm, .device = device, .part = task->batch / comm->size};
    FsdpOptions options = fsdp_options_of(config, comm, NULL);
    f.mlp = mlp_new(device, WAVE_POINTS, task->hidden, WAVE_POINTS, config->seed);
    f.fsdp = fsdp_new(&f.mlp->params, &options);
    f.optimizer = optimizer_new(fsdp_params(f.fsdp), config);
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
    fsdp_delete(f->fsdp);
    mlp_delete(f->mlp);
}

/* One step: the mean squared error of the whole batch. */
static double fit_step(Fit *f, int64_t step) {
    int n = f->comm->size;
    waves_load(&f->waves, f->config.seed, SPLIT_TRAIN, (step * n + f->comm->rank) * f->part);
    fsdp_begin(f->fsdp);
    Tensor *error = op_squared_error(f->tape, mlp_forward(f->mlp, f->tape, &f->waves.x), &f->waves.y);
    double loss = tensor_scalar(error) / (double)(n * f->part * WAVE_POINTS);
    tape_backward(f->tape, error, &f->seed);
    tape_reset(f->tape);
    fsdp_finish(f->fsdp);
    Queue host = queue_of_host(&f->device->queue);
    comm_all_reduce(f->comm, &host, &loss, &loss, 1, TYPE_F64, REDUCE_SUM);
    optimizer_step(f->optimizer, schedule_lr(&f->config, step), NULL);
    fsdp_updated(f->fsdp);
    return loss;
}

static void print_kept(const Fit *f) {
    const int64_t *now = f->device->memory.now;
    printf("--zero-stage %" PRId64 ": a device keeps %s of weights, %s of gradients, %s of moments\n",
           f->config.zero_stage, size_text((double)now[MEMORY_PARAMETERS]).text,
           size_text((double)now[MEMORY_GRADIENTS]).text, size_text((double)now[MEMORY_OPTIMIZER]).text);
}

/* What others reached: MinText, docs/tutorials/2_Data_Parallel_and_FSDP.ipynb. */
static void print_notebook(const WavesRecord *ours) {
    static const double theirs[] = {1.7617, 0.1383, 0.0915, 0.0810, 0.0644, 0.0536};
    const WavesTask *task = ours->task;
    printf("\na JAX notebook that trains such a network fully sharded on 8 devices has a wider one, more "
           "waves a "
           "step,\nother random numbers and another optimizer, so its curve comes down more slowly:\n"
           "%20s  %22s  %22s\n%20s  %22d  %22" PRId64 "\n%20s  %22d  %22" PRId64 "\n%20s  %22s  %22s\n",
           "", "the notebook", "here", "width", 2048, task->hidden, "waves a step", 8192, task->batch,
           "optimizer", "SGD, momentum 0.9", "AdamW");
    printf("%20s  %22s  %22s\n", "learning rate", "0.01", "0.01, warm-up, cosine");
    for (int i = 0; i < COUNT_OF(theirs); i++)
        if (100 * i < ours->count)
            printf("%15s %4d  %22.4f  %22.4f\n", "loss at step", 100 * i, theirs[i], ours->losses[100 * i]);
    printf("no model gets below %.4f, the variance of the noise\n", WAVE_NOISE_FLOOR);
}

bool waves_sharded(const Config *program, const WavesTask *task, Comm *comm, Device *device) {
    int n = comm->size;
    Config config = waves_config(program, task);
    waves_check_shared(task, comm, n);
    Fit f = fit_new(task, &config, comm, device);
    waves_print_task(task, params_count(&f.mlp->params));
    printf(", %" PRId64 " on each of %d devices\n", f.part, n);
    print_kept(&f);
    WavesRecord all = waves_record_new(&config, task, "devices", xprintf("%d devices", n), comm->rank == 0);
    for (int64_t step = 0; step < task->steps; step++) {
        double began = now_seconds(), loss = fit_step(&f, step);
        waves_record_step(&all, loss, now_seconds() - began);
    }
    fsdp_check(f.fsdp);
    fit_free(&f);

    double difference = 0;
    if (comm->rank == 0) {
        WavesRecord one = waves_record_new(&config, task, "one", xstrdup("one device"), true);
        waves_train_alone(&config, task, device, n, &one);
        difference = waves_print_losses(&all, &one);
        waves_draw_losses(&all, &one);
        print_notebook(&all);
        waves_record_free(&one);
    }
    waves_record_free(&all);
    comm_barrier(comm, NULL);
    return difference == 0;
}
