#include "chapters/07_fsdp/sweeps.h"

#include "chapters/05_data_parallel/scaling.h"
#include "common/cpu/device_cpu.h"
#include "common/draw/plots.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <stdlib.h>

Point point_open(const Config *config, Comm *comm, const Dataset *data) {
    Config c = *config;
    c.data_parallel = comm->size;
    c.num_microbatches = 1;
    c.global_batch = c.micro_batch * comm->size;
    if (c.shard_group && comm->size % c.shard_group) c.shard_group = 0;
    Point p = {.device = device_new_cpu(c.device_memory), .clock = xmalloc(sizeof(Clock))};
    p.device->queue.openblas = c.gemm == GEMM_OPENBLAS;
    clock_attach(p.device, p.clock, device_model(c.device_model));
    p.sharded = sharded_new(&c, comm, p.device, data);
    return p;
}

void point_step(Point *p) {
    MetricsRow row;
    sharded_step(p->sharded, p->step++, &row);
}

void point_close(Point *p) {
    sharded_delete(p->sharded);
    clock_detach(p->clock);
    free(p->clock);
    device_delete(p->device);
}

void sweep_draw(const Run *run, const Plot *plot, const char *name) {
    if (!run_speaks(run)) return;
    char *path = xprintf("%s/%s", run->config.output_dir, name);
    plot_draw(plot, path);
    free(path);
}

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
    if (world->size == 1)
        comm_refuse(world, "build/mpiexec -n 8 starts 8",
                    xstrdup("--sweep compares devices, and there is one"));
    if (world->size > model->per_node)
        comm_refuse(world, "start fewer, or take another --device-model",
                    xprintf("--sweep stays within a node: %d devices of %s are more than its %d", world->size,
                            model->name, model->per_node));
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
