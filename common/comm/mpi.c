/* Ranks started by mpiexec. MPI brings them together and carries bytes between machines; how a collective runs stands
 * in rounds.c, how ranks of one machine meet in shared.c.
 *
 * Stock MPI spins while it waits, and takes 24 to 51 ms for a small all-reduce of 8 ranks on 2 cores. So nothing here
 * blocks in MPI after the start. A rank that waits for one call goes on with all its calls, as far as they go; when
 * none does, it sleeps: on its bell, which those that share its machine ring, or, where messages of MPI may come, which
 * ring nothing, a little longer each time. */
#define _GNU_SOURCE
#include "common/base/closed_memory.h"
#include "common/comm/group.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

static void (*world_closed)(void);
static Group *groups;        /* of this process */
static GroupRequest *unused; /* requests */
static int next_id = 1;      /* for groups that MPI serves */
static int64_t moves;        /* how often a call has gone on */
bool (*group_meanwhile)(void);

/* ---- calls under way ---- */

static GroupRequest *request_new(Group *g, const CommCall *call, double ready) {
    GroupRequest *request = unused;
    if (request)
        unused = request->next;
    else
        request = xcalloc(1, sizeof *request);
    *request =
        (GroupRequest){.group = g, .call = *call, .moved = -1, .ready = ready, .handle = request->handle};
    return request;
}

/* A message goes on when no earlier one to, or from, the same rank is under way. */
static bool is_first(const Group *g, const GroupRequest *request) {
    for (const GroupRequest *r = g->messages; r != request; r = r->next)
        if (!r->done && r->call.kind == request->call.kind && r->call.peer == request->call.peer)
            return false;
    return true;
}

/* Takes finished calls out of a list. */
static void drop_done(GroupRequest **list, GroupRequest ***end) {
    GroupRequest **link = list;
    while (*link)
        if ((*link)->done)
            *link = (*link)->next;
        else
            link = &(*link)->next;
    *end = link;
}

static bool group_advance(Group *g) {
    bool moved = false;
    for (GroupRequest *r = g->messages; r; r = r->next)
        if (is_first(g, r)) moved |= g->transport->move(g, r);
    while (g->collectives) {
        moved |= rounds_advance(g->collectives);
        if (!g->collectives->done) break;
        drop_done(&g->collectives, &g->collectives_end);
    }
    drop_done(&g->messages, &g->messages_end);
    moves += moved;
    return moved;
}

static void *mpi_start(Comm *comm, Queue *q, const CommCall *call, double ready) {
    (void)q; /* what was issued to a CPU's queue is done */
    Group *g = (Group *)comm;
    GroupRequest *request = request_new(g, call, ready);
    request->call.in = closed_memory_open(call->in); /* of a device of this kind, or of the host */
    request->call.out = closed_memory_open(call->out);
    bool message = call->kind == COMM_SEND || call->kind == COMM_RECV;
    request->number = call->kind == COMM_SEND ? ++g->sent[call->peer]
                      : message               ? ++g->received[call->peer]
                                              : ++g->calls;
    GroupRequest ***end = message ? &g->messages_end : &g->collectives_end;
    **end = request;
    *end = &request->next;
    group_advance(g);
    return request;
}

/* ---- waiting ---- */

/* Asking MPI again and again: how often without a sleep, then the shortest and the longest one. A rank that only others
 * of its machine can help sleeps until its bell rings; after a long time it looks up now and then (stall_look), unless
 * the bell rings for that too. */
enum { QUICK_LOOKS = 64 };
static const double SHORT_SLEEP = 20e-6, LONG_SLEEP = 1e-3, LONG_TIME = 0.5, NOW_AND_THEN = 20e-3;

static void sleep_a_while(uint32_t bell, int looks, bool messages, bool long_ago) {
    if (messages && looks < QUICK_LOOKS) {
        sched_yield();
        return;
    }
    double longer = SHORT_SLEEP * (double)(looks - QUICK_LOOKS + 1);
    if (messages)
        bell_sleep(bell, longer < LONG_SLEEP ? longer : LONG_SLEEP);
    else
        bell_sleep(bell, long_ago && !stall_rings() ? NOW_AND_THEN : LONG_TIME);
}

/* All calls of this rank go as far as they can: has any moved? Sets *quiet where one may go on that rings no bell. */
static bool advance_all(bool *quiet) {
    bool moved = false;
    for (Group *g = groups; g; g = g->next)
        if (g->collectives || g->messages) {
            *quiet |= g->transport == &transport_messages;
            moved |= group_advance(g);
        }
    return moved;
}

static bool mpi_done(Comm *comm, void *started) {
    (void)comm;
    bool quiet = false;
    advance_all(&quiet);
    return ((GroupRequest *)started)->done;
}

static CommArrival mpi_wait(Comm *comm, Queue *q, void *started) {
    (void)comm, (void)q;
    GroupRequest *request = started;
    double idle = 0, stands_since = 0;
    int looks = 0;
    while (!request->done) {
        uint32_t bell = bell_read();
        bool messages = group_meanwhile && group_meanwhile(), moved = advance_all(&messages);
        if (request->done) break;
        if (moved) {
            looks = 0;
            continue;
        }
        double start = now_seconds();
        if (looks == 0) stands_since = start;
        bool long_ago = start - stands_since > LONG_TIME;
        if (long_ago) stall_look(moves, request);
        sleep_a_while(bell, looks++, messages, long_ago);
        idle += now_seconds() - start;
    }
    CommArrival arrival = {.ready = request->ready, .number = request->number, .idle = idle};
    request->next = unused;
    unused = request;
    return arrival;
}

/* ---- groups ---- */

static const CommBackend backend_mpi;

