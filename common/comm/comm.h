/* comm: what devices send each other. A device is a process; its rank is a number from 0 on; a Comm is a group of them.
 *
 * Two groups exist from the start, behind one table: a device alone (comm_self) and all that mpiexec started
 * (comm_world); comm_split makes smaller ones. Calls on a GPU's memory have a backend of their own (comm_on_device). Counts
 * are elements, used as in NCCL. Every rank of a group makes the same calls in the same order. A call that the others do not
 * make, or make with other arguments, ends the program, and the message names both calls. A rank that dies ends the job, and
 * is named.
 *
 * Sums and maxima are taken in rank order: the same bits in every run, however the bytes travel. A result may replace
 * its input: out == in, and for all_gather and reduce_scatter the rank's own block of the larger buffer as well.
 *
 * Every call is issued to a queue: it begins when the queue's earlier work is done. A plain call is done when the
 * queue's later work begins. One with `start` in its name only begins; until comm_wait, `in` must not change and `out`
 * must not be read. */
#ifndef COMM_H
#define COMM_H

#include "common/tensor/tensor.h"

typedef enum {
    COMM_ALL_REDUCE,
    COMM_ALL_GATHER,
    COMM_REDUCE_SCATTER,
    COMM_BROADCAST,
    COMM_ALL_TO_ALL,
    COMM_SEND,
    COMM_RECV,
    COMM_BARRIER,
    COMM_KINDS
} CommKind;
extern const char *const comm_kind_names[COMM_KINDS];

typedef enum { REDUCE_SUM, REDUCE_MAX } Reduction;

/* What a rank asks for. n: the size of the group. */
typedef struct {
    CommKind kind;
    ElementType type;
    Reduction reduction; /* of all_reduce and reduce_scatter */
    int peer;            /* the root of broadcast, the other side of send and recv; otherwise 0 */
    int64_t count;
    const void *in;
    void *out;
} CommCall;

/* How many elements the call reads and writes in a group of n. */
static inline int64_t comm_elements_in(const CommCall *call, int n) {
    bool rows = call->kind == COMM_REDUCE_SCATTER || call->kind == COMM_ALL_TO_ALL;
    return call->in ? call->count * (rows ? n : 1) : 0;
}
static inline int64_t comm_elements_out(const CommCall *call, int n) {
    bool rows = call->kind == COMM_ALL_GATHER || call->kind == COMM_ALL_TO_ALL;
    return call->out ? call->count * (rows ? n : 1) : 0;
}

/* Bytes are those that this rank would send in a ring, whatever really moved: summed over the ranks exactly
 * 2 (n-1) S for all_reduce, (n-1) S for all_gather, reduce_scatter and broadcast, (n-1) S for all_to_all where S is
 * what one rank sends to all, itself included; recv counts calls only. */
typedef struct {
    int64_t calls, bytes;
} CommCount;

typedef struct Comm Comm;
typedef struct CommRequest CommRequest; /* a call that has begun */

/* What becomes known when a call is done. */
typedef struct {
    double
        ready; /* the latest of those that the ranks of a collective, or the sender of a recv, gave to start */
    int64_t
        number;  /* of the call: collectives of a group are counted, and messages from one rank to another */
    double idle; /* seconds of this machine: asleep, or waiting for ranks that have not come yet */
    /* Where a stream of the device's has carried it, and device->stamps is set: the stream's name (which lives as long as the
     * group) and number, and the stamps around the call. */
    const char *stream;
    int stream_number;
    void *began, *ended;
} CommArrival;

/* What a kind of device must be able to do: a backend is one of these. */
typedef struct {
    const char *name;
    /* Never blocks; the result is the backend's own. ready: travels with the call. */
    void *(*start)(Comm *comm, Queue *q, const CommCall *call, double ready);
    /* Goes on with all calls that are under way, as far as they go: is this one done? NULL where reaches_devices. */
    bool (*done)(Comm *comm, void *started);
    CommArrival (*wait)(Comm *comm, Queue *q, void *started); /* and frees what start gave */
    Comm *(*split)(Comm *comm, int color, int key, const char *name);
    Comm *(*split_listed)(Comm *comm, const int *members, int count, const char *name); /* NULL: by split */
    void (*close)(Comm *comm);
    bool reaches_devices; /* its calls are as good for memory that the host cannot reach */
} CommBackend;

/* Told of every call when it has been waited for, or when its times are known (comm_tell_late); may be NULL. Times are the
 * queue's (queue_now). */
typedef struct {
    const Comm *comm;
    CommCall call;
    int64_t number; /* as CommArrival has it */
    double begin,
        end; /* when it began to move, and was done; without a clock of its own: was issued, and waited for */
    const char *about;  /* as comm_about has it; NULL: nobody said */
    const char *stream; /* of the device's, as CommArrival has it: begin and end are its times; NULL: none */
    int stream_number;
} CommEvent;
typedef struct {
    void (*done)(void *context, const CommEvent *event);
    void *context;
    void (*waited)(void *context, double begin, double end); /* the queue stood still; may be NULL */
} CommObserver;

struct Comm {
    const CommBackend *backend;
    const char *name;
    int rank, size;
    int local_size;        /* how many of them share this machine */
    Comm *parent;          /* the group it was split from; NULL for the first */
    const int *world_rank; /* of each member */
    int64_t memory; /* bytes that this rank holds for the group's calls: its slots, its channels; ... */
    int64_t memory_of_all; /* ... and for those of the groups that were split from it */
    Device *device;        /* which counts them; NULL: nobody does */
    const CommBackend
        *on_device; /* of calls on memory that the host cannot reach; NULL: by pinned memory (staging.h) */
    void *on_device_state; /* the backend's own */

