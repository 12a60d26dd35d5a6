/* The model clock: kernels charge what the table of devices says, messages carry their sender's clock, collectives take
 * what a ring takes, in any order of waiting, on any number of ranks; the same digits twice. Formulas are written out
 * here once more, in the form of FORMULAS: n ranks, S bytes, latency a, bandwidth W.
 *
 * TEST np: 1 3, all: 2 5 8
 * TEST variants: float asan */
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"

#include <stdlib.h>
#include <string.h>

static Comm *world,
    *group; /* group: all ranks again, apart from what the tests themselves say to each other */
static Device *device;
static Clock clock_;
static const DeviceModel *model;

enum { COUNT = 3000 };
static float data[8 * COUNT], out[8 * COUNT];

static double now(void) { return queue_now(&device->queue); }

static void begin(const char *name) {
    model = device_model(name);
    clock_attach(device, &clock_, model);
}

static void end(void) { clock_detach(&clock_); }

static void close_on_all(double got, double want, const char *what) {
    ok_on_all(world, fabs(got - want) <= 1e-12 * fabs(want) + 1e-18, "%s: %.12g, expected %.12g", what, got,
              want);
}

/* Products are bound by FLOPs here, sums by bytes. */
static void test_kernels(void) {
    begin("h100");
    int64_t n = 640; /* 16 n / 6 FLOPs a byte */
    Tensor a = tensor_new(device, MEMORY_ACTIVATIONS, "a", TYPE_REAL, SHAPE(n, n));
    Tensor b = tensor_new(device, MEMORY_ACTIVATIONS, "b", TYPE_REAL, SHAPE(n, n));
    device->kernels->zero(&device->queue, &a);
    double bytes = (double)tensor_bytes(&a), at = bytes / model->memory_bandwidth;
    close_on_all(now(), at, "zero: its bytes");
    device->kernels->accumulate(&device->queue, &a, &a);
    at += 3 * bytes / model->memory_bandwidth;
    close_on_all(now(), at, "accumulate: three times its bytes");
    device->kernels->matmul(&device->queue, &a, false, &a, false, NULL, &b, false);
    double flops = 2.0 * (double)(n * n * n);
    at += fmax(flops / model->flops, 3 * bytes / model->memory_bandwidth);
    close_on_all(now(), at, "matmul: its FLOPs or its bytes");
    end();
    begin("ideal");
    device->kernels->matmul(&device->queue, &a, false, &a, false, NULL, &b, false);
    close_on_all(now(), flops / 1e12, "the ideal device: FLOPs alone");
    end();
    ok_on_all(world, !device->queue.clock && !device->queue.meter, "the clock goes away again");
    ok_on_all(world, fabs(now() - now_seconds()) < 60, "and then it is this machine's time");
    tensor_free(&a);
    tensor_free(&b);
}

/* While it is held, messages alone take time, and what the program says. */
static void test_hold(void) {
    begin("a100");
    Tensor a = tensor_new(device, MEMORY_ACTIVATIONS, "a", TYPE_REAL, SHAPE(100));
    clock_hold(&clock_, true);
    device->kernels->zero(&device->queue, &a);
    close_on_all(now(), 0, "a clock that is held");
    clock_pass(&clock_, 0.25 * (group->rank + 1));
    close_on_all(now(), 0.25 * (group->rank + 1), "seconds that pass");
    comm_barrier(group, &device->queue);
    double at = 0.25 * group->size + 2 * (group->size - 1) * model->inside.latency;
    close_on_all(now(), at, "a barrier while it is held");
    clock_hold(&clock_, false);
    device->kernels->zero(&device->queue, &a);
    close_on_all(now(), at + (double)tensor_bytes(&a) / model->memory_bandwidth, "a clock that goes on");
    end();
    begin("a100");
    device->kernels->zero(&device->queue, &a);
    close_on_all(now(), (double)tensor_bytes(&a) / model->memory_bandwidth, "the next clock is not held");
    end();
    tensor_free(&a);
}

/* One rank comes late: all go on from there. */
static void work(double seconds) { clock_pass(&clock_, seconds); }

static double seconds_of(CommKind kind) {
    double n = group->size, S = COUNT * sizeof *data, a = model->inside.latency, W = model->inside.bandwidth;
    switch (kind) {
    case COMM_ALL_REDUCE: return 2 * (n - 1) * a + 2 * (n - 1) / n * S / W;
    case COMM_ALL_GATHER: /* S is what each gives: n S in all */
    case COMM_REDUCE_SCATTER:
    case COMM_ALL_TO_ALL: return (n - 1) * a + (n - 1) / n * (n * S) / W;
    case COMM_BROADCAST: return n > 1 ? (n - 1) * a + S / W : 0;
    case COMM_BARRIER: return 2 * (n - 1) * a;
    default: return NAN;
    }
}

