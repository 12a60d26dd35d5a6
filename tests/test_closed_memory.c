#define _GNU_SOURCE
/* Device memory that is closed to the host: whoever follows an address of it is told whose memory it is; kernels,
 * collectives, tensor_read and tensor_write go through; what is new holds NaNs. TEST variants: float double */
#include "common/base/closed_memory.h"
#include "common/comm/comm.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <signal.h>
#include <sys/mman.h>

enum { COUNT = 5000 };

/* What the host does to a tensor that it must not touch; it never comes to `sink`. */
static volatile real sink;
static void read_first(void *t) { sink = ((const real *)((Tensor *)t)->data)[0]; }
static void read_last(void *t) { sink = ((const real *)((Tensor *)t)->data)[COUNT - 1]; }
static void write_one(void *t) { ((real *)((Tensor *)t)->data)[7] = 1; }
static void copy_it(void *t) {
    real copy[COUNT];
    memcpy(copy, ((Tensor *)t)->data, sizeof copy);
    sink = copy[1];
}
static void read_view(void *t) {
    Tensor view = tensor_view(t, 100, SHAPE(10));
    read_first(&view);
}
static void read_freed(void *t) {
    Tensor stale = *(Tensor *)t;
    tensor_free(t);
    read_first(&stale);
}
static void read_elsewhere(void *t) {
    (void)t;
    sink = *(const real *)mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void is_caught(void (*what)(void *), Tensor *t, const char *name, const char *text) {
    Exit e = expect_exit(what, t);
    ok(refused(&e, 1, text), "%s: %s", name, e.text);
}

int main(void) {
    setenv("SHARD_CLOSED_MEMORY", "1", 1);
    Device *device = device_new_cpu(0);
    ok(closed_memory.bytes > 0, "SHARD_CLOSED_MEMORY closes the memory of a CPU device");
    Tensor a = tensor_new(device, MEMORY_PARAMETERS, "blocks.3.qkv.weight", TYPE_REAL, SHAPE(COUNT)),
           b = tensor_new(device, MEMORY_GRADIENTS, "its gradient", TYPE_REAL, SHAPE(COUNT)),
           sum = tensor_new(device, MEMORY_ACTIVATIONS, "sum", TYPE_REAL, SHAPE(COUNT));
    bool all_nan = true;
    for (int64_t i = 0; i < COUNT; i++) all_nan &= isnan(real_at(&sum, i));
    ok(all_nan, "what nobody has written is not a number");

    is_caught(read_first, &a, "an element read", "'blocks.3.qkv.weight'");
    is_caught(read_last, &a, "the last one", "'blocks.3.qkv.weight'");
    is_caught(write_one, &b, "an element written", "'its gradient'");
    is_caught(copy_it, &b, "a copy", "'its gradient'");
    is_caught(read_view, &a, "by way of a view", "'blocks.3.qkv.weight'");
    is_caught(read_freed, &sum, "after it was freed", "'nobody any more'");
    Exit e = expect_exit(read_elsewhere, NULL);
    ok(e.status == 128 + SIGSEGV, "another fault than these ends the program as ever: status %d", e.status);

    fill_uniform(&a, 1, 1, -1, 1);
    fill_uniform(&b, 1, 2, -1, 1);
    device->kernels->add(&device->queue, &a, &b, &sum);
    bool right = true;
    for (int64_t i = 0; i < COUNT; i++) right &= real_at(&sum, i) == real_at(&a, i) + real_at(&b, i);
    ok(right, "kernels, tensor_read and tensor_write go through");
    Comm *self = comm_self();
    comm_all_reduce(self, &device->queue, a.data, sum.data, COUNT, TYPE_REAL, REDUCE_SUM);
    ok(same_elements(&a, &sum), "and collectives do");
    void *block = b.data;
    tensor_free(&b);
    b = tensor_new(device, MEMORY_ACTIVATIONS, "another", TYPE_REAL, SHAPE(COUNT));
    ok(b.data == block && isnan(real_at(&b, 0)), "a block that is used again has lost what it held");
    is_caught(read_first, &b, "and has the new name", "'another'");

    tensor_free(&a);
    tensor_free(&b);
    tensor_free(&sum);
    device_delete(device);
    return tap_done();
}
