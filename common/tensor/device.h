/* device: where tensors live. Accounted memory in five classes, a budget, and a queue that kernels are issued
 * to.
 *
 * Blocks that are freed go to a list by size and come back from it, so a training step allocates nothing from
 * the system after the first. Counted are the bytes asked for, not the blocks. */
#ifndef DEVICE_H
#define DEVICE_H

#include "common/base/base.h"

typedef enum {
    MEMORY_PARAMETERS,
    MEMORY_GRADIENTS,
    MEMORY_OPTIMIZER,
    MEMORY_ACTIVATIONS,
    MEMORY_COMMUNICATION, /* buckets and gathered weights as well */
    MEMORY_CLASSES
} MemoryClass;
extern const char *const memory_class_names[MEMORY_CLASSES];

typedef struct {
    int64_t now[MEMORY_CLASSES], peak[MEMORY_CLASSES]; /* bytes of each class, and the most it ever held */
    int64_t joint_peak;                                /* the most that all classes held together ... */
    int64_t at_joint_peak[MEMORY_CLASSES];             /* ... and what each held then */
} MemoryUse;

struct Kernels;
struct Meter;
struct Clock;

/* The order in which work happens: on a CPU a queue runs each kernel at once, on a GPU it is a stream. */
typedef struct {
    int threads;
    bool openblas;       /* OpenBLAS instead of our own products (cpu/gemm.c) */
    struct Meter *meter; /* told of each kernel; NULL: nobody is */
    struct Clock *clock; /* of its own (clock.h); NULL: the machine's */
} Queue;

typedef struct FreeList FreeList;
typedef struct {
    const struct Kernels *kernels;
    Queue queue;
    MemoryUse memory;
    int64_t budget; /* bytes; 0: none */
    FreeList *free_lists;
    int free_list_count;
} Device;

/* A device with this table of kernels; a backend's own function (device_new_cpu) calls it.
 * budget: bytes that all classes together may hold, 0 for no limit. */
Device *device_new(const struct Kernels *kernels, int64_t budget);
void device_delete(Device *device);

/* `name` speaks in the error when the budget is passed: exit 1, the classes' totals, what would help. */
void *device_alloc(Device *device, MemoryClass class, int64_t bytes, const char *name);
void device_free(Device *device, MemoryClass class, void *data, int64_t bytes);

#endif