static void test_collectives(void) {
    begin("a100");
    double at = 0, seconds = group->seconds, idle = group->idle_seconds;
    for (CommKind kind = 0; kind < COMM_KINDS; kind++) {
        if (kind == COMM_SEND || kind == COMM_RECV) continue;
        work(1e-3 * (group->rank + 1));
        at += 1e-3 * group->size;
        CommCall call = {.kind = kind, .count = kind == COMM_BARRIER ? 0 : COUNT, .in = data, .out = out};
        if (kind == COMM_BROADCAST) call.in = out;
        double before = now();
        comm_wait(group, &device->queue, comm_start(group, &device->queue, call));
        idle += at - before;
        seconds += at + seconds_of(kind) - before;
        at += seconds_of(kind);
        close_on_all(now(), at, comm_kind_names[kind]);
    }
    close_on_all(group->seconds, seconds, "seconds in calls");
    close_on_all(group->idle_seconds, idle, "of these, waiting for the others");
    end();
}

/* Buckets that become ready while backward runs: end_k = max(ready_k, end_(k-1)) + cost; waited for in another order. */
static void test_overlap(void) {
    enum { BUCKETS = 4, SHARE = COUNT / BUCKETS };
    static const double gaps[BUCKETS] = {1e-5, 2e-5, 5e-3, 1e-6};
    static const int order[BUCKETS] = {2, 0, 3, 1};
    begin("laptop-core");
    CommRequest *requests[BUCKETS];
    double ready = 0, ends[BUCKETS];
    for (int k = 0; k < BUCKETS; k++) {
        work(gaps[k]);
        ready += gaps[k];
        requests[k] =
            comm_start_all_reduce(group, &device->queue, data, out + k * SHARE, SHARE, TYPE_F32, REDUCE_SUM);
        double n = group->size, S = (double)SHARE * sizeof *data;
        double cost = 2 * (n - 1) * model->inside.latency + 2 * (n - 1) / n * S / model->inside.bandwidth;
        ends[k] = fmax(ready, k ? ends[k - 1] : 0) + cost;
    }
    double at = ready;
    for (int i = 0; i < BUCKETS; i++) {
        comm_wait(group, &device->queue, requests[order[i]]);
        at = worse(at, ends[order[i]]);
        close_on_all(now(), at, "a bucket ends");
    }
    end();
}

/* A message leaves when those before it have left, and arrives latency later; who comes late finds it there. */
static void test_messages(void) {
    if (group->size < 2) return;
    begin("a100");
    double S = COUNT * sizeof *data, a = model->inside.latency, W = model->inside.bandwidth, at = 0;
    if (group->rank == 0) {
        work(1e-3);
        CommRequest *first = comm_start_send(group, &device->queue, data, COUNT, TYPE_F32, 1);
        CommRequest *second = comm_start_send(group, &device->queue, data, COUNT, TYPE_F32, 1);
        comm_wait(group, &device->queue, second);
        comm_wait(group, &device->queue, first);
        at = 1e-3 + 2 * S / W;
    } else if (group->rank == 1) {
        comm_recv(group, &device->queue, out, COUNT, TYPE_F32, 0);
        ok(fabs(now() - (1e-3 + S / W + a)) < 1e-15, "the first message");
        work(1);
        comm_recv(group, &device->queue, out, COUNT, TYPE_F32, 0);
        at = 1e-3 + S / W + a + 1;
    }
    close_on_all(now(), at, "two messages, one after the other");
    end();
}

/* More devices than a node has: latency of the links across; as many of those at once as members are on each node. */
static void test_nodes(void) {
    DeviceModel pairs = *device_model("h100");
    pairs.per_node = 2;
    clock_attach(device, &clock_, &pairs);
    Comm *odd = comm_split(world, world->rank % 2, world->rank, "odd or even");
    double n = world->size, S = COUNT * sizeof *data, nodes = ceil(n / 2);
    double W = fmin(450e9, fmax(1, floor(n / nodes)) * 50e9), a = 9.6e-6;
    if (nodes == 1) W = 450e9, a = 3.4e-6;
    comm_all_reduce(world, &device->queue, data, out, COUNT, TYPE_F32, REDUCE_SUM);
    double at = 2 * (n - 1) * a + 2 * (n - 1) / n * S / W;
    close_on_all(now(), at, "all_reduce between nodes");
    n = odd->size; /* one on each node */
    comm_all_reduce(odd, &device->queue, data, out, COUNT, TYPE_F32, REDUCE_SUM);
    if (n > 1) at += 2 * (n - 1) * 9.6e-6 + 2 * (n - 1) / n * S / 50e9;
    close_on_all(now(), at, "all_reduce among one of each node");
    comm_close(odd);
    clock_detach(&clock_);
}

static void test_table(void) {
    char *names = device_model_names(" ");
    static const char *const expected[] = {"laptop-core", "a100", "h100", "h200", "tpu-v4", "ideal"};
    for (int i = 0; i < COUNT_OF(expected); i++)
        ok_on_all(world, device_model(expected[i]) && strstr(names, expected[i]), "there is a model of %s",
                  expected[i]);
    ok_on_all(world, !device_model("abacus"), "and none of an abacus");
    free(names);
}

int main(void) {
    world = ranks_world();
    device = device_new_cpu(0);
    for (int i = 0; i < COUNT_OF(data); i++) data[i] = 1;
    group = comm_split(world, 0, world->rank, "timed");
    test_table();
    test_kernels();
    test_hold();
    test_collectives();
    test_overlap();
    test_messages();
    test_nodes();
    device_delete(device);
    comm_close(group);
    comm_close(world);
    return tap_done();
}
