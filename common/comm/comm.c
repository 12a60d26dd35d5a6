/* What all kinds of devices have in common: calls are checked, counted and timed here, and carried out by the
 * group's backend. */
#define _GNU_SOURCE
#include "common/comm/clock.h"
#include "common/comm/staging.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

const char *const comm_kind_names[COMM_KINDS] = {"all_reduce", "all_gather", "reduce_scatter", "broadcast",
                                                 "all_to_all", "send",       "recv",           "barrier"};

CommCallText comm_call_text(const CommCall *call) {
    CommCallText t = {""};
    char detail[32] = "";
    switch (call->kind) {
    case COMM_ALL_REDUCE:
    case COMM_REDUCE_SCATTER:
        snprintf(detail, sizeof detail, ", %s", call->reduction == REDUCE_SUM ? "sum" : "max");
        break;
    case COMM_BROADCAST: snprintf(detail, sizeof detail, ", root %d", call->peer); break;
    case COMM_SEND: snprintf(detail, sizeof detail, " to rank %d", call->peer); break;
    case COMM_RECV: snprintf(detail, sizeof detail, " from rank %d", call->peer); break;
    default: break;
    }
    if (call->kind == COMM_BARRIER)
        snprintf(t.text, sizeof t.text, "barrier");
    else
        snprintf(t.text, sizeof t.text, "%s of %" PRId64 " %s%s", comm_kind_names[call->kind], call->count,
                 element_type_names[call->type], detail);
    return t;
}

static bool is_message(const CommCall *call) { return call->kind == COMM_SEND || call->kind == COMM_RECV; }

/* ---- the account ---- */

/* The elements of slice k when count of them are cut into n slices, as a ring cuts them. */
static int64_t slice_count(int64_t count, int n, int k) { return count * (k + 1) / n - count * k / n; }

/* Elements that this rank sends when the call runs in a ring of n. In an all_reduce it passes on every slice but one
 * while the sums form, and every slice but one while they spread. In a broadcast all but the last one pass it on. */
static int64_t ring_elements(const Comm *comm, const CommCall *call) {
    int64_t n = comm->size;
    switch (call->kind) {
    case COMM_ALL_REDUCE:
        return 2 * call->count - slice_count(call->count, comm->size, (comm->rank + 1) % comm->size) -
               slice_count(call->count, comm->size, (comm->rank + 2) % comm->size);
    case COMM_ALL_GATHER:
    case COMM_REDUCE_SCATTER:
    case COMM_ALL_TO_ALL: return (n - 1) * call->count;
    case COMM_BROADCAST: return comm->rank == (call->peer + comm->size - 1) % comm->size ? 0 : call->count;
    case COMM_SEND: return call->count;
    default: return 0;
    }
}

static void count_call(Comm *comm, const CommCall *call) {
    int64_t bytes = ring_elements(comm, call) * element_bytes(call->type);
    for (Comm *c = comm; c; c = c->parent) {
        c->counts[call->kind].calls++;
        c->counts[call->kind].bytes += bytes;
    }
}

void comm_counts_since(const Comm *comm, const CommCount *before, CommCount *since) {
    for (int kind = 0; kind < COMM_KINDS; kind++)
        since[kind] = (CommCount){comm->counts[kind].calls - before[kind].calls,
                                  comm->counts[kind].bytes - before[kind].bytes};
}

static void count_seconds(Comm *comm, double seconds, double idle) {
    for (Comm *c = comm; c; c = c->parent) {
        c->seconds += seconds;
        c->idle_seconds += idle;
    }
}

void comm_hold(Comm *comm, int64_t bytes) {
    comm->memory += bytes;
    for (Comm *c = comm; c; c = c->parent) c->memory_of_all += bytes;
    if (!comm->device) return;
    char *name = xprintf("slots of group %s", comm->name);
    device_count(comm->device, MEMORY_COMMUNICATION, bytes, name);
    free(name);
}

void comm_on_device(Comm *comm, const CommBackend *backend) {
    if (!comm->backend->reaches_devices) comm->on_device = backend;
}

void comm_account(Comm *comm, Device *device) {
    int64_t held = comm->memory;
    comm_hold(comm, -held);
    comm->device = device;
    comm_hold(comm, held);
}

/* ---- calls ---- */

