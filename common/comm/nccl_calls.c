/* NCCL does the calls of a communicator one after the other, as its stream comes to them. Messages must not wait for each
 * other so: two ranks that each send to the other and then receive, or the other way round, would wait for ever. So the
 * collectives of a group have a communicator and a stream, a Link, and so have the messages from one rank to another, for
 * each direction.
 *
 * A link comes to be when it is first used. One of its members makes up an id, tells the others by a call of the group's on
 * the host's memory, and NCCL joins them in the background. Nothing blocks meanwhile, as the others may be waiting for
 * something else that this rank has yet to do: a call waits in line until its link is there, and whenever this rank waits,
 * for a call of whatever kind or for its GPU, all links go on (links_advance). */
#define _GNU_SOURCE
#include "common/comm/nccl_calls.h"

#include "common/comm/group.h"
#include "common/cuda/device_cuda.h"
#include "common/cuda/launched.h"

#include <nccl.h>
#include <stdlib.h>
#include <string.h>

typedef struct Link Link;
typedef struct DeviceCall DeviceCall;

struct DeviceCall {
    DeviceCall *next;
    CommCall call;
    Link *link;
    int64_t number;      /* among the link's */
    Device *device;      /* whose memory it is */
    void *ready;         /* the mark behind which the call can begin */
    void *done;          /* the mark behind which it is done */
    bool launched;       /* and `done` is set */
    void *began, *ended; /* stamps; NULL: nobody asks */
    void *scratch; /* a copy of `in`, where the result overwrites what is yet to be sent; NULL: it does not */
    int64_t scratch_bytes;
};

typedef enum { LINK_TELLING, LINK_JOINING, LINK_READY } LinkState;

struct Link {
    Link *next; /* of this process */
    char *name; /* for those who look: "data, messages to 3" */
    int number;
    int64_t calls;
    Comm *comm;
    const DeviceBackend *gpu; /* the process has one, of which there may be several devices in turn */
    int size, rank;           /* how many it joins; which of them this is */
    LinkState state;
    void *telling; /* the group's call that carries the id */
    ncclUniqueId id;
    ncclComm_t nccl;
    Queue queue;
    DeviceCall *line, **line_end; /* not yet launched, in their order */
    bool launching;               /* the first of these: NCCL connects its members for it */
};

static Link *links;
static DeviceCall *unused;

/* ---- every call is checked ---- */

static const char *hint_of(ncclResult_t result) {
    switch (result) {
    case ncclInvalidUsage: return "is each process on a GPU of its own? (--share-gpu)";
    case ncclRemoteError: return "another process has ended, or the network to it is gone";
    default: return "NCCL_DEBUG=WARN tells more; --share-gpu goes without NCCL";
    }
}

static void check(const Link *link, ncclResult_t result, const char *call) {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const char *last = ncclGetLastError(link->nccl);
    fail(1, hint_of(result), "group '%s': %.*s: %s%s%.*s", link->comm->name, (int)strcspn(call, "("), call,
         ncclGetErrorString(result), *last ? ": " : "", (int)strcspn(last, "\n"), last);
}
#define NCCL(link, call) check(link, call, #call)

/* What was begun on the link has been carried out as far as the host is needed. Also finds what has gone wrong since. */
static bool settled(const Link *link) {
    ncclResult_t state = ncclSuccess;
    NCCL(link, ncclCommGetAsyncError(link->nccl, &state));
    check(link, state, "NCCL");
    return state == ncclSuccess;
}

/* ---- a call goes to its stream ---- */

static void launch_all_to_all(const Link *link, const CommCall *call, ncclDataType_t type,
                              cudaStream_t stream) {
    int64_t bytes = call->count * element_bytes(call->type);
    NCCL(link, ncclGroupStart());
    for (int r = 0; r < link->size; r++) {
        NCCL(link,
             ncclSend((const char *)call->in + r * bytes, (size_t)call->count, type, r, link->nccl, stream));
        NCCL(link, ncclRecv((char *)call->out + r * bytes, (size_t)call->count, type, r, link->nccl, stream));
    }
    NCCL(link, ncclGroupEnd());
}

