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

Device *device_new(const struct Kernels *kernels, const DeviceMemory *blocks, int64_t budget) {
    Device *device = xcalloc(1, sizeof *device);
    device->kernels = kernels;
    device->blocks = blocks;
    device->budget = budget;
    return device;
}

void device_delete(Device *device) {
    for (int i = 0; i < device->free_list_count; i++) {
        FreeList *list = &device->free_lists[i];
        for (int j = 0; j < list->count; j++) device->blocks->give_back(list->blocks[j], list->bytes);
        free(list->blocks);
    }
    free(device->free_lists);
    free(device);
}

/* ---- blocks ---- */

/* Sizes are rounded up, so that blocks fit again. */
static int64_t block_bytes(int64_t bytes) {
    int64_t unit = bytes >= 2 * DEVICE_LARGE_UNIT ? DEVICE_LARGE_UNIT : DEVICE_UNIT;
    return ceil_div(max64(bytes, 1), unit) * unit;
}

static void *block_new(const Device *device, int64_t bytes) {
    void *block = device->blocks->take(bytes);
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

static void over_budget(const Device *device, MemoryClass class, int64_t bytes, const char *name) {
    Str totals = {0};
    for (int c = 0; c < MEMORY_CLASSES; c++)
        if (device->memory.now[c])
            str_printf(&totals, ", %s %s", memory_class_names[c],
                       size_text((double)device->memory.now[c]).text);
    int64_t held = total(device->memory.now);
    const char *help = class == MEMORY_ACTIVATIONS
                           ? "try a smaller --micro-batch-size, --recompute, or a larger --device-memory"
                           : "try a smaller model, more devices, or a larger --device-memory";
    fail(1, help, "%s '%s' needs %s and passes the budget of %s by %s; held: %s%s", memory_class_names[class],
         name, size_text((double)bytes).text, size_text((double)device->budget).text,
         size_text((double)(held + bytes - device->budget)).text, size_text((double)held).text,
         totals.data ? totals.data : "");
}

static void tell(const Device *device) {
    if (device->observer.changed) device->observer.changed(device->observer.context);
}

void device_count(Device *device, MemoryClass class, int64_t bytes, const char *name) {
    MemoryUse *use = &device->memory;
    if (device->budget && bytes > 0 && total(use->now) + bytes > device->budget)
        over_budget(device, class, bytes, name);
    use->now[class] += bytes;
    use->peak[class] = max64(use->peak[class], use->now[class]);
    if (total(use->now) > use->joint_peak) {
        use->joint_peak = total(use->now);
        memcpy(use->at_joint_peak, use->now, sizeof use->now);
    }
    tell(device);
}

void *device_alloc(Device *device, MemoryClass class, int64_t bytes, const char *name) {
    device_count(device, class, bytes, name);
    FreeList *list = free_list(device, block_bytes(bytes));
    void *block = list->count ? list->blocks[--list->count] : block_new(device, list->bytes);
    if (device->blocks->rename) device->blocks->rename(block, name);
    return block;
}

void device_free(Device *device, MemoryClass class, void *data, int64_t bytes) {
    if (!data) return;
    device->memory.now[class] -= bytes;
    tell(device);
    if (device->blocks->rename) device->blocks->rename(data, NULL);
    FreeList *list = free_list(device, block_bytes(bytes));
    if (list->count == list->capacity) {
        list->capacity = 2 * list->capacity + 8;
        list->blocks = xrealloc(list->blocks, (size_t)list->capacity * sizeof *list->blocks);
    }
    list->blocks[list->count++] = data;
}
