/* Calls on the memory of GPUs by NCCL (its emulator): every kind, type and awkward count, in place, in several groups at once,
 * messages that cross, against the same calls on the host's memory (test_comm), to the bit. The host waits for none of them, and
 * knows later when they were; every access of a GPU's memory is checked for the order of streams.
 *
 * TEST np: 2 3, all: 1 4
 * TEST variants: emulated */
#include "common/base/rng.h"
#include "common/comm/nccl_calls.h"
#include "common/cuda/device_cuda.h"
#include "common/tensor/kernels.h"
#include "tests/collectives.h"
#include "tests/tensors.h"

#include <string.h>

static Comm *world;
static Device *device;

/* ---- the same call on the host and on the device ---- */

/* Of each rank something else; bf16 as the upper halves of floats. */
static void fill(void *data, int64_t count, ElementType type) {
    static uint64_t stream;
    real *x = xmalloc((size_t)max64(count, 1) * sizeof *x);
    rng_fill_uniform(3, ++stream * 1000 + (uint64_t)world->rank, 0, count, -1, 1, x);
    for (int64_t i = 0; i < count; i++) {
        float single = (float)x[i];
        if (type == TYPE_F32) ((float *)data)[i] = single;
        if (type == TYPE_F64) ((double *)data)[i] = x[i] / 3.0;
        if (type == TYPE_I32) ((int32_t *)data)[i] = (int32_t)(single * 1e9f);
        if (type == TYPE_BF16) memcpy((char *)data + 2 * i, (char *)&single + 2, 2);
    }
    free(x);
}

typedef struct {
    Comm *comm;
    CommCall call;
    int64_t in_bytes, out_bytes, out_offset,
        bytes; /* of the memory that both sides share, where in and out overlap */
    void *want, *got, *on_device;
    CommRequest *request;
} Trial;

/* in and out stand in one piece of memory: `out` out_offset bytes behind `in`, which may be none at all. */
static Trial trial_begin(Comm *comm, CommCall call, int64_t in_offset, int64_t out_offset) {
    int n = comm->size;
    Trial t = {.comm = comm, .call = call};
    call.in = call.out = &t; /* both are there */
    t.in_bytes = comm_elements_in(&call, n) * element_bytes(call.type);
    t.out_bytes = comm_elements_out(&call, n) * element_bytes(call.type);
    t.out_offset = out_offset;
    t.bytes = max64(in_offset + t.in_bytes, out_offset + t.out_bytes);
    char *host = xcalloc(1, (size_t)max64(t.bytes, 1));
    t.want = host;
    t.got = xmalloc((size_t)max64(t.bytes, 1));
    fill(host + in_offset, t.in_bytes / element_bytes(call.type), call.type);
    t.on_device = device_alloc(device, MEMORY_COMMUNICATION, max64(t.bytes, 1), "trial");
    device_write(device, t.on_device, host, t.bytes);
    call.in = (char *)t.on_device + in_offset;
    call.out = (char *)t.on_device + out_offset;
    t.request = comm_start(comm, &device->queue, call);
    call.in = host + in_offset;
    call.out = host + out_offset;
    comm_wait(comm, NULL, comm_start(comm, NULL, call));
    return t;
}

static bool trial_end(Trial *t) {
    comm_wait(t->comm, &device->queue, t->request);
    device_read(device, t->got, t->on_device, t->bytes);
    bool good =
        memcmp((char *)t->got + t->out_offset, (char *)t->want + t->out_offset, (size_t)t->out_bytes) == 0;
    device_free(device, MEMORY_COMMUNICATION, t->on_device, max64(t->bytes, 1));
    free(t->want);
    free(t->got);
    return good;
}

static bool trial(Comm *comm, CommCall call) {
    int64_t apart = 8 * (call.count * comm->size + 8); /* more than any of them has bytes */
    Trial t = trial_begin(comm, call, 0, call.kind == COMM_BROADCAST ? 0 : apart);
    return trial_end(&t);
}

static const ElementType types[] = {TYPE_F32, TYPE_F64, TYPE_I32, TYPE_BF16};
static const int64_t counts[] = {0, 1, 2, 3, 7, 65, 1000, 20011};

/* out == in, and a rank's own block of the larger side: some of it NCCL does itself, for some it wants a copy. */
static void in_place(Comm *comm) {
    int64_t count = 3001, own = comm->rank * count * 4, whole = 0;
    const struct {
        CommKind kind;
        int64_t in, out;
        const char *what;
    } ways[] = {{COMM_ALL_REDUCE, whole, whole, "all_reduce"},
                {COMM_ALL_GATHER, own, whole, "all_gather of the own block"},
                {COMM_ALL_GATHER, whole, whole, "all_gather of the first block"},
                {COMM_REDUCE_SCATTER, whole, own, "reduce_scatter to the own block"},
                {COMM_REDUCE_SCATTER, whole, whole, "reduce_scatter to the first block"},
                {COMM_ALL_TO_ALL, whole, whole, "all_to_all"}};
    for (int w = 0; w < COUNT_OF(ways); w++) {
        Trial t = trial_begin(comm, (CommCall){ways[w].kind, TYPE_F32, REDUCE_SUM, 0, count, NULL, NULL},
                              ways[w].in, ways[w].out);
        ok_on_all(comm, trial_end(&t), "%s in place", ways[w].what);
    }
}