static void launch(const Link *link, const CommCall *call) {
    static const ncclDataType_t types[] = {[TYPE_F32] = ncclFloat32,
                                           [TYPE_F64] = ncclFloat64,
                                           [TYPE_I32] = ncclInt32,
                                           [TYPE_BF16] = ncclBfloat16};
    ncclDataType_t type = types[call->type];
    ncclRedOp_t op = call->reduction == REDUCE_SUM ? ncclSum : ncclMax;
    ncclComm_t nccl = link->nccl;
    cudaStream_t stream = link->queue.stream;
    const void *in = call->in;
    void *out = call->out;
    size_t count = (size_t)call->count;
    switch (call->kind) {
    case COMM_ALL_REDUCE: NCCL(link, ncclAllReduce(in, out, count, type, op, nccl, stream)); break;
    case COMM_ALL_GATHER: NCCL(link, ncclAllGather(in, out, count, type, nccl, stream)); break;
    case COMM_REDUCE_SCATTER: NCCL(link, ncclReduceScatter(in, out, count, type, op, nccl, stream)); break;
    case COMM_BROADCAST: NCCL(link, ncclBroadcast(in, out, count, type, call->peer, nccl, stream)); break;
    case COMM_ALL_TO_ALL: launch_all_to_all(link, call, type, stream); break;
    case COMM_SEND: NCCL(link, ncclSend(in, count, type, 1 - link->rank, nccl, stream)); break;
    case COMM_RECV: NCCL(link, ncclRecv(out, count, type, 1 - link->rank, nccl, stream)); break;
    default: ASSERT(!"a barrier has no memory");
    }
}

/* ---- links ---- */

static void join(Link *link) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    NCCL(link, ncclCommInitRankConfig(&link->nccl, link->size, link->id, link->rank, &config));
    link->state = LINK_JOINING;
}

/* As far as it can. */
static void link_advance(Link *link) {
    const CommBackend *host = link->comm->backend;
    if (link->state == LINK_TELLING && host->done(link->comm, link->telling)) {
        host->wait(link->comm, NULL, link->telling);
        join(link);
    }
    if (link->state == LINK_TELLING || !settled(link)) return;
    link->state = LINK_READY;
    while (link->line) {
        DeviceCall *c = link->line;
        if (!link->launching) {
            link->gpu->after(&link->queue, c->ready);
            link->gpu->drop(c->ready);
            c->began = device_stamp(c->device, &link->queue);
            launch(link, &c->call);
        }
        link->launching = !settled(link);
        if (link->launching) return;
        c->ended = device_stamp(c->device, &link->queue);
        c->done = link->gpu->mark(&link->queue);
        c->launched = true;
        link->line = c->next;
        if (!link->line) link->line_end = &link->line;
    }
}

/* Is there any with something to do that nobody rings for? */
static bool links_advance(void) {
    bool busy = false;
    for (Link *link = links; link; link = link->next) {
        link_advance(link);
        busy |= link->state != LINK_READY || link->line;
    }
    return busy;
}

/* ---- the first use of a link ---- */

static bool is_message(const CommCall *call) { return call->kind == COMM_SEND || call->kind == COMM_RECV; }

/* Member 0 makes up the id, the others get it: from the first rank of a group, from the one who sends a message. */
static Link *link_new(Comm *comm, const Device *device, const CommCall *call) {
    Link *link = xcalloc(1, sizeof *link);
    static int count;
    *link = (Link){.next = links,
                   .number = count++,
                   .comm = comm,
                   .gpu = device->backend,
                   .size = comm->size,
                   .rank = comm->rank};
    link->name = is_message(call) ? xprintf("%s, messages %s %d", comm->name,
                                            call->kind == COMM_SEND ? "to" : "from", call->peer)
                                  : xprintf("%s, collectives", comm->name);
    CommCall tell = {.kind = COMM_BROADCAST};
    if (is_message(call)) {
        link->size = 2;
        link->rank = call->kind == COMM_RECV;
        tell = (CommCall){.kind = call->kind, .peer = call->peer};
    }
    tell.type = TYPE_I32;
    tell.count = sizeof link->id / sizeof(int32_t);
    tell.in = tell.out = &link->id;
    if (link->rank == 0) NCCL(link, ncclGetUniqueId(&link->id));
    link->telling = comm->backend->start(comm, NULL, &tell, 0);
    link->line_end = &link->line;
    device_queue_open(device, &link->queue);
    links = link;
    group_meanwhile = links_advance;
    device_cuda_meanwhile(links_advance);
    return link;
}

/* A group of n keeps (1 + 2 n) of them: that of its collectives, those of messages to each rank, those of messages from
 * each. */
