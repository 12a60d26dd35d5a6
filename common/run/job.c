#include "common/run/job.h"

#include "common/base/interrupt.h"
#include "common/base/platform.h"
#include "common/comm/clock.h"
#include "common/run/machine.h"

#include <stdlib.h>

Job job_open(const Config *config, int devices) {
    Job job = {.world = comm_world()};
    if (job.world->size != devices)
        comm_refuse(job.world, "start it by mpiexec or srun",
                    xprintf("%d devices were announced, %d have come", devices, job.world->size));
    if (job.world->rank > 0) CHECK(freopen("/dev/null", "w", stdout), NULL, "cannot open /dev/null");
    job.device = machine_device(config);
    comm_account(job.world, job.device);
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

double job_peak_gflops(Comm *world, const Device *device) {
    const Clock *clock = device->queue.clock;
    if (clock) return 1e-9 * clock->model->flops * world->size;
    double peak = platform_has_core() ? machine_peak_gflops(device) : 0;
    comm_all_reduce(world, NULL, &peak, &peak, 1, TYPE_F64, REDUCE_SUM);
    return peak;
}

void job_print_mesh(const Mesh *mesh) {
    const Comm *world = mesh->world;
    char *picture = mesh_picture(mesh);
    printf("%d device%s, %s\n%s", world->size, world->size > 1 ? "s" : "",
           world->size == 1                   ? "alone"
           : world->local_size == world->size ? "which share memory"
                                              : "on several machines",
           picture);
    free(picture);
}
