#include "common/run/dry_run.h"

#include "common/comm/clock.h"
#include "common/comm/dry_group.h"
#include "common/tensor/dry_device.h"

#include <string.h>

/* The first step may differ from those behind it: it learns in which order weights are needed. */
int64_t dry_steps(const Config *c) {
    enum { STEPS = 2 };
    return min64(c->stop_at_step ? c->stop_at_step : c->max_steps, STEPS);
}

/* The second pass may find what the first has left. */
int64_t dry_windows(const Config *c, const Dataset *data) {
    enum { PASSES = 2 };
    int64_t all = data->validation_windows(data, c->model.T);
    return min64(c->eval_windows ? c->eval_windows : all, PASSES * c->data_parallel * c->micro_batch);
}

/* ---- data that nobody looks at ---- */

typedef struct {
    Dataset dataset;
    const Dataset *like;
} DryData;

static void window(const Dataset *data, Split split, int64_t index, int64_t T, int32_t *tokens,
                   int32_t *targets) {
    (void)data, (void)split, (void)index;
    memset(tokens, 0, (size_t)T * sizeof *tokens);
    memset(targets, 0, (size_t)T * sizeof *targets);
}

static int64_t validation_windows(const Dataset *data, int64_t T) {
    const Dataset *like = ((const DryData *)data)->like;
    return like->validation_windows(like, T);
}

/* ---- the run ---- */

DryRun dry_run(DryProgram *program, const Config *config, int rank, int size, const Device *like,
               const Dataset *data) {
    DryData nothing = {*data, data};
    nothing.dataset.window = window;
    nothing.dataset.validation_windows = validation_windows;
    Device *device = device_new_dry(like);
    Clock clock;
    clock_attach(device, &clock, device_model(config->device_model));
    Comm *world = comm_dry(rank, size);
    comm_account(world, device);
    DryRun run = {.seconds = program(config, world, device, &nothing.dataset)};
    comm_close(world);
    run.memory = device->memory;
    clock_detach(&clock);
    device_delete(device);
    return run;
}
