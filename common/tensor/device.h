/* device: where tensors live. Accounted memory in five classes, a budget, and a queue that kernels are issued
 * to.
 *
 * Blocks that are freed go to a list by size and come back from it, so a training step allocates nothing from
 * the system after the first. Counted are the bytes asked for, not the blocks.
 *
 * A device's memory is not the host's. Kernels and collectives touch it, and tensor_read and tensor_write carry elements
 * over; everyone else holds addresses, and may count with them, but not follow them. closed_memory.h makes a CPU device
 * keep to that as well. */
#ifndef DEVICE_H
#define DEVICE_H

#include "common/base/base.h"

typedef enum {
    MEMORY_PARAMETERS,
    MEMORY_GRADIENTS,
    MEMORY_OPTIMIZER,
    MEMORY_ACTIVATIONS,
    MEMORY_COMMUNICATION, /* buckets, gathered weights, and slots that ranks share */
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

/* What a kind of device does with blocks of its memory. */
typedef struct {
    /* NULL: there is none left */
    void *(*take)(int64_t bytes);
    void (*give_back)(void *block, int64_t bytes);
    /* Told at each device_alloc and device_free whose a block is from now on (NULL: nobody's); NULL: nobody asks. */
    void (*rename)(void *block, const char *name);
    /* From the host's memory to the device's, and back: done when they return, behind all that the queue was given. */
    void (*write)(Queue *q, void *to, const void *from, int64_t bytes);
    void (*read)(Queue *q, void *to, const void *from, int64_t bytes);
} DeviceMemory;

/* Blocks are multiples of the first of these, those of twice the second or more multiples of that. */
enum { DEVICE_UNIT = 64, DEVICE_LARGE_UNIT = 2 << 20 };

/* Told of every change, behind it: device->memory is up to date. */
typedef struct {
    void (*changed)(void *context); /* NULL: nobody is */
    void *context;
} MemoryObserver;

typedef struct FreeList FreeList;
typedef struct {
    const struct Kernels *kernels;
    const DeviceMemory *blocks;
    Queue queue;
    MemoryUse memory;
    MemoryObserver observer;
    int64_t budget; /* bytes; 0: none */
    FreeList *free_lists;
    int free_list_count;
} Device;

/* A device with these kernels and this memory; a backend's own function (device_new_cpu) calls it.
 * budget: bytes that all classes together may hold, 0 for no limit. */
Device *device_new(const struct Kernels *kernels, const DeviceMemory *blocks, int64_t budget);
void device_delete(Device *device);

/* `name` speaks in the error when the budget is passed: exit 1, the classes' totals, what would help. */
void *device_alloc(Device *device, MemoryClass class, int64_t bytes, const char *name);
void device_free(Device *device, MemoryClass class, void *data, int64_t bytes);
/* Counts memory of the device that comes from elsewhere; bytes below 0: it is given back. */
void device_count(Device *device, MemoryClass class, int64_t bytes, const char *name);

#endif
