#include "chapters/10_3d_parallel/axes_point.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "chapters/09_pipeline_parallel/measured.h"
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/10_3d_parallel/trainer.h"
#include "common/comm/clock.h"
#include "common/run/machine.h"

#include <stdlib.h>

static Config config_for(const Config *config, const AxesPoint *point) {
    Config c = *config;
    c.clock = CLOCK_MODEL;
    c.data_parallel = point->d;
    c.pipeline_parallel = point->p;
    c.tensor_parallel = point->t;
    c.zero_stage = point->zero_stage;
    c.shard_group = c.device_memory = 0;
    c.schedule_file = NULL;
    int64_t share = c.global_batch / point->d,
            wanted = max64(point->p * point->t, point->p > 1 ? 4 * point->p : 1);
    c.num_microbatches = min64(share, wanted);
    while (share % c.num_microbatches) c.num_microbatches--;
    c.micro_batch = share / c.num_microbatches;
    return c;
}

static char *problem_of(const Config *c) {
    char *hint, *problem;
    if (c->global_batch % c->data_parallel) return xstrdup("the batch cannot be shared by so many");
    problem = sliced_problem(c, &hint);
    if (problem) {
        free(hint);
        return problem;
    }
    return pp_is_possible(c) ? NULL
                             : xstrdup("the schedule has no order for so many stages and micro-batches");
}

/* All begin at once. Returns when the last one is done. */
static double timed_step(Trainer *t, int64_t step) {
    Sharded *own = t->staged->own;
    Comm *world = t->staged->mesh->world;
    MetricsRow row;
    comm_barrier(world, &own->device->queue);
    double began = queue_now(&own->device->queue);
    trainer_step(t, step, &row);
    return comm_most(world, queue_now(&own->device->queue) - began);
}

static void read_step(AxesPoint *point, const Trainer *t) {
    Comm *world = t->staged->mesh->world;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        int64_t bytes = 0;
        for (int kind = 0; kind < COMM_KINDS; kind++) bytes += t->along[axis].counts[kind].bytes;
        point->sent[axis] = comm_sum(world, (double)bytes);
        point->waited[axis] = comm_sum(world, t->along[axis].seconds) / world->size;
    }
    if (point->p == 1) return;
    Measured m = measured_of(t->staged);
    point->bubble = comm_most(world, m.times.bubble_step);
    measured_free(&m, t->staged->plan);
}

char *axes_point(AxesPoint *point, const Config *config, Comm *world, const Dataset *data, int d, int p,
                 int t, int64_t zero_stage) {
    *point = (AxesPoint){.d = d, .p = p, .t = t, .zero_stage = zero_stage};
    Config c = config_for(config, point);
    point->microbatches = c.num_microbatches;
    point->windows = c.micro_batch;
    char *problem = problem_of(&c);
    if (problem) return problem;
    const DeviceModel *model = device_model(c.device_model);
    DeviceModel pairs = *model;
    pairs.per_node = 2;
    Clock clock;
    Device *device = machine_clock_device(&c, 0, &clock, model);
    Mesh mesh = trainer_mesh(&c, world);
    Plan *plan = pp_plan(&c);
    Trainer *trainer = trainer_new(&c, &mesh, plan, device, data);
    int64_t step = 0;
    if (zero_stage == 3) timed_step(trainer, step++); /* learns in which order weights are needed */
    point->step = timed_step(trainer, step++);
    read_step(point, trainer);
    clock.model = &pairs;
    point->apart = timed_step(trainer, step);
    point->memory = comm_most(world, (double)device->memory.joint_peak);
    trainer_delete(trainer);
    pp_plan_delete(plan);
    mesh_close(&mesh);
    clock_detach(&clock);
    device_delete(device);
    return NULL;
}
