/* Does what tests/test_nccl_faults.sh asks for: a mistake in calls on the memory of GPUs, or work until a rank is killed.
 *     mpiexec -n 2 nccl_faults NAME [FOLDER] */
#include "common/comm/nccl_calls.h"
#include "common/cuda/device_cuda.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"

#include <string.h>
#include <unistd.h>

static Comm *world;
static Device *device;
enum { COUNT = 1000 };
static void *x;

static void sum(int64_t count, Reduction reduction) {
    comm_all_reduce(world, &device->queue, x, x, count, TYPE_F32, reduction);
}

static void zero(void) {
    Tensor t = {.device = device, .data = x, .type = TYPE_F32, .shape = SHAPE(COUNT)};
    device->kernels->zero(&device->queue, &t);
}

static void work(const char *folder) {
    char *path = xprintf("%s/%d", folder, world->rank), text[64];
    snprintf(text, sizeof text, "%d", (int)getpid());
    sum(COUNT, REDUCE_SUM);
    file_write(path, text, strlen(text));
    for (;;) {
        sum(COUNT, REDUCE_SUM);
        device_sync(device, &device->queue);
    }
}

int main(int argc, char **argv) {
    CHECK_USAGE(argc >= 2, NULL, "see the first lines of the source");
    base_set_program(argv[0]);
    const char *name = argv[1];
    world = ranks_world();
    bool other = world->rank == 1;
    device = device_new_cuda(strcmp(name, "one-gpu") ? world->rank : 0, 0);
    comm_on_device(world, comm_nccl());
    x = device_alloc(device, MEMORY_COMMUNICATION, 4 * COUNT, "x");
    zero();
    if (!strcmp(name, "work")) work(argv[2]);
    if (!strcmp(name, "count")) sum(other ? COUNT : 10, REDUCE_SUM);
    if (!strcmp(name, "reduction")) sum(COUNT, other ? REDUCE_MAX : REDUCE_SUM);
    if (!strcmp(name, "kind")) {
        if (other)
            comm_broadcast(world, &device->queue, x, COUNT, TYPE_F32, 0);
        else
            sum(COUNT, REDUCE_SUM);
    }
    if (!strcmp(name, "message")) {
        if (other)
            comm_recv(world, &device->queue, x, 20, TYPE_F32, 0);
        else
            comm_send(world, &device->queue, x, 10, TYPE_F32, 1);
    }
    if (!strcmp(name, "sum") || !strcmp(name, "one-gpu")) sum(COUNT, REDUCE_SUM);
    if (!strcmp(name, "not-waited")) {
        CommRequest *request =
            comm_start_all_reduce(world, &device->queue, x, x, COUNT, TYPE_F32, REDUCE_SUM);
        zero();
        comm_wait(world, &device->queue, request);
    }
    device_sync(device, &device->queue);
    comm_close(world);
    return 0;
}
