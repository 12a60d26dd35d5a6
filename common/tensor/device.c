#include "common/tensor/device.h"

#include "common/base/size_text.h"

#include <stdlib.h>
#include <string.h>

const char *const memory_class_names[MEMORY_CLASSES] = {"parameters", "gradients", "optimizer", "activations",
                                                        "communication"};

struct FreeList {
    int64_t bytes; /* of each block */
    void **blocks;
    int count, capacity;
};

Device *device_new(const struct Kernels *kernels, const DeviceBackend *backend, int64_t budget) {
    Device *device = xcalloc(1, sizeof *device);
    device->kernels = kernels;
    device->backend = backend;
    device->budget = budget;
    device->queue.device = device;
    device_queue_open(device, &device->queue);
    return device;
}

void device_delete(Device *device) {
    for (int i = 0; i < device->free_list_count; i++) {
        FreeList *list = &device->free_lists[i];
        for (int j = 0; j < list->count; j++) device->backend->give_back(list->blocks[j], list->bytes);
        free(list->blocks);
    }
    free(device->free_lists);
    device_queue_close(device, &device->queue);
    free(device);
}

/* ---- blocks ---- */

/* Sizes are rounded up, so that blocks fit again. */
static int64_t block_bytes(int64_t bytes) {
    int64_t unit = bytes >= 2 * DEVICE_LARGE_UNIT ? DEVICE_LARGE_UNIT : DEVICE_UNIT;
    return ceil_div(max64(bytes, 1), unit) * unit;
}

static void *block_new(const Device *device, int64_t bytes) {
    void *block = device->backend->take(bytes);
    CHECK(block, "close other programs, or make the model or the batch smaller", "no memory for %lld bytes",
          (long long)bytes);
    return block;
}

static FreeList *free_list(Device *device, int64_t bytes) {
    for (int i = 0; i < device->free_list_count; i++)
        if (device->free_lists[i].bytes == bytes) return &device->free_lists[i];
    device->free_lists =
        xrealloc(device->free_lists, (size_t)(device->free_list_count + 1) * sizeof *device->free_lists);
    FreeList *list = &device->free_lists[device->free_list_count++];
    *list = (FreeList){.bytes = bytes};
    return list;
}

/* ---- the account ---- */

static int64_t total(const int64_t bytes[MEMORY_CLASSES]) {
    int64_t sum = 0;
    for (int c = 0; c < MEMORY_CLASSES; c++) sum += bytes[c];
    return sum;
}

static void over_budget(const Device *device, MemoryClass kind, int64_t bytes, const char *name) {
    Str totals = {0};
    for (int c = 0; c < MEMORY_CLASSES; c++)
        if (device->memory.now[c])
            str_printf(&totals, ", %s %s", memory_class_names[c],
                       size_text((double)device->memory.now[c]).text);
    int64_t held = total(device->memory.now);
    const char *help = kind == MEMORY_ACTIVATIONS
                           ? "try a smaller --micro-batch-size, --recompute, or a larger --device-memory"
                           : "try a smaller model, more devices, or a larger --device-memory";
    fail(1, help, "%s '%s' needs %s and passes the budget of %s by %s; held: %s%s", memory_class_names[kind],
         name, size_text((double)bytes).text, size_text((double)device->budget).text,
         size_text((double)(held + bytes - device->budget)).text, size_text((double)held).text,
         totals.data ? totals.data : "");
}

static void tell(const Device *device) {
    if (device->observer.changed) device->observer.changed(device->observer.context);
}

void device_count(Device *device, MemoryClass kind, int64_t bytes, const char *name) {
    MemoryUse *use = &device->memory;
    if (device->budget && bytes > 0 && total(use->now) + bytes > device->budget)
        over_budget(device, kind, bytes, name);
    use->now[kind] += bytes;
    use->peak[kind] = max64(use->peak[kind], use->now[kind]);
    if (total(use->now) > use->joint_peak) {
        use->joint_peak = total(use->now);
        memcpy(use->at_joint_peak, use->now, sizeof use->now);
    }
    tell(device);
}

