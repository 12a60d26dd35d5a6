#include "chapters/07_fsdp/sweeps.h"

#include "chapters/05_data_parallel/scaling.h"
#include "common/config/device_model.h"
#include "common/run/report.h"

#include <inttypes.h>

/* Each device's windows: so many that this machine, which does the work of all, is done in a few seconds. */
static void fit_windows(const Run *run, Config *c) {
    int64_t asked = c->micro_batch;
    double flops = run->flops_per_token * (double)c->model.T;
    c->micro_batch = scaling_windows(asked, run->job.world->size, flops);
    if (c->micro_batch < asked)
        printf("fitted to a few seconds a step: %" PRId64 " of %" PRId64 " windows on each device\n",
               c->micro_batch, asked);
}

void sweeps_run(const Run *run, ShardedSweep sweep) {
    Comm *world = run->job.world;
    Config c = run->config;
    const DeviceModel *model = device_model(c.device_model);
    scaling_check_devices(world, model);
    if (sweep != SWEEP_MEMORY && c.model.L < 2)
        comm_refuse(world, "--num-layers 2 does",
                    xstrdup("--sweep prefetch looks from one block to the next, and there is one"));
    run_take_folder(run);
    fit_windows(run, &c);
    json_t *report = report_new(run->chapter, run->argc, run->argv), *results = json_object();
    if (sweep == SWEEP_ALL || sweep == SWEEP_MEMORY)
        json_object_set_new(results, "memory", sweep_memory(run, &c));
    if (sweep == SWEEP_ALL || sweep == SWEEP_PREFETCH)
        json_object_set_new(results, "prefetch", sweep_prefetch(run, &c));
    json_object_set_new(report, "sweep", results);
    report_set_integer(report, "devices", world->size);
    report_set_integer(report, "parameters", run->parameters);
    if (run_speaks(run)) report_write(report, c.output_dir);
    json_decref(report);
}
