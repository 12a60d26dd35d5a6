#define _GNU_SOURCE
/* Queues of an emulated GPU: their work is late, marks order it, and what a mark is missing for is found and named, whatever
 * the order; so is a host that touches the GPU's memory, or pinned memory too early. TEST variants: emulated */
#include "common/cuda/device_cuda.h"
#include "common/tensor/kernels.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"
#include "tests/tensors.h"

enum { COUNT = 3000 };

/* A device with two queues, and three tensors: made anew by each child. */
static Device *device;
static Queue other;
static Tensor a, b, c;

static Tensor tensor(const char *name) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, name, TYPE_F32, SHAPE(COUNT));
    fill_uniform(&t, 1, 1, -1, 1);
    return t;
}

static void set_up(void) {
    device = device_new_cuda(0, 0);
    other = device->queue;
    device_queue_open(device, &other);
    a = tensor("a"), b = tensor("b"), c = tensor("c");
    device_sync(device, &device->queue);
}

static void add(Queue *q, const Tensor *x, const Tensor *y, Tensor *to) { device->kernels->add(q, x, y, to); }

static void order(Queue *first, Queue *then) {
    void *mark = device_mark(device, first);
    device_after(device, then, mark);
    device_drop(device, mark);
}

static void finish(void) {
    device_sync(device, &other);
    device_sync(device, &device->queue);
}

/* ---- what goes well ---- */

static void with_marks(void *unused) {
    (void)unused;
    set_up();
    add(&device->queue, &a, &b, &c);
    order(&device->queue, &other);
    device->kernels->zero(&other, &a);
    order(&other, &device->queue);
    add(&device->queue, &a, &c, &b);
    add(&device->queue, &a, &c, &b);
    finish();
}

static void both_read(void *unused) {
    (void)unused;
    set_up();
    Tensor d = tensor("d");
    order(&device->queue, &other);
    add(&device->queue, &a, &b, &c);
    add(&other, &a, &b, &d);
    finish();
}

/* Halves of one tensor, each of its own queue, that meet within 256 bytes. */
static void halves(void *unused) {
    (void)unused;
    set_up();
    Tensor low = tensor_view(&c, 0, SHAPE(1001)), high = tensor_view(&c, 1001, SHAPE(1999)),
           from = tensor_view(&a, 0, SHAPE(1001)), rest = tensor_view(&b, 0, SHAPE(1999));
    add(&device->queue, &from, &from, &low);
    add(&other, &rest, &rest, &high);
    device->kernels->zero(&other, &high);
    device->kernels->zero(&device->queue, &low);
    finish();
}

/* What the host has waited for comes before what it issues then. */
static void by_the_host(void *unused) {
    (void)unused;
    set_up();
    add(&other, &a, &b, &c);
    device_wait(device, &other, device_mark(device, &other));
    device->kernels->zero(&device->queue, &c);
    finish();
}

static void goes_well(void (*what)(void *), const char *name) {
    Exit e = expect_exit(what, NULL);
    ok(e.status == 0, "%s%s%s", name, e.status ? ": " : "", e.text);
}

/* ---- what is found ---- */

static void write_behind_read(void *unused) {
    (void)unused;
    set_up();
    add(&device->queue, &a, &b, &c);
    device->kernels->zero(&other, &a);
    finish();
}

static void read_behind_write(void *unused) {
    (void)unused;
    set_up();
    device->kernels->zero(&other, &c);
    add(&device->queue, &a, &c, &b);
    finish();
}

static void write_behind_write(void *unused) {
    (void)unused;
    set_up();
    add(&other, &a, &b, &c);
    device->kernels->zero(&device->queue, &c);
    finish();
}

/* The mark is there, but what reads stands before it. */
static void mark_too_late(void *unused) {
    (void)unused;
    set_up();
    add(&other, &a, &b, &c);
    device_write(device, a.data, (float[4]){0}, 16);
    order(&other, &device->queue);
    finish();
}

/* The block goes back while another queue has not read it. */
static void freed_too_early(void *unused) {
    (void)unused;
    set_up();
    add(&other, &a, &b, &c);
    tensor_free(&b);
    finish();
}

static float *pinned;
static void change_pinned(void *unused) {
    (void)unused;
    set_up();
    pinned = device_pin(device, COUNT * 4);
    for (int i = 0; i < COUNT; i++) pinned[i] = (float)i;
    device_start_write(device, a.data, pinned, COUNT * 4);
    pinned[COUNT - 1] = 0;
    finish();
}

