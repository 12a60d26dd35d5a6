#define _GNU_SOURCE
#include "common/cuda/device_cuda.h"

#include "common/base/platform.h"
#include "common/cuda/kernels_cuda.h"
#include "common/cuda/launched.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

/* ---- every call is checked ---- */

static const char *hint_of(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "make the model or the batch smaller, or end what else holds the GPU's memory";
    case cudaErrorNoDevice: return "run with --device cpu, or look whether nvidia-smi finds a GPU";
    case cudaErrorInsufficientDriver: {
        int version = 0; /* of a driver that is not there: 0 */
        if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0)
            return "install the GPU's driver, or run with --device cpu";
        return "install a driver that is as new as the CUDA Toolkit, or build with an older one";
    }
    case cudaErrorSystemDriverMismatch: return "restart the machine: its driver was changed while it ran";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion: return "build for this GPU: make clean, make CUDA=1 (CUDA_ARCH=)";
    case cudaErrorLaunchOutOfResources:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidValue: return "this is a bug in the program, not in its input";
    case cudaErrorIllegalAddress:
        return "a kernel before it is wrong: make CUDA=emulated finds where, or compute-sanitizer does";
    default: return NULL;
    }
}

void cuda_check(int error, const char *call) {
    if (error == cudaSuccess) return;
    fail(1, hint_of((cudaError_t)error), "%.*s: %s (%s)", (int)strcspn(call, "("), call,
         cudaGetErrorName((cudaError_t)error), cudaGetErrorString((cudaError_t)error));
}

static cudaStream_t stream(const Queue *q) { return (cudaStream_t)q->stream; }

/* ---- events, used again, so that a step creates none ---- */

typedef struct {
    unsigned flags;
    cudaEvent_t *unused;
    int unused_count, count;
} Events;
static Events marks = {.flags = cudaEventDisableTiming}, stamps = {.flags = cudaEventDefault};

static cudaEvent_t record(Events *events, const Queue *q) {
    if (events->unused_count == 0) {
        events->unused =
            xrealloc(events->unused, (size_t)++events->count * sizeof(cudaEvent_t)); /* room for all */
        CUDA(cudaEventCreateWithFlags(&events->unused[events->unused_count++], events->flags));
    }
    cudaEvent_t event = events->unused[--events->unused_count];
    CUDA(cudaEventRecord(event, stream(q)));
    return event;
}

static void use_again(Events *events, cudaEvent_t event) { events->unused[events->unused_count++] = event; }

/* ---- marks ---- */

static void *mark(Queue *q) { return record(&marks, q); }

static void after(Queue *q, void *m) { CUDA(cudaStreamWaitEvent(stream(q), (cudaEvent_t)m, 0)); }

static void drop(void *m) { use_again(&marks, (cudaEvent_t)m); }

static bool (*meanwhile)(void);

void device_cuda_meanwhile(bool (*go_on)(void)) { meanwhile = go_on; }

static bool passed(cudaEvent_t event) {
    cudaError_t error = cudaEventQuery(event);
    if (error != cudaErrorNotReady) cuda_check(error, "cudaEventQuery");
    return error == cudaSuccess;
}

static void await(cudaEvent_t event) {
    if (!meanwhile) CUDA(cudaEventSynchronize(event));
    for (int looks = 0; meanwhile && !passed(event); looks++) {
        meanwhile();
        platform_look_again(looks);
    }
}

static void wait_for(void *m) {
    await((cudaEvent_t)m);
    drop(m);
}

static void sync(Queue *q) {
    if (meanwhile)
        wait_for(mark(q));
    else
        CUDA(cudaStreamSynchronize(stream(q)));
}

/* ---- stamps ---- */

/* Two events know how far they are apart, in single precision. Of this one the host's time is known; where another is so far
 * from it that microseconds would be lost, that one takes its place. */
static cudaEvent_t known;
static double known_time;
enum { FAR_MS = 100 };

static void *stamp(Queue *q) {
    if (!known) {
        sync(q); /* of a queue with nothing to do an event is passed at once */
        double before = now_seconds();
        known = record(&stamps, q);
        await(known);
        known_time = (before + now_seconds()) / 2;
    }
    return record(&stamps, q);
}

static double stamped(void *s) {
    cudaEvent_t event = (cudaEvent_t)s;
    float ms = 0;
    await(event);
    CUDA(cudaEventElapsedTime(&ms, known, event));
    double time = known_time + 1e-3 * ms;
    if (ms < FAR_MS) {
        use_again(&stamps, event);
        return time;
    }
    use_again(&stamps, known);
    known = event;
    return known_time = time;
}

/* In front of work of the queue, and behind it. NULL: nobody is told of it. */
static void *beginning(Queue *q) { return q->device && q->device->work.issued ? stamp(q) : NULL; }

static void tell(Queue *q, const char *what, int64_t bytes, void *began) {
    if (began) q->device->work.issued(q->device->work.context, what, bytes, began, stamp(q));
}

static void *launch_began;

void cuda_launching(Queue *q) { launch_began = beginning(q); }

void cuda_launched(Queue *q, const char *kernel, int error) {
    q->counts.launches++;
    cuda_check(error, kernel);
    tell(q, kernel, 0, launch_began);
}

/* ---- some calls of CUDA's wait inside, and nothing would go on meanwhile ---- */

/* Before a copy from or to memory that is not pinned: */
static void wait_first(Queue *q) {
    if (meanwhile) sync(q);
}

static cudaStream_t *streams;
static int stream_count;

/* ... and before memory is freed. */
static void wait_for_all(void) {
    for (int i = 0; meanwhile && i < stream_count; i++) sync(&(Queue){.stream = streams[i]});
}

/* ---- memory ---- */