/* Not yet able to speak: shared_join or messages_join makes it so. */
static Group *group_new(const char *name, Comm *parent, int rank, int size, const int *world_rank) {
    Group *g = xcalloc(1, sizeof *g);
    size_t n = (size_t)size;
    g->comm = (Comm){.backend = &backend_mpi, .name = name, .rank = rank, .size = size, .parent = parent};
    g->comm.world_rank = memcpy(xmalloc(n * sizeof *world_rank), world_rank, n * sizeof *world_rank);
    for (int r = 0; r < size; r++)
        g->comm.local_size += world.machine[world_rank[r]] == world.machine[world.rank];
    g->sent = xcalloc(n, sizeof *g->sent);
    g->received = xcalloc(n, sizeof *g->received);
    g->rows = xcalloc(2 * n, sizeof *g->rows);
    g->collectives_end = &g->collectives;
    g->messages_end = &g->messages;
    g->next = groups;
    groups = g;
    return g;
}

static void join_shared(Group *g, int64_t place) {
    int *seats = xmalloc((size_t)g->comm.size * sizeof *seats);
    for (int r = 0; r < g->comm.size; r++) seats[r] = world.seat[g->comm.world_rank[r]];
    shared_join(g, place, seats);
    free(seats);
}

/* What the groups themselves need to say is not counted. */
static void call_uncounted(Comm *comm, CommCall call) {
    mpi_wait(comm, NULL, mpi_start(comm, NULL, &call, 0));
}

static void gather_ints(Comm *comm, const void *in, void *out, size_t bytes) {
    int64_t count = (int64_t)(bytes / sizeof(int32_t));
    call_uncounted(
        comm, (CommCall){.kind = COMM_ALL_GATHER, .type = TYPE_I32, .count = count, .in = in, .out = out});
}

/* What each rank of the group that is split tells the others. */
typedef struct {
    int32_t color, key, world_rank, next_id;
} Wish;

static int by_key_then_rank(const void *a, const void *b) {
    const Wish *x = *(const Wish *const *)a, *y = *(const Wish *const *)b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x > y) - (x < y);
}

/* It has nobody to share a slot with. */
static Comm *group_of_one(Comm *parent, const char *name) {
    Comm *alone = comm_self();
    alone->name = name;
    alone->parent = parent;
    alone->world_rank = &world.rank;
    return alone;
}

static Comm *mpi_split(Comm *comm, int color, int key, const char *name) {
    int n = comm->size, size = 0, rank = 0;
    Wish *wishes = xmalloc((size_t)n * sizeof *wishes), wish = {color, key, world.rank, next_id};
    gather_ints(comm, &wish, wishes, sizeof wish);

    const Wish **members = xmalloc((size_t)n * sizeof *members);
    bool shares = true;
    for (int r = 0; r < n; r++) {
        next_id = (int)max64(next_id, wishes[r].next_id + 1);
        if (color >= 0 && wishes[r].color == color) members[size++] = &wishes[r];
    }
    qsort(members, (size_t)size, sizeof *members, by_key_then_rank);
    int *world_rank = xmalloc((size_t)n * sizeof *world_rank);
    for (int r = 0; r < size; r++) {
        world_rank[r] = members[r]->world_rank;
        shares = shares && world.machine[world_rank[r]] == world.machine[world.rank];
        if (world_rank[r] == world.rank) rank = r;
    }

    /* the first member asks for a place, the others find it in what everyone is told */
    int64_t place = size > 1 && shares && rank == 0 ? shared_place(size) : 0;
    int64_t *places = xmalloc((size_t)n * sizeof *places);
    gather_ints(comm, &place, places, sizeof place);
    Group *g = NULL;
    if (size > 1) {
        place = places[members[0] - wishes];
        g = group_new(name, comm, rank, size, world_rank);
        CHECK(next_id <= messages_max_id() + 1, "close groups that are not needed", "too many groups");
        if (place)
            join_shared(g, place);
        else
            messages_join(g, next_id - 1);
    }
    free(wishes);
    free(members);
    free(world_rank);
    free(places);
    return g ? &g->comm : size == 1 ? group_of_one(comm, name) : NULL;
}

Group *group_of_all(int64_t place, void (*closed)(void)) {
    world_closed = closed;
    int *ranks = xmalloc((size_t)world.size * sizeof *ranks);
    for (int r = 0; r < world.size; r++) ranks[r] = r;
    Group *g = group_new("world", NULL, world.rank, world.size, ranks);
    free(ranks);
    if (place)
        join_shared(g, place);
    else
        messages_join(g, next_id);
    next_id++;
    call_uncounted(&g->comm, (CommCall){.kind = COMM_BARRIER});
    g->calls = 0;
    return g;
}

static void group_free(Group *g) {
    Group **link = &groups;
    while (*link != g) link = &(*link)->next;
    *link = g->next;
    g->transport->close(g);
    free((int *)(uintptr_t)g->comm.world_rank);
    free(g->sent);
    free(g->received);
    free(g->rows);
    free(g);
}

static void mpi_close(Comm *comm) {
    Group *g = (Group *)comm;
    bool last = !comm->parent;
    call_uncounted(comm, (CommCall){.kind = COMM_BARRIER});
    CHECK(!g->collectives && !g->messages && !comm->collectives, "comm_wait for every call that was started",
          "group '%s' is closed while calls are under way", comm->name);
    group_free(g);
    if (!last) return;
    while (unused) {
        GroupRequest *next = unused->next;
        free(unused->handle);
        free(unused);
        unused = next;
    }
    world_closed();
}

static const CommBackend backend_mpi = {.name = "mpi",
                                        .start = mpi_start,
                                        .done = mpi_done,
                                        .wait = mpi_wait,
                                        .split = mpi_split,
                                        .close = mpi_close};