    /* since the start; those of a group hold those of the groups that were split from it */
    CommCount counts[COMM_KINDS];
    double seconds;      /* in calls: what the queue waited for them */
    double idle_seconds; /* of these: waiting for others that had not come yet */

    CommObserver observer;         /* of this group, and of those that are split from it */
    CommRequest *collectives;      /* under way, the first one first */
    int clock_number;              /* by which clock: */
    double done_until, sent_until; /* its collectives are done; its messages have left */
};

/* The ranks that mpiexec (or srun) started, as the group "world". Started without: a group of one, and MPI is not
 * touched. Call it once, early in main, behind args_parse (whose mistakes rank 0 then says alone). It also divides the machine's cores among its ranks
 * (platform_threads). */
Comm *comm_world(void);
/* A group of one. */
Comm *comm_self(void);
/* Every rank calls it, and those that give the same color (0 or more) form a group, ordered by key, then by rank.
 * color -1: none, the result is NULL. `name` must outlive the group. */
Comm *comm_split(Comm *comm, int color, int key, const char *name);
/* ... where each rank knows who is with it: the group of these ranks of comm, in this order. Every rank of comm calls it, with the
 * list of its own group; count 0: none, the result is NULL. */
Comm *comm_split_listed(Comm *comm, const int *members, int count, const char *name);
/* ... into groups of `size` ranks that are `stride` apart, in their order: rank r is number r / stride % size of its group.
 * size x stride divides the size of comm. */
Comm *comm_split_strided(Comm *comm, int size, int stride, const char *name);
/* From now on what this rank holds for calls of this group, and of groups that are split from it, is communication
 * memory of `device`, which must outlive them. A group of n that shares memory holds two slots of 1 MB and 1/n MB (and
 * some bytes), and a channel of 2 MB for each rank that it sends to. */
void comm_account(Comm *comm, Device *device);
/* From now on this backend (comm_nccl) makes the calls on memory that the host cannot reach, in this group and in those that
 * are split from it. NULL: they go through pinned memory of the host's. By the model clock they always do. */
void comm_on_device(Comm *comm, const CommBackend *backend);
/* For backends: this rank holds so many bytes more for the group. */
void comm_hold(Comm *comm, int64_t bytes);
/* since (COMM_KINDS): what the group has counted since its counts were `before` (COMM_KINDS). */
void comm_counts_since(const Comm *comm, const CommCount *before, CommCount *since);
/* Leaves the group; every rank calls it. Groups that were split from it are closed before. */
void comm_close(Comm *comm);

/* Ends the program with 2 for something that all ranks know of, and rank 0 says: what cannot work, and what could.
 * Every rank of `world` calls it. */
_Noreturn void comm_refuse(Comm *world, const char *hint, const char *message);

/* For calls on the host's own memory that devices wait for: a queue with the clock of q, and no device. */
static inline Queue queue_of_host(const Queue *q) { return (Queue){.clock = q->clock}; }

/* out (count) = the sum, or maximum, over the ranks of their in (count) */
void comm_all_reduce(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type,
                     Reduction reduction);
/* The sum, the maximum over the ranks of their x, a number of the host's. */
double comm_sum(Comm *comm, double x);
double comm_most(Comm *comm, double x);
/* out (n, count): row r is in (count) of rank r */
void comm_all_gather(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type);
/* out (count) = the sum over the ranks of row `rank` of their in (n, count) */
void comm_reduce_scatter(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type,
                         Reduction reduction);
/* data (count) of every rank becomes that of the root */
void comm_broadcast(Comm *comm, Queue *q, void *data, int64_t count, ElementType type, int root);
/* out (n, count): row r is row `rank` of in (n, count) of rank r */
void comm_all_to_all(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type);
/* Messages from one rank to another arrive in the order in which they were sent. A plain send may wait for its recv. */
void comm_send(Comm *comm, Queue *q, const void *data, int64_t count, ElementType type, int to);
void comm_recv(Comm *comm, Queue *q, void *data, int64_t count, ElementType type, int from);
/* Returns when every rank has called it. */
void comm_barrier(Comm *comm, Queue *q);

/* Begins a call. Collectives of one group complete in the order in which they began. */
CommRequest *comm_start(Comm *comm, Queue *q, CommCall call);
CommRequest *comm_start_all_reduce(Comm *comm, Queue *q, const void *in, void *out, int64_t count,
                                   ElementType type, Reduction reduction);
CommRequest *comm_start_all_gather(Comm *comm, Queue *q, const void *in, void *out, int64_t count,
                                   ElementType type);
CommRequest *comm_start_reduce_scatter(Comm *comm, Queue *q, const void *in, void *out, int64_t count,
                                       ElementType type, Reduction reduction);
CommRequest *comm_start_send(Comm *comm, Queue *q, const void *data, int64_t count, ElementType type, int to);
CommRequest *comm_start_recv(Comm *comm, Queue *q, void *data, int64_t count, ElementType type, int from);
/* What the call is about, in a word, for those who observe: it must live until they are told. */
void comm_about(CommRequest *request, const char *about);
/* Tells the observers of calls that were waited for, and whose times a device has known when its streams were through with them.
 * The host waits for that, unless it has already. Without device->stamps there are none. */
void comm_tell_late(void);
/* The queue's later work begins when the request is done. Once for each request. */
void comm_wait(Comm *comm, Queue *q, CommRequest *request);

/* "all_reduce of 100 f32, sum" and the like, for messages. */
typedef struct {
    char text[96];
} CommCallText;
CommCallText comm_call_text(const CommCall *call);

#endif
