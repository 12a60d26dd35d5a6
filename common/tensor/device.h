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

/* What a queue was given, and what the host waited for. A CPU counts as a GPU would wait, so that a laptop shows it. */
typedef struct {
    int64_t launches;         /* of kernels, where they are launched: 0 on a CPU */
    int64_t synchronisations; /* how often the host waited for the queue */
    int64_t bytes_to_device, bytes_to_host;
} QueueCounts;

typedef struct Device Device;

/* The order in which work happens: on a CPU a queue runs each kernel at once, on a GPU it is a stream. */
typedef struct {
    Device *device; /* whose it is */
    int threads;
    bool openblas;       /* OpenBLAS instead of our own products (cpu/gemm.c) */
    struct Meter *meter; /* told of each kernel; NULL: nobody is */
    struct Clock *clock; /* of its own (clock.h); NULL: the machine's */
    const struct Kernels
        *dry;     /* nothing is done, and the scratch of these is taken (dry_device.h); NULL: it is */
    void *stream; /* the backend's own */
    QueueCounts counts;
    int64_t points,
        reached; /* how many device_point has given, and up to which of them the host has waited */
} Queue;

/* A kind of device: its memory, and what its queues do besides kernels. Addresses named `to` and `from` are on the device
 * unless it says that they are the host's. What is issued happens in the queue's order, and the host does not wait for it.
 * Everyone calls the functions below, which count. */
typedef struct {
    const char *name; /* "cpu", "cuda" */
    /* The device of this process, for people, which the caller frees; NULL: whoever asks knows. */
    char *(*describe)(void);
    bool apart; /* the host cannot reach its memory, not even in collectives: copies alone do */
    /* NULL: there is none left */
    void *(*take)(int64_t bytes);
    void (*give_back)(void *block, int64_t bytes);
    /* Told at each device_alloc and device_free, in the order of the device's queue, whose a block is from now on (NULL:
     * nobody's); NULL: nobody asks. */
    void (*rename)(Queue *q, void *block, const char *name);

    /* `from` is the host's, and may change when it returns */
    void (*write)(Queue *q, void *to, const void *from, int64_t bytes);
    /* `to` is the host's: done when it returns, behind all that the queue was given */
    void (*read)(Queue *q, void *to, const void *from, int64_t bytes);
    /* within the device, issued */
    void (*copy)(Queue *q, void *to, const void *from, int64_t bytes);
    /* likewise: bytes that are 0 */
    void (*clear)(Queue *q, void *to, int64_t bytes);

    /* Memory of the host's that the device copies from and to by itself; NULL: there is none left. */
    void *(*pin)(int64_t bytes);
    void (*unpin)(void *block);
    /* issued; `from` is pinned, and stays as it is until a later mark is passed */
    void (*start_write)(Queue *q, void *to, const void *from, int64_t bytes);
    /* issued; `to` is pinned, and holds it when a later mark is passed */
    void (*start_read)(Queue *q, void *to, const void *from, int64_t bytes);

    /* All NULL where a kernel is done when its call returns. */
    void *(*mark)(Queue *q); /* a point in the queue's work: passed when all before it is done */
    void (*after)(Queue *q,
                  void *mark); /* what q is given from now on begins when the mark, of any queue, is passed */
    void (*wait)(void *mark);  /* the host waits until it is passed, and frees it */
    void (*drop)(void *mark);  /* frees it; queues that come after it still do */
    void (*sync)(Queue *q);    /* the host waits for all that the queue was given */
    /* a mark that tells when it was passed; NULL: the host's clock serves */
    void *(*stamp)(Queue *q);
    double (*stamped)(void *stamp); /* when that was, by now_seconds; waits for it, and frees it */
    bool (*queue_open)(Queue *q);   /* sets q->stream; false: no more are to be had */
    void (*queue_close)(Queue *q);
} DeviceBackend;

/* Blocks are multiples of the first of these, those of twice the second or more multiples of that. */
enum { DEVICE_UNIT = 64, DEVICE_LARGE_UNIT = 2 << 20 };

