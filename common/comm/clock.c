#include "common/comm/clock.h"

#include <math.h>

/* ---- kernels ---- */

double clock_kernel_seconds(const DeviceModel *model, Cost cost) {
    return fmax((double)cost_flops(cost) / model->flops, (double)cost.bytes / model->memory_bandwidth);
}

static void charge(void *context, KernelCall *call) {
    Clock *clock = context;
    call->begin = clock->now;
    if (!clock->held) clock->now += clock_kernel_seconds(clock->model, call->cost);
    call->end = clock->now;
}

void clock_attach(Device *device, Clock *clock, const DeviceModel *model) {
    static int count;
    *clock = (Clock){.model = model, .device = device, .number = ++count};
    clock->meter = (Meter){.timed = charge, .context = clock};
    meter_attach(device, &clock->meter);
    device->queue.clock = clock;
}

void clock_detach(Clock *clock) {
    clock->device->queue.clock = NULL;
    meter_detach(clock->device, &clock->meter);
}

void clock_hold(Clock *clock, bool held) { clock->held = held; }

void clock_pass(Clock *clock, double seconds) { clock->now += seconds; }

double queue_now(const Queue *q) { return q && q->clock ? q->clock->now : now_seconds(); }

/* ---- messages ---- */

static const LinkModel *link_between(const DeviceModel *model, int from, int to) {
    return from / model->per_node == to / model->per_node ? &model->inside : &model->across;
}

double clock_message_latency(const DeviceModel *model, int from, int to) {
    return link_between(model, from, to)->latency;
}

double clock_message_bandwidth(const DeviceModel *model, int from, int to) {
    return link_between(model, from, to)->bandwidth;
}

/* ---- collectives ---- */

/* What each step of a ring through all members meets. */
static LinkModel ring_link(const DeviceModel *model, const Comm *comm) {
    int nodes = 1; /* members are in the order of their ranks in the world, or nearly so */
    for (int r = 1; r < comm->size; r++)
        nodes += comm->world_rank[r] / model->per_node != comm->world_rank[r - 1] / model->per_node;
    if (nodes == 1) return model->inside;
    double links = fmax(1, floor((double)comm->size / nodes));
    return (LinkModel){model->across.latency, fmin(model->inside.bandwidth, links * model->across.bandwidth)};
}

double clock_collective_seconds(const DeviceModel *model, const Comm *comm, const CommCall *call) {
    LinkModel link = ring_link(model, comm);
    double n = comm->size, steps = n - 1;
    double part =
        (double)(call->count * element_bytes(call->type)) / link.bandwidth; /* count elements on a link */
    double latency = steps * link.latency;
    switch (call->kind) {
    case COMM_ALL_REDUCE: return 2 * (latency + steps / n * part);
    case COMM_ALL_GATHER:
    case COMM_REDUCE_SCATTER:
    case COMM_ALL_TO_ALL: return latency + steps * part; /* count is a share already */
    case COMM_BROADCAST: return n > 1 ? latency + part : 0;
    case COMM_BARRIER: return 2 * latency;
    default: ASSERT(false); return 0;
    }
}