void *device_alloc(Device *device, MemoryClass kind, int64_t bytes, const char *name) {
    device_count(device, kind, bytes, name);
    FreeList *list = free_list(device, block_bytes(bytes));
    void *block = list->count ? list->blocks[--list->count] : block_new(device, list->bytes);
    if (device->backend->rename) device->backend->rename(&device->queue, block, name);
    return block;
}

void device_free(Device *device, MemoryClass kind, void *data, int64_t bytes) {
    if (!data) return;
    device->memory.now[kind] -= bytes;
    tell(device);
    if (device->backend->rename) device->backend->rename(&device->queue, data, NULL);
    FreeList *list = free_list(device, block_bytes(bytes));
    if (list->count == list->capacity) {
        list->capacity = 2 * list->capacity + 8;
        list->blocks = xrealloc(list->blocks, (size_t)list->capacity * sizeof *list->blocks);
    }
    list->blocks[list->count++] = data;
}

/* ---- copies ---- */

void device_write(Device *device, void *to, const void *from, int64_t bytes) {
    device->queue.counts.bytes_to_device += bytes;
    device->backend->write(&device->queue, to, from, bytes);
}

void device_read(Device *device, void *to, const void *from, int64_t bytes) {
    device->queue.counts.bytes_to_host += bytes;
    device->queue.counts.synchronisations++;
    device->queue.reached = device->queue.points;
    device->backend->read(&device->queue, to, from, bytes);
}

void device_copy(Device *device, void *to, const void *from, int64_t bytes) {
    device->backend->copy(&device->queue, to, from, bytes);
}

void device_clear(Device *device, void *to, int64_t bytes) {
    device->backend->clear(&device->queue, to, bytes);
}

void device_start_write(Device *device, void *to, const void *from, int64_t bytes) {
    device->queue.counts.bytes_to_device += bytes;
    device->backend->start_write(&device->queue, to, from, bytes);
}

void device_start_read(Device *device, void *to, const void *from, int64_t bytes) {
    device->queue.counts.bytes_to_host += bytes;
    device->backend->start_read(&device->queue, to, from, bytes);
}

void *device_pin(const Device *device, int64_t bytes) {
    void *block = device->backend->pin(max64(bytes, 1));
    CHECK(block, "close other programs, or raise ulimit -l", "no pinned memory for %lld bytes",
          (long long)bytes);
    return block;
}

void device_unpin(const Device *device, void *block) {
    if (block) device->backend->unpin(block);
}

/* ---- queues ---- */

void device_queue_open(const Device *device, Queue *q) {
    q->stream = NULL;
    CHECK(!device->backend->queue_open || device->backend->queue_open(q), "close other programs",
          "the device has no more queues");
}

void device_queue_close(const Device *device, Queue *q) {
    if (device->backend->queue_close) device->backend->queue_close(q);
}

QueueCounts queue_counts_since(const Queue *q, QueueCounts before) {
    QueueCounts now = q->counts;
    return (QueueCounts){now.launches - before.launches, now.synchronisations - before.synchronisations,
                         now.bytes_to_device - before.bytes_to_device,
                         now.bytes_to_host - before.bytes_to_host};
}

void *device_mark(const Device *device, Queue *q) {
    return device->backend->mark ? device->backend->mark(q) : NULL;
}

void device_after(const Device *device, Queue *q, void *mark) {
    if (mark) device->backend->after(q, mark);
}

void device_wait(const Device *device, Queue *q, void *mark) {
    q->counts.synchronisations++;
    if (mark) device->backend->wait(mark);
}

void device_drop(const Device *device, void *mark) {
    if (mark) device->backend->drop(mark);
}

void device_sync(const Device *device, Queue *q) {
    q->counts.synchronisations++;
    q->reached = q->points;
    if (device->backend->sync) device->backend->sync(q);
}

QueuePoint device_point(Device *device) {
    Queue *q = &device->queue;
    return (QueuePoint){device_mark(device, q), ++q->points};
}

void device_reach(Device *device, QueuePoint point) {
    Queue *q = &device->queue;
    if (point.number <= q->reached) {
        device_drop(device, point.mark);
        return;
    }
    q->reached = point.number;
    device_wait(device, q, point.mark);
}

void *device_stamp(const Device *device, Queue *q) {
    return device->stamps ? device->backend->stamp(q) : NULL;
}

double device_stamped(const Device *device, void *stamp) { return device->backend->stamped(stamp); }
