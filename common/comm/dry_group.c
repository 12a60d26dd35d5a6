#include "common/comm/dry_group.h"

#include "common/comm/group.h"

#include <stdlib.h>

typedef struct {
    Comm comm;        /* comes first: a Comm of this backend is one of these */
    bool one_machine; /* has all of its ranks */
    bool *sends_to;   /* each member: has a channel to it */
} DryGroup;

static const CommBackend backend_dry;

/* The lowest rank of the machine that a rank is on, which this job may know. */
static int machine_of(int rank, int world_size) {
    return world.machine && world.size == world_size ? world.machine[rank] : 0;
}

static int world_size(const Comm *comm) {
    while (comm->parent) comm = comm->parent;
    return comm->size;
}

/* world_rank: of its members; it goes over to the group. */
static Comm *group_new(const char *name, Comm *parent, int rank, int size, int *world_rank) {
    DryGroup *g = xcalloc(1, sizeof *g);
    g->comm = (Comm){.backend = &backend_dry,
                     .name = name,
                     .rank = rank,
                     .size = size,
                     .parent = parent,
                     .world_rank = world_rank};
    g->sends_to = xcalloc((size_t)size, sizeof *g->sends_to);
    int all = world_size(&g->comm), own = machine_of(world_rank[rank], all);
    for (int r = 0; r < size; r++) g->comm.local_size += machine_of(world_rank[r], all) == own;
    g->one_machine = g->comm.local_size == size;
    bool alone = size == 1 && (parent || world.size == 0); /* mpiexec makes a group of one rank as well */
    if (!alone) comm_hold(&g->comm, g->one_machine ? shared_held(size) : messages_held(size));
    return &g->comm;
}

Comm *comm_dry(int rank, int size) {
    ASSERT(rank >= 0 && rank < size);
    int *ranks = xmalloc((size_t)size * sizeof *ranks);
    for (int r = 0; r < size; r++) ranks[r] = r;
    return group_new("world", NULL, rank, size, ranks);
}

/* What is started is when it was ready: wait needs no more. */
static void *dry_start(Comm *comm, Queue *q, const CommCall *call, double ready) {
    (void)q;
    DryGroup *g = (DryGroup *)comm;
    if (call->kind == COMM_SEND && !g->sends_to[call->peer]) {
        g->sends_to[call->peer] = true;
        if (g->one_machine) comm_hold(comm, shared_channel_held());
    }
    double *started = xmalloc(sizeof *started);
    *started = ready;
    return started;
}

static CommArrival dry_wait(Comm *comm, Queue *q, void *started) {
    (void)comm, (void)q;
    CommArrival arrival = {.ready = *(double *)started};
    free(started);
    return arrival;
}

static Comm *dry_split(Comm *comm, int color, int key, const char *name) {
    (void)color, (void)key;
    fail(1, "comm_split_listed knows them",
         "group '%s' of %s cannot be split by color where no other rank exists", comm->name, name);
}

static Comm *dry_split_listed(Comm *comm, const int *members, int count, const char *name) {
    int *world_rank = xmalloc((size_t)count * sizeof *world_rank), place = 0;
    for (int i = 0; i < count; i++) {
        world_rank[i] = comm->world_rank[members[i]];
        if (members[i] == comm->rank) place = i;
    }
    return group_new(name, comm, place, count, world_rank);
}

static void dry_close(Comm *comm) {
    DryGroup *g = (DryGroup *)comm;
    free((int *)(uintptr_t)comm->world_rank);
    free(g->sends_to);
    free(g);
}

static const CommBackend backend_dry = {.name = "dry",
                                        .start = dry_start,
                                        .wait = dry_wait,
                                        .split = dry_split,
                                        .split_listed = dry_split_listed,
                                        .close = dry_close,
                                        .reaches_devices = true};