static void wait_and_change_pinned(void *unused) {
    (void)unused;
    set_up();
    pinned = device_pin(device, COUNT * 4);
    for (int i = 0; i < COUNT; i++) pinned[i] = (float)i;
    device_start_write(device, a.data, pinned, COUNT * 4);
    device_wait(device, &device->queue, device_mark(device, &device->queue));
    pinned[COUNT - 1] = 0;
    finish();
}

static volatile float sink;
static void follow_address(void *unused) {
    (void)unused;
    set_up();
    sink = ((float *)c.data)[17];
}

static void host_pointer(void *unused) {
    (void)unused;
    set_up();
    float numbers[COUNT];
    Tensor on_host = a;
    on_host.data = numbers;
    add(&device->queue, &on_host, &b, &c);
    finish();
}

static void other_device(void *unused) {
    (void)unused;
    set_up();
    tensor_free(&c);
    Tensor large = tensor_new(device, MEMORY_ACTIVATIONS, "large", TYPE_F32, SHAPE(COUNT));
    add(&device->queue, &a, &large, &b);
    finish();
}

static void copy_too_much(void *unused) {
    (void)unused;
    set_up();
    float numbers[2 * COUNT] = {0};
    device_write(device, b.data, numbers, sizeof numbers);
}

static void is_found(void (*what)(void *), const char *name, const char *first, const char *second) {
    Exit e = expect_exit(what, NULL);
    ok(refused(&e, 1, first) && strstr(e.text, second), "%s: %s", name, e.text);
}

/* ---- late ---- */

/* What a copy brings is not there before the host has waited; then it is. */
static void late(void) {
    set_up();
    float *to = device_pin(device, COUNT * 4), want[COUNT];
    tensor_read(&a, 0, COUNT, want);
    device_start_read(device, to, a.data, COUNT * 4);
    ok(isnan(to[0]) && isnan(to[COUNT - 1]), "before the mark a read shows nothing");
    device_wait(device, &device->queue, device_mark(device, &device->queue));
    ok(memcmp(to, want, sizeof want) == 0, "behind it all of it");

    float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8}, got[8];
    device_write(device, a.data, numbers, sizeof numbers);
    memset(numbers, 0, sizeof numbers);
    device_read(device, got, a.data, sizeof got);
    ok(got[0] == 1 && got[7] == 8, "memory that is not pinned may change when a write has returned");

    int64_t launches = device->queue.counts.launches;
    add(&device->queue, &a, &b, &c);
    ok(device->queue.counts.launches == launches + 1, "a launch is counted");
    device_unpin(device, to);
    tensor_free(&a);
    tensor_free(&b);
    tensor_free(&c);
    device_queue_close(device, &other);
    device_delete(device);
}

int main(void) {
    setenv("SHARD_EMULATOR_LATE", "60000", 1); /* nothing happens until the host waits */
    const char *const seeds[] = {"0", "1", "2", "3", "4"};
    for (int i = 0; i < COUNT_OF(seeds); i++) {
        setenv("SHARD_EMULATOR_SEED", seeds[i], 1);
        printf("# seed %s\n", seeds[i]);
        goes_well(with_marks, "marks order queues");
        goes_well(both_read, "two may read");
        goes_well(halves, "and write what is next to each other");
        goes_well(by_the_host, "the host's waiting orders as well");
        is_found(write_behind_read, "a write behind a read", "'memset' on stream 1", "'add_kernel<T>'");
        is_found(read_behind_write, "a read behind a write", "'memset'", "'add_kernel<T>'");
        is_found(write_behind_write, "a write behind a write", "'memset'", "bytes 0 to 11999 of 'c'");
        is_found(mark_too_late, "a mark that comes too late", "'a copy to the device'", "of 'a'");
        /* by who gives it back, or by who finds it lost */
        is_found(freed_too_early, "memory given back too early", "of 'b", "free");
    }
    is_found(change_pinned, "pinned memory that changes too early", "the host changes pinned memory",
             "to 'a'");
    goes_well(wait_and_change_pinned, "it may, behind the mark");
    is_found(follow_address, "the host follows an address", "the host touches the device's memory", "'c'");
    is_found(host_pointer, "a kernel that is given the host's memory", "'add_kernel<T>' is given", "host");
    is_found(other_device, "memory that was used before", "of 'large' at common/cuda/elementwise.cu",
             "nobody has written");
    is_found(copy_too_much, "a copy that is too long", "24000 bytes from byte 0 of 'b'", "");
    late();
    return tap_done();
}
