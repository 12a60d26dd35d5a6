#include "common/run/job.h"

#include "common/base/interrupt.h"
#include "common/base/platform.h"
#include "common/comm/clock.h"
#include "common/comm/nccl_calls.h"
#include "common/config/args.h"
#include "common/run/machine.h"

#include <stdlib.h>

/* Every rank reads a config file by itself, and on another machine the file may be another one. */
static void check_same_config(Comm *world, const Config *config) {
    uint64_t mine = args_fingerprint(config);
    int32_t low = (int32_t)(uint32_t)mine, high = (int32_t)(uint32_t)(mine >> 32);
    int32_t most[4] = {low, high, ~low, ~high}; /* the largest ~x belongs to the smallest x */
    comm_all_reduce(world, NULL, most, most, 4, TYPE_I32, REDUCE_MAX);
    if (most[0] != ~most[2] || most[1] != ~most[3])
        comm_refuse(world, "copy the file of --config to every machine, or give all by the command line",
                    xstrdup("the ranks have read different configurations"));
}

const CommBackend *job_device_calls(const Config *config) {
    bool alone = config->device == DEVICE_CUDA && !config->share_gpu;
    return alone && config->clock != CLOCK_MODEL ? comm_nccl() : NULL;
}

Job job_open(const Config *config, int devices) {
    Job job = {.world = comm_world()};
    if (job.world->size != devices)
        comm_refuse(job.world, "start it by mpiexec or srun",
                    xprintf("%d devices were announced, %d have come", devices, job.world->size));
    if (args_from_file()) check_same_config(job.world, config);
    if (job.world->rank > 0) CHECK(freopen("/dev/null", "w", stdout), NULL, "cannot open /dev/null");
    job.device = machine_device(config);
    job.device->budget = 0; /* what the world takes is looked at together with the rest (memory_ahead.h) */
    comm_account(job.world, job.device);
    job.device->budget = config->device_memory;
    comm_on_device(job.world, job_device_calls(config));
    return job;
}

void job_close(Job *job) {
    comm_close(job->world);
    device_delete(job->device);
}

bool job_interrupted(Comm *world) {
    int32_t asked = interrupt_requested();
    comm_all_reduce(world, NULL, &asked, &asked, 1, TYPE_I32, REDUCE_MAX);
    return asked;
}

double job_peak_gflops(Comm *world, Device *device, ElementType type) {
    const Clock *clock = device->queue.clock;
    if (clock) return 1e-9 * clock->model->flops * world->size;
    bool apart = device->backend->apart;
    double peak = apart || platform_has_core() ? machine_peak_gflops(device, type) : 0;
    comm_all_reduce(world, NULL, &peak, &peak, 1, TYPE_F64, REDUCE_SUM);
    return peak;
}

void job_print_mesh(const Mesh *mesh) {
    const Comm *world = mesh->world;
    char *picture = mesh_picture(mesh);
    printf("%d device%s, %s\n%s", world->size, world->size > 1 ? "s" : "",
           world->size == 1                   ? "alone"
           : world->on_device                 ? "joined by NCCL"
           : world->local_size == world->size ? "which share memory"
                                              : "on several machines",
           picture);
    free(picture);
}
