#include "common/tensor/dry_device.h"

#include "common/tensor/meter.h"

#include <stdlib.h>
#include <string.h>

/* Addresses that no machine gives a process: whoever follows one is stopped. They can be counted with like any others. */
static void *take(int64_t bytes) {
    static uintptr_t next = (uintptr_t)1 << 60;
    uintptr_t block = next;
    next += (uintptr_t)(ceil_div(bytes, DEVICE_LARGE_UNIT) * DEVICE_LARGE_UNIT);
    return (void *)block;
}

static void give_back(void *block, int64_t bytes) { (void)block, (void)bytes; }

static void move_nothing(Queue *q, void *to, const void *from, int64_t bytes) {
    (void)q, (void)to, (void)from, (void)bytes;
}

static void clear_nothing(Queue *q, void *to, int64_t bytes) { (void)q, (void)to, (void)bytes; }

static void read_zeros(Queue *q, void *to, const void *from, int64_t bytes) {
    (void)q, (void)from;
    memset(to, 0, (size_t)bytes);
}

static void *pin(int64_t bytes) { return malloc((size_t)bytes); }

static const DeviceBackend backend = {
    .name = "dry",
    .take = take,
    .give_back = give_back,
    .write = move_nothing,
    .read = read_zeros,
    .copy = move_nothing,
    .clear = clear_nothing,
    .pin = pin,
    .unpin = free,
    .start_write = move_nothing,
    .start_read = read_zeros,
};

Device *device_new_dry(const Device *like) {
    Device *device = device_new(&kernels_metered, &backend, 0);
    device->queue.threads = like->queue.threads;
    device->queue.openblas = like->queue.openblas;
    device->queue.dry = meter_kernels(like);
    return device;
}