/* Several groups at once, ended in another order than they were begun. */
static void in_flight(Comm *comm, Comm *other) {
    enum { CALLS = 10 };
    Trial trials[CALLS];
    bool good = true;
    for (int k = 0; k < CALLS; k++) {
        CommCall call = {collectives[k % 3], types[k % 4], REDUCE_SUM, 0, 1 + 777 * k, NULL, NULL};
        trials[k] = trial_begin(k % 2 ? other : comm, call, 0, 8 * (call.count * comm->size + 8));
    }
    for (int k = CALLS; k-- > 0;) good &= trial_end(&trials[k]);
    ok_on_all(comm, good, "%d calls of groups '%s' and '%s' in flight", CALLS, comm->name, other->name);
}

/* ---- messages ---- */

static Tensor numbers(const char *name, int64_t count) {
    return tensor_new(device, MEMORY_COMMUNICATION, name, TYPE_REAL, SHAPE(count));
}

/* Every rank first expects a message from each other one and then sends to each, or the other way round: of 64 KB and more,
 * which nothing keeps on the way. */
static void crossing(Comm *comm, bool sends_first) {
    enum { COUNT = 50001, ROUNDS = 3, MOST = 4 };
    int n = comm->size, rank = comm->rank;
    Tensor out[MOST], in[MOST];
    bool good = true;
    for (int r = 0; r < n; r++) {
        out[r] = numbers("out", COUNT);
        in[r] = numbers("in", COUNT);
    }
    for (int round = 0; round < ROUNDS; round++) {
        CommRequest *sent[MOST] = {0}, *received[MOST] = {0};
        for (int r = 0; r < n; r++) fill_constant(&out[r], (real)(1000 * round + 10 * rank + r));
        for (int pass = 0; pass < 2; pass++)
            for (int r = 0; r < n; r++) {
                if (r == rank) continue;
                if ((pass == 0) == sends_first)
                    sent[r] = comm_start_send(comm, &device->queue, out[r].data, COUNT, TYPE_REAL, r);
                else
                    received[r] = comm_start_recv(comm, &device->queue, in[r].data, COUNT, TYPE_REAL, r);
            }
        for (int r = 0; r < n; r++) {
            if (r == rank) continue;
            comm_wait(comm, &device->queue, received[r]);
            comm_wait(comm, &device->queue, sent[r]);
            real *got = tensor_to_host(&in[r]);
            for (int i = 0; i < COUNT; i++) good &= got[i] == (real)(1000 * round + 10 * r + rank);
            free(got);
        }
    }
    for (int r = 0; r < n; r++) {
        tensor_free(&out[r]);
        tensor_free(&in[r]);
    }
    ok_on_all(comm, good, "messages that cross, %s first", sends_first ? "sends" : "receives");
}

static void in_order(Comm *comm) {
    enum { MANY = 20 };
    int n = comm->size, next = (comm->rank + 1) % n, before = (comm->rank + n - 1) % n;
    Tensor out = numbers("out", MANY * MANY), in = numbers("in", MANY);
    CommRequest *sent[MANY];
    bool good = true;
    real values[MANY * MANY];
    for (int i = 0; i < MANY * MANY; i++) values[i] = (real)(i + 1000 * comm->rank);
    tensor_write(&out, 0, MANY * MANY, values);
    for (int k = 0; k < MANY && n > 1; k++)
        sent[k] = comm_start_send(comm, &device->queue, (real *)out.data + k * MANY, 1 + k, TYPE_REAL, next);
    for (int k = 0; k < MANY && n > 1; k++) {
        comm_recv(comm, &device->queue, in.data, 1 + k, TYPE_REAL, before);
        tensor_read(&in, 0, 1 + k, values);
        for (int i = 0; i <= k; i++) good &= values[i] == (real)(k * MANY + i + 1000 * before);
    }
    for (int k = 0; k < MANY && n > 1; k++) comm_wait(comm, &device->queue, sent[k]);
    tensor_free(&out);
    tensor_free(&in);
    ok_on_all(comm, good, "%d messages arrive in order", MANY);
}

/* ---- who waits ---- */