static void *take(int64_t bytes) {
    void *block = NULL;
    cudaError_t error = cudaMalloc(&block, (size_t)bytes);
    if (error == cudaErrorMemoryAllocation) return NULL;
    cuda_check(error, "cudaMalloc");
    return block;
}

static void give_back(void *block, int64_t bytes) {
    (void)bytes;
    wait_for_all();
    CUDA(cudaFree(block));
}

#ifdef CUDA_EMULATED
static void rename_block(Queue *q, void *block, const char *name) { emulator_rename(stream(q), block, name); }
#else
#    define rename_block NULL
#endif

static void copy(Queue *q, void *to, const void *from, int64_t bytes, enum cudaMemcpyKind kind) {
    static const char *const names[] = {[cudaMemcpyHostToDevice] = "copy to the device",
                                        [cudaMemcpyDeviceToHost] = "copy to the host",
                                        [cudaMemcpyDeviceToDevice] = "copy"};
    void *began = beginning(q);
    CUDA(cudaMemcpyAsync(to, from, (size_t)bytes, kind, stream(q)));
    tell(q, names[kind], bytes, began);
}

static void start_write(Queue *q, void *to, const void *from, int64_t bytes) {
    copy(q, to, from, bytes, cudaMemcpyHostToDevice);
}

static void start_read(Queue *q, void *to, const void *from, int64_t bytes) {
    copy(q, to, from, bytes, cudaMemcpyDeviceToHost);
}

static void copy_memory(Queue *q, void *to, const void *from, int64_t bytes) {
    copy(q, to, from, bytes, cudaMemcpyDeviceToDevice);
}

static void clear_memory(Queue *q, void *to, int64_t bytes) {
    void *began = beginning(q);
    CUDA(cudaMemsetAsync(to, 0, (size_t)bytes, stream(q)));
    tell(q, "clear", bytes, began);
}

/* ---- pinned memory: few blocks, taken once ---- */

static struct {
    char *begin;
    int64_t bytes;
} * pinned;
static int pinned_count;

static bool is_pinned(const void *memory) {
    for (int i = 0; i < pinned_count; i++)
        if ((uintptr_t)memory - (uintptr_t)pinned[i].begin < (uintptr_t)pinned[i].bytes) return true;
    return false;
}

static void *pin(int64_t bytes) {
    void *block = NULL;
    cudaError_t error = cudaHostAlloc(&block, (size_t)bytes, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) return NULL;
    cuda_check(error, "cudaHostAlloc");
    pinned = xrealloc(pinned, (size_t)(pinned_count + 1) * sizeof *pinned);
    pinned[pinned_count].begin = block;
    pinned[pinned_count++].bytes = bytes;
    return block;
}

static void unpin(void *block) {
    for (int i = 0; i < pinned_count; i++)
        if (pinned[i].begin == block) pinned[i--] = pinned[--pinned_count];
    wait_for_all();
    CUDA(cudaFreeHost(block));
}

/* ---- copies that the host waits for ---- */

/* What is not pinned has been read when the call returns; what is, may be read later. */
static void write_memory(Queue *q, void *to, const void *from, int64_t bytes) {
    wait_first(q);
    start_write(q, to, from, bytes);
    if (is_pinned(from)) sync(q);
}

static void read_memory(Queue *q, void *to, const void *from, int64_t bytes) {
    wait_first(q);
    start_read(q, to, from, bytes);
    sync(q);
}

/* ---- queues, and the device ---- */

static bool queue_open(Queue *q) {
    cudaStream_t own;
    CUDA(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking));
    q->stream = own;
    streams = xrealloc(streams, (size_t)(stream_count + 1) * sizeof *streams);
    streams[stream_count++] = own;
    return true;
}

static void queue_close(Queue *q) {
    sync(q);
    for (int i = 0; i < stream_count; i++)
        if (streams[i] == stream(q)) streams[i--] = streams[--stream_count];
    CUDA(cudaStreamDestroy(stream(q)));
}

static char *describe(void) {
    int number;
    struct cudaDeviceProp p;
    CUDA(cudaGetDevice(&number));
    CUDA(cudaGetDeviceProperties(&p, number));
    return xprintf("GPU %d, %s, %.0f GiB", number, p.name, (double)p.totalGlobalMem / (1 << 30));
}

static const DeviceBackend backend = {
    .name = "cuda",
    .describe = describe,
    .apart = true,
    .take = take,
    .give_back = give_back,
    .rename = rename_block,
    .write = write_memory,
    .read = read_memory,
    .copy = copy_memory,
    .clear = clear_memory,
    .pin = pin,
    .unpin = unpin,
    .start_write = start_write,
    .start_read = start_read,
    .mark = mark,
    .after = after,
    .wait = wait_for,
    .drop = drop,
    .sync = sync,
    .stamp = stamp,
    .stamped = stamped,
    .queue_open = queue_open,
    .queue_close = queue_close,
};

int device_cuda_count(void) {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

/* Streams beyond so many share a way to the GPU, and one that waits for another process (nccl_calls.c) holds up the rest. */
static void ask_for_many_ways(void) { setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0); }

Device *device_new_cuda(int number, int64_t budget) {
    static int used = -1;
    CHECK(used == -1 || used == number, "start a process for each GPU",
          "GPU %d is to be used by a process that has GPU %d", number, used);
    int count = 0;
    ask_for_many_ways();
    CUDA(cudaGetDeviceCount(&count));
    CHECK(number >= 0 && number < count,
          "start fewer processes on this machine, or have them share: --share-gpu",
          "process %d of this machine has no GPU: it has %d", number, count);
    CUDA(cudaSetDevice(number));
    used = number;
    Device *device = device_new(&kernels_cuda, &backend, budget);
    device->queue.threads = 1; /* the host's: they only issue work */
    return device;
}
