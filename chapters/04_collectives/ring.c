#include "chapters/04_collectives/ring.h"

#include "common/comm/clock.h"
#include "common/tensor/kernels.h"

/* On the device, by a kernel. By the model clock sums are free here as they are in the library, whose formula is that of the
 * messages alone. */
static void add_on_device(Queue *q, ElementType type, void *sum, const void *term, int64_t count) {
    Tensor to = {.data = sum, .type = type, .shape = SHAPE(count), .device = q->device}, from = to;
    from.data = (void *)(uintptr_t)term;
    if (q->clock) clock_hold(q->clock, true);
    q->device->kernels->accumulate(q, &from, &to);
    if (q->clock) clock_hold(q->clock, false);
}

/* sum += term, (count) in the memory of the queue's device, or in the host's; there integers as unsigned ones, which wrap around where signed ones must not */
#define ADD(T)                                                                                               \
    for (int64_t i = 0; i < count; i++) ((T *)sum)[i] += ((const T *)term)[i]
static void add(Queue *q, ElementType type, void *sum, const void *term, int64_t count) {
    if (q && q->device) {
        add_on_device(q, type, sum, term, count);
        return;
    }
    switch (type) {
    case TYPE_F32: ADD(float); break;
    case TYPE_F64: ADD(double); break;
    case TYPE_I32: ADD(uint32_t); break;
    case TYPE_BF16: ASSERT(false); /* rounded once, a sum has other bits than rounded at each hop */
    }
}

static void *element(void *data, ElementType type, int64_t i) {
    return (char *)data + i * element_bytes(type);
}

/* ---- the ring ---- */

Slice ring_slice(int64_t count, int n, int k) {
    k = (k % n + n) % n;
    return (Slice){count * k / n, count * (k + 1) / n};
}

void ring_step(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type, int step) {
    int n = comm->size, right = (comm->rank + 1) % n, left = (comm->rank + n - 1) % n;
    bool summing = step < n - 1; /* otherwise whole sums are passed on */
    int k = summing ? comm->rank - step : comm->rank + 1 - (step - (n - 1));
    Slice out = ring_slice(count, n, k), in = ring_slice(count, n, k - 1);
    void *mine = element(data, type, in.first);
    /* all send at once: if each waited for its recv first, nobody would get there */
    CommRequest *sent =
        comm_start_send(comm, q, element(data, type, out.first), out.end - out.first, type, right);
    comm_recv(comm, q, summing ? scratch : mine, in.end - in.first, type, left);
    comm_wait(comm, q, sent);
    if (summing) add(q, type, mine, scratch, in.end - in.first);
}

void ring_all_reduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type) {
    for (int step = 0; step < 2 * (comm->size - 1); step++)
        ring_step(comm, q, data, scratch, count, type, step);
}

/* ---- the tree ---- */

/* Device r is the child of the one whose number lacks the lowest one-bit of r: 6 = 110 -> 100 = 4 -> 000 = 0. */
void tree_all_reduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type) {
    int n = comm->size, rank = comm->rank, bit = 1;
    for (; bit < n && !(rank & bit); bit *= 2) { /* the sums of the children, nearest first ... */
        if (rank + bit >= n) continue;
        comm_recv(comm, q, scratch, count, type, rank + bit);
        add(q, type, data, scratch, count);
    }
    if (rank) { /* ... to the parent, and the sum of all from there */
        comm_send(comm, q, data, count, type, rank - bit);
        comm_recv(comm, q, data, count, type, rank - bit);
    }
    while (bit > 1) { /* and on to the children, farthest first */
        bit /= 2;
        if (rank + bit < n) comm_send(comm, q, data, count, type, rank + bit);
    }
}

int tree_depth(int n) {
    int depth = 0;
    while (1 << depth < n) depth++;
    return 2 * depth;
}