/* A kernel makes what is summed, and a kernel reads the sum: neither the host nor anybody's luck stands between. */
static void issued_not_waited_for(Comm *comm) {
    enum { COUNT = 70001 };
    const Kernels *k = device->kernels;
    Queue *q = &device->queue;
    Tensor x = numbers("x", COUNT), sum = numbers("sum", COUNT), y = numbers("y", COUNT);
    fill_constant(&x, 1);
    comm_all_reduce(comm, q, x.data, sum.data, COUNT, TYPE_REAL,
                    REDUCE_SUM); /* the first call of a group meets the others */
    comm_barrier(comm, q);
    QueueCounts before = q->counts;
    k->add(q, &x, &x, &x);
    comm_all_reduce(comm, q, x.data, sum.data, COUNT, TYPE_REAL, REDUCE_SUM);
    k->add(q, &sum, &x, &y);
    k->add(q, &x, &x, &x); /* which the sum has been read from */
    QueueCounts since = queue_counts_since(q, before);
    real *got = tensor_to_host(&y);
    bool good = true;
    for (int i = 0; i < COUNT; i++) good &= got[i] == (real)(2 * comm->size + 2);
    free(got);
    ok_on_all(comm, good, "kernels before and behind a call");
    ok_on_all(comm, since.synchronisations == 0 && since.bytes_to_host == 0 && since.bytes_to_device == 0,
              "the host does not wait, and nothing passes through it");
    tensor_free(&x);
    tensor_free(&sum);
    tensor_free(&y);
}

/* ---- when ---- */

enum { TIMED = 20012 }; /* elements of these calls, and of no others */

typedef struct {
    CommEvent events[64];
    int count;
} Told;

static void tell(void *context, const CommEvent *event) {
    Told *told = context;
    if (event->call.count == TIMED && told->count < COUNT_OF(told->events))
        told->events[told->count++] = *event;
}

/* With stamps, observers are told of a call when it is known when its stream had it: behind the kernel that makes its input, in
 * front of what waits for it. Both sides of a message know it by one number. */
static void times(Comm *comm) {
    enum { COUNT = TIMED, CALLS = 8 };
    Queue *q = &device->queue;
    Tensor x = numbers("x", COUNT), y = numbers("y", COUNT);
    Told told = {.count = 0};
    void *before[CALLS], *behind[CALLS];
    device_clear(device, x.data, tensor_bytes(&x));
    comm->observer = (CommObserver){.done = tell, .context = &told};
    device->stamps = true;
    for (int i = 0; i < CALLS; i++) {
        for (int k = 0; k < 1 + 20 * comm->rank; k++) device->kernels->add(q, &x, &x, &x);
        before[i] = device_stamp(device, q);
        comm_all_reduce(comm, q, x.data, y.data, COUNT, TYPE_REAL, REDUCE_SUM);
        behind[i] = device_stamp(device, q);
    }
    ok_on_all(comm, told.count == 0, "nobody is told while nothing is known");
    device_sync(device, q);
    comm_tell_late();
    comm_tell_late(); /* of nothing more */
    bool good = told.count == CALLS;
    for (int i = 0; i < CALLS; i++) {
        const CommEvent *e = &told.events[i];
        double made = device_stamped(device, before[i]);
        good &= made <= e->begin && e->begin <= e->end && e->end <= device_stamped(device, behind[i]) &&
                !strcmp(e->stream, "world, collectives");
    }
    ok_on_all(comm, good, "calls begin behind what they wait for, and end in front of what waits for them");

    told.count = 0;
    int n = comm->size, last = n - 1;
    for (int i = 0; i < CALLS && n > 1; i++) {
        if (comm->rank == 0) comm_send(comm, q, x.data, COUNT, TYPE_REAL, last);
        if (comm->rank == last) comm_recv(comm, q, x.data, COUNT, TYPE_REAL, 0);
    }
    comm_tell_late();
    bool has = n > 1 && (comm->rank == 0 || comm->rank == last);
    good = told.count == (has ? CALLS : 0);
    for (int i = 1; i < told.count; i++) good &= told.events[i].number == told.events[0].number + i;
    int64_t number = told.count ? told.events[0].number : 0;
    comm_broadcast(comm, NULL, &number, 2, TYPE_I32, 0); /* halves */
    good &= !has || told.events[0].number == number;
    ok_on_all(comm, good, "messages have the numbers that their other side gives them");

    device->stamps = false;
    told.count = 0;
    comm_all_reduce(comm, q, x.data, y.data, COUNT, TYPE_REAL, REDUCE_SUM);
    ok_on_all(comm, told.count == 1 && !told.events[0].stream, "without stamps they are told at once");
    comm->observer = (CommObserver){0};
    tensor_free(&x);
    tensor_free(&y);
}

/* Without NCCL: through pinned memory, which serves the next device when the first is gone. */
static void through_the_host(void) {
    for (int i = 0; i < 2; i++) {
        in_place(world);
        crossing(world, true);
        device_delete(device);
        device = device_new_cuda(world->rank, 0);
    }
}

int main(void) {
    world = ranks_world();
    device = device_new_cuda(world->rank, 0);
    through_the_host();
    comm_on_device(world, comm_nccl());
    every_collective(world, types, COUNT_OF(types), counts, COUNT_OF(counts), trial);
    in_place(world);
    crossing(world, false);
    crossing(world, true);
    in_order(world);
    issued_not_waited_for(world);
    times(world);
    Comm *parity = comm_split(world, world->rank % 2, 0, "parity"),
         *mirror = comm_split(world, 0, -world->rank, "mirror");
    in_place(parity);
    in_flight(world, mirror);
    in_flight(mirror, parity);
    comm_close(mirror);
    comm_close(parity);
    comm_close(world);
    device_delete(device);
    return tap_done();
}
