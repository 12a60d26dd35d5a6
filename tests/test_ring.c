/* The ring and the tree of chapter 04, written in messages, against the library's all-reduce: exact on integers, to
 * rounding on floats, for any count; the bytes they send against the formula; a step of the ring against what it is to
 * hold; one device has nothing to send. On a device, where a kernel adds: the sums, and under the model clock what the
 * formulas say.
 *
 * TEST np: 1 3 8, all: 2 4 5
 * TEST variants: float asan */
#include "chapters/04_collectives/ring.h"
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "tests/ranks.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;

typedef void AllReduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type);
static const struct {
    const char *name;
    AllReduce *run;
} algorithms[] = {{"ring", ring_all_reduce}, {"tree", tree_all_reduce}};

/* Element i of what rank r gives: numbers between -1 and 1 of which a float holds all digits; or any integers. */
static double value(int r, int64_t i) {
    uint32_t x = (uint32_t)(i * 7919 + r) * 2654435761u;
    return ((double)(x >> 8) - (1 << 23)) / (1 << 23);
}

static void fill(ElementType type, int64_t count, void *data) {
    for (int64_t i = 0; i < count; i++) {
        double v = value(world->rank, i);
        if (type == TYPE_F32) ((float *)data)[i] = (float)v;
        if (type == TYPE_F64) ((double *)data)[i] = v;
        if (type == TYPE_I32) ((int32_t *)data)[i] = (int32_t)(v * INT32_MAX); /* the sums pass 31 bits */
    }
}

/* The largest difference between two arrays. */
static double difference(ElementType type, int64_t count, const void *a, const void *b) {
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = type == TYPE_F32   ? (double)((const float *)a)[i] - (double)((const float *)b)[i]
                   : type == TYPE_F64 ? ((const double *)a)[i] - ((const double *)b)[i]
                                      : (double)((const int32_t *)a)[i] - (double)((const int32_t *)b)[i];
        most = worse(most, fabs(d));
    }
    return most;
}

static int64_t total(int64_t mine) {
    double sum = (double)mine;
    comm_all_reduce(world, NULL, &sum, &sum, 1, TYPE_F64, REDUCE_SUM);
    return (int64_t)sum;
}

/* Is every rank's data that of rank 0, to the bit? */
static bool same_everywhere(const void *data, int64_t bytes) {
    void *first = xmalloc((size_t)bytes + 1);
    memcpy(first, data, (size_t)bytes);
    comm_broadcast(world, NULL, first, bytes / 4, TYPE_I32, 0);
    bool same = memcmp(first, data, (size_t)bytes) == 0;
    free(first);
    return same;
}

static void try(int algorithm, ElementType type, const char *type_name, int64_t count, double tolerance) {
    int64_t e = element_bytes(type), n = world->size, behind = 77;
    char *data = xmalloc((size_t)(count * e + behind)), *scratch = xmalloc((size_t)(count * e + 1));
    char *want = xmalloc((size_t)(count * e + 1));
    memset(data + count * e, 0x5a, (size_t)behind);
    fill(type, count, data);
    comm_all_reduce(world, NULL, data, want, count, type, REDUCE_SUM);

    CommCount *counts = world->counts, sends = counts[COMM_SEND], receives = counts[COMM_RECV];
    algorithms[algorithm].run(world, NULL, data, scratch, count, type);
    int64_t bytes = counts[COMM_SEND].bytes - sends.bytes, calls = counts[COMM_SEND].calls - sends.calls;
    int64_t received = counts[COMM_RECV].calls - receives.calls;

    bool right = difference(type, count, data, want) <= tolerance && same_everywhere(data, count * e);
    for (int64_t i = 0; i < behind; i++) right &= data[count * e + i] == 0x5a;
    ok_on_all(world, right, "%s: %lld %s", algorithms[algorithm].name, (long long)count, type_name);
    int64_t all_bytes = total(bytes), all_sends = total(calls), all_receives = total(received);
    ok_on_all(world, all_bytes == 2 * (n - 1) * count * e, "%s: %lld bytes for %lld %s",
              algorithms[algorithm].name, (long long)all_bytes, (long long)count, type_name);
    int64_t messages = algorithm == 0 ? 2 * (n - 1) * n : 2 * (n - 1);
    ok_on_all(world, all_sends == messages && all_receives == messages, "%s: %lld messages, all received",
              algorithms[algorithm].name, (long long)all_sends);
    free(data);
    free(scratch);
    free(want);
}

/* Each device sends in the ring what the library counts for it, not only the sum of all. */
static void test_share(int64_t count) {
    float *data = xcalloc((size_t)count + 1, sizeof *data),
          *scratch = xcalloc((size_t)count + 1, sizeof *data);
    int64_t sent = world->counts[COMM_SEND].bytes, reduced = world->counts[COMM_ALL_REDUCE].bytes;
    ring_all_reduce(world, NULL, data, scratch, count, TYPE_F32);
    comm_all_reduce(world, NULL, data, data, count, TYPE_F32, REDUCE_SUM);
    ok_on_all(world, world->counts[COMM_SEND].bytes - sent == world->counts[COMM_ALL_REDUCE].bytes - reduced,
              "ring: each device's share of the bytes, %lld elements", (long long)count);
    free(data);
    free(scratch);
}

/* After step s < n - 1, slice rank - s - 1 holds the terms of s + 2 devices, which end with this one; after all of
 * those, n - 1 more steps leave nothing that is not whole. Device r gives 2^r, so that a sum tells its terms. */