struct CommRequest {
    CommRequest *next;
    CommCall call;
    Queue *queue;
    const char *about;
    const CommBackend *backend; /* the group's, or its own for devices */
    void *started;              /* the backend's */
    Staging staging;            /* where it cannot reach the device's memory */
    double issued;              /* when the queue came to it */
    double ready;               /* when it can begin, as far as this rank knows */
    bool done;                  /* and then: */
    double begin, end;          /* by the queue's clock */
};

static CommRequest *unused;

static bool has_clock(const Queue *q) { return q && q->clock; }

/* The call's memory is a device's that the host cannot reach. */
static bool is_apart(const Queue *q, const CommCall *call) {
    return q && q->device && q->device->backend->apart && (call->in || call->out);
}

static const CommBackend *backend_for(const Comm *comm, const Queue *q, const CommCall *call) {
    return comm->on_device && is_apart(q, call) && !has_clock(q) && call->count > 0 ? comm->on_device
                                                                                    : comm->backend;
}

static CommRequest *request_new(Comm *comm, Queue *q, const CommCall *call) {
    CommRequest *request = unused;
    if (request)
        unused = request->next;
    else
        request = xmalloc(sizeof *request);
    *request = (CommRequest){.call = *call, .queue = q, .backend = backend_for(comm, q, call)};
    if (is_message(call) || request->backend != comm->backend) return request;
    CommRequest **end = &comm->collectives;
    while (*end) end = &(*end)->next;
    *end = request;
    return request;
}

static double message_bytes(const CommCall *call) {
    return (double)(call->count * element_bytes(call->type));
}

/* By the model clock a message leaves when those before it have left. now: the queue's. */
static double when_ready(Comm *comm, const Queue *q, const CommCall *call, double now) {
    if (!has_clock(q)) return now;
    if (comm->clock_number != q->clock->number) {
        comm->clock_number = q->clock->number;
        comm->done_until = comm->sent_until = 0;
    }
    if (call->kind != COMM_SEND) return now;
    double ready = fmax(now, comm->sent_until);
    comm->sent_until =
        ready + message_bytes(call) / clock_message_bandwidth(q->clock->model, comm->world_rank[comm->rank],
                                                              comm->world_rank[call->peer]);
    return ready;
}

CommRequest *comm_start(Comm *comm, Queue *q, CommCall call) {
    double start = now_seconds();
    CHECK(call.count >= 0, NULL, "%s in group '%s': a negative count", comm_call_text(&call).text,
          comm->name);
    CHECK(call.peer >= 0 && call.peer < comm->size && !(is_message(&call) && call.peer == comm->rank), NULL,
          "%s by rank %d of group '%s', which has ranks 0 to %d", comm_call_text(&call).text, comm->rank,
          comm->name, comm->size - 1);
    count_call(comm, &call);
    CommRequest *request = request_new(comm, q, &call);
    const CommBackend *backend = request->backend;
    request->issued = has_clock(q) ? queue_now(q) : start;
    request->ready = when_ready(comm, q, &call, request->issued);
    if (is_apart(q, &call) && !backend->reaches_devices)
        staging_begin(&request->staging, q, comm->size, &call);
    request->started = backend->start(comm, q, &call, request->ready);
    if (!has_clock(q)) count_seconds(comm, now_seconds() - start, 0);
    return request;
}

void comm_about(CommRequest *request, const char *about) { request->about = about; }

/* When the call began and ended by the model clock. others: when the last rank, or the sender, was ready. */
static void model_times(Comm *comm, const Queue *q, CommRequest *request, double others) {
    const DeviceModel *model = q->clock->model;
    const CommCall *call = &request->call;
    if (!is_message(call)) {
        request->begin = fmax(fmax(others, request->ready), comm->done_until);
        request->end = request->begin + clock_collective_seconds(model, comm, call);
        comm->done_until = request->end;
        return;
    }
    int self = comm->world_rank[comm->rank], peer = comm->world_rank[call->peer];
    bool sends = call->kind == COMM_SEND;
    int from = sends ? self : peer, to = sends ? peer : self;
    double moving = message_bytes(call) / clock_message_bandwidth(model, from, to);
    request->begin = sends ? request->ready : others; /* which may be before anyone waits for it */
    request->end = request->begin + moving + (sends ? 0 : clock_message_latency(model, from, to));
}