/* Told of every change, behind it: device->memory is up to date. */
typedef struct {
    void (*changed)(void *context); /* NULL: nobody is */
    void *context;
} MemoryObserver;

/* Told of each kernel that is launched and each copy, in the order in which the device's queue gets them, with a stamp in
 * front of it and one behind it. bytes: of a copy. */
typedef struct {
    void (*issued)(void *context, const char *what, int64_t bytes, void *began,
                   void *ended); /* NULL: nobody is, and there are no stamps */
    void *context;
} WorkObserver;

typedef struct FreeList FreeList;
struct Device {
    const struct Kernels *kernels;
    const DeviceBackend *backend;
    Queue queue;
    MemoryUse memory;
    MemoryObserver observer;
    bool stamps; /* device_stamp gives some: for who wants to know when a GPU did what (profile.h) */
    WorkObserver work;
    int64_t budget; /* bytes; 0: none */
    FreeList *free_lists;
    int free_list_count;
};

/* A device with these kernels, of this kind, with its queue open; a backend's own function (device_new_cpu) calls it.
 * budget: bytes that all classes together may hold, 0 for no limit. */
Device *device_new(const struct Kernels *kernels, const DeviceBackend *backend, int64_t budget);
void device_delete(Device *device);

/* `name` speaks in the error when the budget is passed: exit 1, the classes' totals, what would help. */
void *device_alloc(Device *device, MemoryClass kind, int64_t bytes, const char *name);
void device_free(Device *device, MemoryClass kind, void *data, int64_t bytes);
/* Counts memory of the device that comes from elsewhere; bytes below 0: it is given back. */
void device_count(Device *device, MemoryClass kind, int64_t bytes, const char *name);

/* ---- the backend's functions; what happens is counted in the queue's counts ---- */

/* On the device's own queue. */
void device_write(Device *device, void *to, const void *from, int64_t bytes);
void device_read(Device *device, void *to, const void *from, int64_t bytes); /* a synchronisation */
void device_copy(Device *device, void *to, const void *from, int64_t bytes);
void device_clear(Device *device, void *to, int64_t bytes); /* no kernel: a meter is not told */
void device_start_write(Device *device, void *to, const void *from, int64_t bytes);
void device_start_read(Device *device, void *to, const void *from, int64_t bytes);
/* Pinned memory: exit 1 where there is none left. It counts in no class, being the host's. */
void *device_pin(const Device *device, int64_t bytes);
void device_unpin(const Device *device, void *block); /* NULL: nothing */

/* Another queue on the device, beside its own. */
void device_queue_open(const Device *device, Queue *q);
void device_queue_close(const Device *device, Queue *q);
/* What has been counted since the counts were these. */
QueueCounts queue_counts_since(const Queue *q, QueueCounts before);
/* On any of its queues. A mark is NULL where nothing need be waited for; it goes once to device_wait or
 * device_drop. */
void *device_mark(const Device *device, Queue *q);
void device_after(const Device *device, Queue *q, void *mark);
void device_wait(const Device *device, Queue *q, void *mark); /* a synchronisation, which counts for q */
void device_sync(const Device *device, Queue *q);             /* likewise */
void device_drop(const Device *device, void *mark);           /* nobody of the host's waits for it */
/* A point in the work of the device's own queue that the host will wait for: it goes once to device_reach, which waits, unless
 * the host has waited for a later one meanwhile. A CPU counts as a GPU would wait. */
typedef struct {
    void *mark;
    int64_t number; /* 0: none, which nobody need wait for */
} QueuePoint;
QueuePoint device_point(Device *device);
void device_reach(Device *device, QueuePoint point);
/* A point in q's work whose time is asked for later; NULL where device->stamps is not set. It goes once to device_stamped: the
 * time when it was passed, on the clock of now_seconds. The host waits for that, and no count knows of it: who asks when it has
 * waited for later work anyway does not wait. */
void *device_stamp(const Device *device, Queue *q);
double device_stamped(const Device *device, void *stamp);

#endif