static void test_steps(void) {
    enum { EACH = 3 };
    int n = world->size, rank = world->rank;
    int64_t count = (int64_t)EACH * n;
    int32_t *data = xmalloc((size_t)count * sizeof *data), *scratch = xmalloc((size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++) data[i] = 1 << rank;
    bool right = true;
    for (int step = 0; step < 2 * (n - 1); step++) {
        ring_step(world, NULL, data, scratch, count, TYPE_I32, step);
        int terms = step < n - 1 ? step + 2 : n; /* of the slice that has come */
        int k = step < n - 1 ? rank - step - 1 : rank - (step - (n - 1));
        int32_t want = 0;
        for (int t = 0; t < terms; t++) want += 1 << ((rank - t + n) % n);
        Slice slice = ring_slice(count, n, k);
        for (int64_t i = slice.first; i < slice.end; i++) right &= data[i] == want;
    }
    ok_on_all(world, right, "ring: what each step leaves");
    free(data);
    free(scratch);
}

static void test_slices(void) {
    bool right = true;
    for (int64_t count = 0; count < 40; count++)
        for (int n = 1; n < 10; n++)
            for (int k = 0; k < n; k++) {
                Slice s = ring_slice(count, n, k), before = ring_slice(count, n, k - 1 + n);
                right &= s.end - s.first >= count / n && s.end - s.first <= ceil_div(count, n);
                right &= k ? s.first == before.end : s.first == 0 && before.end == count;
            }
    ok(right, "slices meet, and differ by one element at most");
    int depth[] = {tree_depth(1), tree_depth(2), tree_depth(3), tree_depth(4), tree_depth(5), tree_depth(8)};
    const int want[] = {0, 2, 4, 4, 6, 6};
    ok(memcmp(depth, want, sizeof want) == 0, "depth of the tree");
}

/* Under the model clock, on the device's memory: seconds of the slowest rank, and are the sums right? Device r gives r + 1
 * everywhere. All begin together, after an all-reduce. */
static double modelled(AllReduce *run, Device *device, int64_t count) {
    Queue *q = &device->queue, host = queue_of_host(q);
    Tensor data = tensor_new(device, MEMORY_COMMUNICATION, "data", TYPE_REAL, SHAPE(count));
    Tensor scratch = tensor_new(device, MEMORY_COMMUNICATION, "scratch", TYPE_REAL, SHAPE(count));
    real *values = xmalloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = (real)(world->rank + 1);
    tensor_write(&data, 0, count, values);
    double began = 0, took = 0;
    comm_all_reduce(world, &host, &took, &took, 1, TYPE_F64, REDUCE_MAX);
    began = queue_now(q);
    run(world, q, data.data, scratch.data, count, TYPE_REAL);
    took = queue_now(q) - began;
    comm_all_reduce(world, &host, &took, &took, 1, TYPE_F64, REDUCE_MAX);
    bool right = true;
    int64_t sum = world->size * (world->size + 1) / 2;
    tensor_read(&data, 0, count, values);
    for (int64_t i = 0; i < count; i++) right &= values[i] == (real)sum;
    ok_on_all(world, right, "%lld sums on the device", (long long)count);
    free(values);
    tensor_free(&data);
    tensor_free(&scratch);
    return took;
}

static void library(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type) {
    (void)scratch;
    comm_all_reduce(comm, q, data, data, count, type, REDUCE_SUM);
}

static void close_on_all(double got, double low, double high, const char *what) {
    ok_on_all(world, got >= low - 1e-9 * low && got <= high + 1e-9 * high,
              "%s: %.12g, expected %.12g .. %.12g", what, got, low, high);
}

static void test_clock(void) {
    Device *device = device_new_cpu(0);
    Clock clock;
    const DeviceModel *model = device_model("h100");
    double n = world->size, alpha = model->inside.latency, W = model->inside.bandwidth;
    int64_t count = 1000 * world->size;
    clock_attach(device, &clock, model);
    double S = (double)count * sizeof(real), ring = 2 * (n - 1) * (alpha + S / n / W);
    close_on_all(modelled(ring_all_reduce, device, count), ring, ring, "ring under the model clock");
    close_on_all(modelled(library, device, count), ring, ring, "the library's all-reduce");

    /* a slice is the rounded or the rounded up n-th of the count */
    double low = 2 * (n - 1) * (alpha + 1000 * sizeof(real) / W);
    double high = 2 * (n - 1) * (alpha + 1001 * sizeof(real) / W);
    if (n > 2)
        close_on_all(modelled(ring_all_reduce, device, count + 1), low, high,
                     "ring, n does not divide the count");

    int depth = tree_depth(world->size);
    double tree = depth * (alpha + S / W); /* with 3, 5, 6 .. devices some branches are shorter */
    close_on_all(modelled(tree_all_reduce, device, count), 1 << depth / 2 == world->size ? tree : 0, tree,
                 "tree under the model clock");
    clock_detach(&clock);
    device_delete(device);
}

int main(void) {
    static const int64_t counts[] = {0, 1, 2, 3, 7, 16, 120, 1000, 4099, 300007};
    world = ranks_world();
    for (int a = 0; a < COUNT_OF(algorithms); a++)
        for (int c = 0; c < COUNT_OF(counts); c++) {
            try(a, TYPE_I32, "i32", counts[c], 0);
            try(a, TYPE_F32, "f32", counts[c], 1e-5);
            try(a, TYPE_F64, "f64", counts[c], 1e-12);
        }
    test_share(1000);
    test_share(1001);
    test_steps();
    test_slices();
    test_clock();
    comm_close(world);
    return tap_done();
}