static void tell_waited(const Comm *comm, double begin, double end) {
    for (const Comm *c = comm; c && end > begin; c = c->parent)
        if (c->observer.waited) c->observer.waited(c->observer.context, begin, end);
}

static void tell(const CommEvent *event) {
    for (const Comm *c = event->comm; c; c = c->parent)
        if (c->observer.done) c->observer.done(c->observer.context, event);
}

/* ---- calls whose times a device knows later ---- */

typedef struct {
    CommEvent event;
    const Device *device;
    void *began, *ended;
} LateEvent;
static LateEvent *late;
static int64_t late_count, late_capacity;

static void tell_later(const CommEvent *event, const Device *device, const CommArrival *arrival) {
    if (late_count == late_capacity) {
        late_capacity = 2 * late_capacity + 64;
        late = xrealloc(late, (size_t)late_capacity * sizeof *late);
    }
    late[late_count++] = (LateEvent){*event, device, arrival->began, arrival->ended};
}

void comm_tell_late(void) {
    for (int64_t i = 0; i < late_count; i++) {
        CommEvent *event = &late[i].event;
        event->begin = device_stamped(late[i].device, late[i].began);
        event->end = device_stamped(late[i].device, late[i].ended);
        tell(event);
    }
    late_count = 0;
}

/* ---- waiting ---- */

/* Waits for a call in real time, or has q wait for it. */
static void finish(Comm *comm, Queue *q, CommRequest *request) {
    double start = now_seconds();
    CommArrival arrival = request->backend->wait(comm, q, request->started);
    staging_end(&request->staging, request->queue);
    request->done = true;
    if (has_clock(request->queue)) {
        model_times(comm, request->queue, request, arrival.ready);
    } else {
        request->begin = request->issued;
        request->end = now_seconds();
        count_seconds(comm, request->end - start, arrival.idle);
        if (!arrival.began) tell_waited(comm, start, request->end);
    }
    CommEvent event = {comm,         request->call,  arrival.number, request->begin,
                       request->end, request->about, arrival.stream, arrival.stream_number};
    if (arrival.began)
        tell_later(&event, request->queue->device, &arrival);
    else
        tell(&event);
}

/* The queue goes on when the call is done. Of that time, idle is what passes before it begins. */
static void advance(Comm *comm, Clock *clock, const CommRequest *request) {
    double waited = fmax(request->end - clock->now, 0);
    count_seconds(comm, waited, fmin(waited, fmax(request->begin - clock->now, 0)));
    tell_waited(comm, clock->now, clock->now + waited);
    clock->now += waited;
}

void comm_wait(Comm *comm, Queue *q, CommRequest *request) {
    /* collectives are done in their order, and each begins by the model clock when the one before has ended */
    while (!request->done && request->backend == comm->backend && !is_message(&request->call)) {
        CommRequest *first = comm->collectives;
        comm->collectives = first->next;
        finish(comm, first->queue, first);
    }
    if (!request->done) finish(comm, q, request);
    if (has_clock(q)) advance(comm, q->clock, request);
    request->next = unused;
    unused = request;
}

static void call_and_wait(Comm *comm, Queue *q, CommCall call) {
    comm_wait(comm, q, comm_start(comm, q, call));
}

static Comm *like_its_parent(Comm *part) {
    if (!part) return NULL;
    const Comm *comm = part->parent;
    if (comm->device) comm_account(part, comm->device);
    comm_on_device(part, comm->on_device);
    return part;
}

Comm *comm_split(Comm *comm, int color, int key, const char *name) {
    CHECK(color >= -1, NULL, "comm_split of group '%s': color %d", comm->name, color);
    return like_its_parent(comm->backend->split(comm, color, key, name));
}

Comm *comm_split_listed(Comm *comm, const int *members, int count, const char *name) {
    int place = 0;
    while (place < count && members[place] != comm->rank) place++;
    ASSERT(count == 0 || place < count);
    if (!comm->backend->split_listed) return comm_split(comm, count ? members[0] : -1, place, name);
    return like_its_parent(count ? comm->backend->split_listed(comm, members, count, name) : NULL);
}

