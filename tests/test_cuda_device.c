#define _GNU_SOURCE
/* A GPU as a device: its account and budget are a CPU's; copies, pinned memory, queues, marks and stamps; errors of CUDA in one
 * line with what helps, which the emulator alone can bring about. TEST variants: emulated */
#include "common/cuda/device_cuda.h"
#include "common/cuda/kernels_cuda.h"
#include "common/cpu/device_cpu.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static Tensor tensor(Device *device, const char *name, int64_t count) {
    return tensor_new(device, MEMORY_PARAMETERS, name, TYPE_REAL, SHAPE(count));
}

/* ---- errors ---- */

#ifdef CUDA_EMULATED
static void new_device(void *unused) {
    (void)unused;
    device_delete(device_new_cuda(0, 0));
}
static void third_device(void *unused) {
    (void)unused;
    device_new_cuda(2, 0);
}
static void second_device(void *unused) {
    (void)unused;
    device_new_cuda(0, 0);
    device_new_cuda(1, 0);
}
static void a_kernel(void *unused) {
    (void)unused;
    Device *device = device_new_cuda(0, 0);
    Tensor a = tensor(device, "a", 10);
    fill_constant(&a, 1);
    cuda_add(&device->queue, &a, &a, &a);
}
static void much_memory(void *unused) {
    (void)unused;
    tensor(device_new_cuda(0, 0), "a", 20 << 20);
}
static void much_pinned(void *unused) {
    (void)unused;
    device_pin(device_new_cuda(0, 0), 1 << 20);
}

static void says(const char *error, void (*what)(void *), const char *part, const char *hint) {
    if (error) setenv("SHARD_EMULATOR_ERROR", error, 1);
    Exit e = expect_exit(what, NULL);
    ok(refused(&e, 1, part) && strstr(e.text, hint), "%s", e.text);
    unsetenv("SHARD_EMULATOR_ERROR");
}

static void errors(void) {
    says("cudaGetDeviceCount=cudaErrorNoDevice", new_device, "cudaGetDeviceCount: cudaErrorNoDevice (no CUDA",
         "--device cpu");
    says("cudaGetDeviceCount=cudaErrorInsufficientDriver", new_device, "cudaErrorInsufficientDriver",
         "a driver that is as new");
    says("cudaSetDevice=cudaErrorSystemDriverMismatch", new_device, "cudaSetDevice", "restart");
    says("cudaGetLastError=cudaErrorNoKernelImageForDevice", a_kernel,
         "add_kernel<T>: cudaErrorNoKernelImageForDevice", "make CUDA=1");
    says("cudaGetLastError=cudaErrorIllegalAddress", a_kernel, "cudaErrorIllegalAddress", "CUDA=emulated");
    says("cudaMalloc=cudaErrorUnknown", a_kernel, "cudaMalloc: cudaErrorUnknown (unknown error)", "");
    says("cudaMalloc=cudaErrorMemoryAllocation", a_kernel,
         sizeof(real) == 4 ? "no memory for 64 bytes" : "no memory for 128 bytes", "smaller");
    says("cudaHostAlloc=cudaErrorMemoryAllocation", much_pinned, "no pinned memory for 1048576 bytes",
         "hint");
    says("cudaStreamCreateWithFlags=cudaErrorMemoryAllocation", new_device,
         "cudaStreamCreateWithFlags: ", "smaller");
    setenv("SHARD_EMULATOR_DEVICES", "0", 1);
    says(NULL, new_device, "cudaErrorNoDevice", "nvidia-smi");
    setenv("SHARD_EMULATOR_DEVICES", "2", 1);
    says(NULL, third_device, "process 2 of this machine has no GPU: it has 2", "hint");
    says(NULL, second_device, "GPU 1 is to be used by a process that has GPU 0", "a process for each");
    unsetenv("SHARD_EMULATOR_DEVICES");
    setenv("SHARD_EMULATOR_MEMORY", "64M", 1);
    says(NULL, much_memory,
         sizeof(real) == 4 ? "no memory for 83886080 bytes" : "no memory for 167772160 bytes", "smaller");
    unsetenv("SHARD_EMULATOR_MEMORY");
}
#endif

static void over_budget(void *unused) {
    (void)unused;
    Device *device = device_new_cuda(0, 1 << 20);
    tensor(device, "small", 1000);
    tensor(device, "embedding", 1 << 20);
}

/* ---- the account, which is kept as a CPU's is ---- */

static MemoryUse account(Device *device) {
    Tensor a = tensor(device, "a", 1000), b = tensor(device, "b", 17);
    Tensor c = tensor_new(device, MEMORY_GRADIENTS, "c", TYPE_I32, SHAPE(3, 5));
    tensor_free(&a);
    a = tensor(device, "a", 1000);
    MemoryUse use = device->memory;
    tensor_free(&a);
    tensor_free(&b);
    tensor_free(&c);
    return use;
}