static Link *link_for(Comm *comm, const Device *device, const CommCall *call) {
    int n = comm->size;
    if (!comm->on_device_state) comm->on_device_state = xcalloc((size_t)(1 + 2 * n), sizeof(Link *));
    Link **of = comm->on_device_state;
    of += call->kind == COMM_SEND ? 1 + call->peer : call->kind == COMM_RECV ? 1 + n + call->peer : 0;
    if (!*of) *of = link_new(comm, device, call);
    return *of;
}

/* ---- calls ---- */

/* The call reads and writes the same bytes, and not in the one way in which NCCL allows it: a rank's own block of the larger
 * side, or all of both where they are of one size. */
static bool needs_copy(const Comm *comm, const CommCall *call, int64_t in_bytes, int64_t out_bytes) {
    if (!call->in || !call->out) return false;
    uintptr_t in = (uintptr_t)call->in, out = (uintptr_t)call->out;
    bool apart = in + (uintptr_t)in_bytes <= out || out + (uintptr_t)out_bytes <= in;
    uintptr_t own = (uintptr_t)comm->rank * (uintptr_t)min64(in_bytes, out_bytes);
    switch (call->kind) {
    case COMM_ALL_GATHER: return !apart && in != out + own;
    case COMM_REDUCE_SCATTER: return !apart && out != in + own;
    case COMM_ALL_TO_ALL: return !apart;
    default: return false;
    }
}

static void *nccl_start(Comm *comm, Queue *q, const CommCall *call, double ready) {
    (void)ready; /* of the model clock */
    DeviceCall *c = unused;
    if (c)
        unused = c->next;
    else
        c = xmalloc(sizeof *c);
    *c = (DeviceCall){.call = *call, .device = q->device};
    int64_t in_bytes = comm_elements_in(call, comm->size) * element_bytes(call->type),
            out_bytes = comm_elements_out(call, comm->size) * element_bytes(call->type);
    if (needs_copy(comm, call, in_bytes, out_bytes)) {
        c->scratch_bytes = in_bytes;
        c->scratch = device_alloc(q->device, MEMORY_COMMUNICATION, in_bytes, "copy of a call's input");
        q->device->backend->copy(q, c->scratch, call->in, in_bytes);
        c->call.in = c->scratch;
    }
    q->counts.launches++;
    c->ready = device_mark(q->device, q);
    Link *link = c->link = link_for(comm, q->device, call);
    c->number = link->calls++;
    *link->line_end = c;
    link->line_end = &c->next;
    link_advance(link);
    return c;
}

/* The queue waits, and not the host: but for a link that is not there yet. */
static CommArrival nccl_wait(Comm *comm, Queue *q, void *started) {
    (void)comm;
    DeviceCall *c = started;
    for (int looks = 0; !c->launched; looks++) {
        links_advance();
        if (!c->launched) platform_look_again(looks);
    }
    device_after(q->device, q, c->done);
    device_drop(q->device, c->done);
    if (c->scratch) device_free(c->device, MEMORY_COMMUNICATION, c->scratch, c->scratch_bytes);
    c->next = unused;
    unused = c;
    return (CommArrival){.number = c->number,
                         .stream = c->began ? c->link->name : NULL,
                         .stream_number = c->link->number,
                         .began = c->began,
                         .ended = c->ended};
}

/* ---- the end ---- */

static void each_link(const Comm *comm, void (*what)(Link *)) {
    for (Link *link = links; link; link = link->next)
        if (link->comm == comm) what(link);
}

static void finalize(Link *link) {
    CHECK(link->state == LINK_READY && !link->line, "comm_wait for every call that was started",
          "group '%s' is closed while calls are under way", link->comm->name);
    link->gpu->queue_close(&link->queue);
    NCCL(link, ncclCommFinalize(link->nccl));
}

static void destroy(Link *link) {
    for (int looks = 0; !settled(link); looks++) platform_look_again(looks);
    NCCL(link, ncclCommDestroy(link->nccl));
}

/* NCCL's members wait for each other then, link by link, and not all have them in the same order. */
static void nccl_close(Comm *comm) {
    each_link(comm, finalize);
    each_link(comm, destroy);
    for (Link **at = &links; *at;) {
        Link *link = *at;
        if (link->comm != comm) {
            at = &link->next;
            continue;
        }
        *at = link->next;
        free(link->name);
        free(link);
    }
    free(comm->on_device_state);
    comm->on_device_state = NULL;
}

const CommBackend *comm_nccl(void) {
    static const CommBackend backend = {
        .name = "nccl", .start = nccl_start, .wait = nccl_wait, .close = nccl_close, .reaches_devices = true};
    return &backend;
}
