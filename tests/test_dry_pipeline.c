/* A dry run of a pipeline, and of any mesh, holds what the real one holds, after every change: each stage of each schedule, fewer
 * micro-batches than stages, a tied table on two stages, stages in slices and in shards.
 *
 * TEST np: 2 4, all: 1 3 8
 * TEST variants: float, all: double asan */
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/10_3d_parallel/trainer.h"
#include "tests/dry.h"
#include "tests/tensor_parallel.h"

static Comm *world;

static Config config_for(const ModelConfig *model, int pipe, int tensor, int64_t microbatches) {
    Config c = config_of(model, world->size / pipe / tensor);
    c.pipeline_parallel = pipe;
    c.tensor_parallel = tensor;
    c.micro_batch = 1;
    c.num_microbatches = microbatches;
    c.global_batch = microbatches * c.data_parallel;
    c.device_model = "a100";
    c.optimizer = OPTIMIZER_ADAMW;
    c.sample_interval = 0;
    return c;
}

static void test_schedules(int pipe) {
    const char *kind;
    for (ScheduleKind schedule = 0; schedule < SCHEDULE_KINDS; schedule++)
        for (int way = 0; way < 3; way++) {
            ModelConfig model = model_of((int)schedule + way, 1, &kind);
            model.L = way == 1 ? 1 : 5;
            Config c = config_for(&model, pipe, 1, (int64_t[]){pipe, 1, pipe + 1}[way]);
            c.pipeline_schedule = (unsigned)schedule;
            c.recompute = way == 2;
            c.zero_stage = ((int)schedule + way) % 4;
            c.reduce_once = way == 0;
            if (!pp_is_possible(&c)) continue;
            char *name = xprintf("%d x %d, %s, %" PRId64 " micro-batches, %s", world->size / pipe, pipe,
                                 schedule_names[schedule], c.num_microbatches, kind);
            dry_compare(world, staged_dry, &c, name);
            free(name);
        }
}

static void test_trainer(int pipe, int tensor) {
    const char *kind;
    for (int which = 0; which < MODELS; which++) {
        ModelConfig model = model_of(which, tensor, &kind);
        model.L = 3;
        Config c = config_for(&model, pipe, tensor, 2);
        c.pipeline_schedule = SCHEDULE_1F1B;
        c.sequence_parallel = which % 2;
        c.zero_stage = which % 4;
        c.recompute = which == 3;
        if (!trainer_is_possible(&c)) continue;
        char *name = xprintf("%d x %d x %d, %s", world->size / pipe / tensor, pipe, tensor, kind);
        dry_compare(world, trainer_dry, &c, name);
        free(name);
    }
}

int main(void) {
    world = ranks_world();
    int n = world->size;
    for (int pipe = 1; pipe <= n; pipe++) {
        if (n % pipe) continue;
        if (pipe > 1 || n == 1) test_schedules(pipe);
        for (int tensor = 1; tensor <= n / pipe; tensor++)
            if (n / pipe % tensor == 0 && pipe * tensor > 1) test_trainer(pipe, tensor);
    }
    comm_close(world);
    return tap_done();
}