Comm *comm_split_strided(Comm *comm, int size, int stride, const char *name) {
    ASSERT(size > 0 && stride > 0 && comm->size % (size * stride) == 0);
    int *members = xmalloc((size_t)size * sizeof *members);
    int first = comm->rank - comm->rank / stride % size * stride;
    for (int i = 0; i < size; i++) members[i] = first + i * stride;
    Comm *part = comm_split_listed(comm, members, size, name);
    free(members);
    return part;
}

void comm_close(Comm *comm) {
    comm_hold(comm, -comm->memory);
    if (comm->on_device_state) comm->on_device->close(comm);
    comm->backend->close(comm);
}

CommRequest *comm_start_all_reduce(Comm *comm, Queue *q, const void *in, void *out, int64_t count,
                                   ElementType type, Reduction reduction) {
    return comm_start(comm, q, (CommCall){COMM_ALL_REDUCE, type, reduction, 0, count, in, out});
}

CommRequest *comm_start_all_gather(Comm *comm, Queue *q, const void *in, void *out, int64_t count,
                                   ElementType type) {
    return comm_start(comm, q, (CommCall){COMM_ALL_GATHER, type, REDUCE_SUM, 0, count, in, out});
}

CommRequest *comm_start_reduce_scatter(Comm *comm, Queue *q, const void *in, void *out, int64_t count,
                                       ElementType type, Reduction reduction) {
    return comm_start(comm, q, (CommCall){COMM_REDUCE_SCATTER, type, reduction, 0, count, in, out});
}

CommRequest *comm_start_send(Comm *comm, Queue *q, const void *data, int64_t count, ElementType type,
                             int to) {
    return comm_start(comm, q, (CommCall){COMM_SEND, type, REDUCE_SUM, to, count, data, NULL});
}

CommRequest *comm_start_recv(Comm *comm, Queue *q, void *data, int64_t count, ElementType type, int from) {
    return comm_start(comm, q, (CommCall){COMM_RECV, type, REDUCE_SUM, from, count, NULL, data});
}

void comm_all_reduce(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type,
                     Reduction reduction) {
    comm_wait(comm, q, comm_start_all_reduce(comm, q, in, out, count, type, reduction));
}

double comm_sum(Comm *comm, double x) {
    comm_all_reduce(comm, NULL, &x, &x, 1, TYPE_F64, REDUCE_SUM);
    return x;
}

double comm_most(Comm *comm, double x) {
    comm_all_reduce(comm, NULL, &x, &x, 1, TYPE_F64, REDUCE_MAX);
    return x;
}

void comm_all_gather(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type) {
    comm_wait(comm, q, comm_start_all_gather(comm, q, in, out, count, type));
}

void comm_reduce_scatter(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type,
                         Reduction reduction) {
    comm_wait(comm, q, comm_start_reduce_scatter(comm, q, in, out, count, type, reduction));
}

void comm_broadcast(Comm *comm, Queue *q, void *data, int64_t count, ElementType type, int root) {
    call_and_wait(comm, q, (CommCall){COMM_BROADCAST, type, REDUCE_SUM, root, count, data, data});
}

void comm_all_to_all(Comm *comm, Queue *q, const void *in, void *out, int64_t count, ElementType type) {
    call_and_wait(comm, q, (CommCall){COMM_ALL_TO_ALL, type, REDUCE_SUM, 0, count, in, out});
}

void comm_send(Comm *comm, Queue *q, const void *data, int64_t count, ElementType type, int to) {
    comm_wait(comm, q, comm_start_send(comm, q, data, count, type, to));
}

void comm_recv(Comm *comm, Queue *q, void *data, int64_t count, ElementType type, int from) {
    comm_wait(comm, q, comm_start_recv(comm, q, data, count, type, from));
}

void comm_barrier(Comm *comm, Queue *q) { call_and_wait(comm, q, (CommCall){.kind = COMM_BARRIER}); }

/* ---- refusing ---- */

/* The group is closed first: the mpiexec of MPICH would kill those who are left when the first one ends, and return
 * their status instead of ours. That of Open MPI does so even then: so the others wait a moment. */
void comm_refuse(Comm *world, const char *hint, const char *message) {
    base_usage_said_by(world->rank > 0);
    comm_close(world);
    fail(2, hint, "%s", message);
}