static void copies(Device *device) {
    enum { N = 1000 };
    real from[N], to[N];
    for (int i = 0; i < N; i++) from[i] = (real)(i * 0.5);
    Tensor a = tensor(device, "a", N), b = tensor(device, "b", N);
    QueueCounts before = device->queue.counts;
    tensor_write(&a, 0, N, from);
    device_copy(device, b.data, a.data, tensor_bytes(&a));
    tensor_read(&b, 10, 20, to);
    QueueCounts counts = queue_counts_since(&device->queue, before);
    ok(memcmp(to, from + 10, 20 * sizeof *to) == 0, "to the device, within it, and back");
    ok(counts.bytes_to_device == (int64_t)sizeof from && counts.bytes_to_host == 20 * (int64_t)sizeof *to &&
           counts.synchronisations == 1 && counts.launches == 0,
       "what was copied is counted: %lld bytes to it, %lld back, %lld synchronisations",
       (long long)counts.bytes_to_device, (long long)counts.bytes_to_host,
       (long long)counts.synchronisations);
    device_clear(device, tensor_view(&b, 11, SHAPE(2)).data, 2 * (int64_t)sizeof *to);
    tensor_read(&b, 10, 4, to);
    ok(to[0] == from[10] && to[1] == 0 && to[2] == 0 && to[3] == from[13], "two elements are cleared");

    real *pinned = device_pin(device, sizeof from);
    memcpy(pinned, from, sizeof from);
    device_start_write(device, a.data, pinned, sizeof from);
    device_wait(device, &device->queue, device_mark(device, &device->queue));
    memset(pinned, 0, sizeof from);
    device_start_read(device, pinned, a.data, sizeof from);
    device_sync(device, &device->queue);
    ok(memcmp(pinned, from, sizeof from) == 0, "by way of pinned memory");
    tensor_write(&b, 0, N, pinned);
    memset(pinned, 0, sizeof from);
    ok(same_elements(&a, &b), "tensor_write from pinned memory has read it when it returns");
    device_unpin(device, pinned);
    tensor_free(&a);
    tensor_free(&b);
}

/* Marks are used again: three of them serve many turns of two queues. */
static void marks(Device *device) {
    Queue other = device->queue;
    device_queue_open(device, &other);
    Tensor a = tensor(device, "a", 100), b = tensor(device, "b", 100);
    fill_constant(&a, 1);
    fill_constant(&b, 0);
    void *first = device_mark(device, &device->queue);
    device_after(device, &other, first);
    device_drop(device, first);
    for (int i = 0; i < 20; i++) {
        Queue *q = i % 2 ? &other : &device->queue, *next = i % 2 ? &device->queue : &other;
        cuda_add(q, &a, &b, &b);
        void *mark = device_mark(device, q);
        ok(i == 0 || mark == first, "a mark is used again");
        if (i == 0) first = mark;
        device_after(device, next, mark);
        if (i % 3 == 0)
            device_wait(device, q, mark);
        else
            device_drop(device, mark);
    }
    ok(real_at(&b, 99) == 20, "each turn sees the one before");
    device_sync(device, &other);
    device_queue_close(device, &other);
    tensor_free(&a);
    tensor_free(&b);
}

/* ---- stamps ---- */

static Device *device_of_work;

static void note_work(void *context, const char *what, int64_t bytes, void *began, void *ended) {
    Str *said = context;
    str_printf(said, "%s %lld; ", what, (long long)bytes);
    device_stamped(device_of_work, began);
    device_stamped(device_of_work, ended);
}

/* Stamps tell the host's time, and stay near it when what they are compared with is far away; without device->stamps there are
 * none. */
static void stamps(Device *device) {
    ok(!device_stamp(device, &device->queue), "nobody asks for stamps: there are none");
    device->stamps = true;
    QueueCounts before = device->queue.counts;
    Tensor a = tensor(device, "a", 100);
    fill_constant(&a, 0);
    double last = now_seconds(), first = last;
    void *early = device_stamp(device, &device->queue);
    bool ordered = true, near = true;
    for (int i = 0; i < 6; i++) {
        void *begin = device_stamp(device, &device->queue);
        cuda_add(&device->queue, &a, &a, &a);
        void *end = device_stamp(device, &device->queue);
        double began = device_stamped(device, begin), ended = device_stamped(device, end);
        ordered &= (i == 0 || last <= began) && began <= ended;
        near &= fabs(ended - now_seconds()) < 0.5;
        last = ended;
        usleep(150000);
    }
    ok(ordered, "stamps are in the order of a queue's work");
    ok(near, "... and on the host's clock, long after the first as well");
    ok(fabs(device_stamped(device, early) - first) < 0.5, "a stamp that is asked for late");
    ok(queue_counts_since(&device->queue, before).synchronisations == 0, "... no count knows of them");

    Str said = {0};
    device_of_work = device;
    device->work = (WorkObserver){note_work, &said};
    cuda_add(&device->queue, &a, &a, &a);
    real x[100] = {0};
    tensor_write(&a, 0, 100, x);
    device_copy(device, a.data, (char *)a.data + 8, 8);
    device_clear(device, a.data, 16);
    tensor_read(&a, 0, 1, x);
    device->work = (WorkObserver){0};
    device->stamps = false;
    char *want = xprintf("add_kernel<T> 0; copy to the device %d; copy 8; clear 16; copy to the host %d; ",
                         (int)sizeof x, (int)sizeof *x);
    ok(!strcmp(said.data, want), "who watches is told of each launch and copy: %s", said.data);
    free(want);
    str_free(&said);
    tensor_free(&a);
}

int main(void) {
#ifdef CUDA_EMULATED
    errors();
#endif
    Exit e = expect_exit(over_budget, NULL);
    ok(refused(&e, 1, "parameters 'embedding' needs") && strstr(e.text, "--device-memory"), "%s", e.text);
    Device *cpu = device_new_cpu(0), *cuda = device_new_cuda(0, 0);
    MemoryUse on_cpu = account(cpu), on_cuda = account(cuda);
    ok(memcmp(&on_cpu, &on_cuda, sizeof on_cpu) == 0, "the account of a GPU is that of a CPU");
    copies(cpu);
    copies(cuda);
    marks(cuda);
    stamps(cuda);
    device_delete(cpu);
    device_delete(cuda);
    return tap_done();
}
