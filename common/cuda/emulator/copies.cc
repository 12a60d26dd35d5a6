/* Copies, as a GPU does them: late. From pinned memory of the host they read what stands there then, and into it they write
 * then; what the host does with it before is found, or shows as NaNs. Other memory of the host's is read at once, and
 * written before the call returns. */
#include "common/cuda/emulator/streams.h"

extern "C" {
#include "common/base/base.h"
}

#include <string.h>
#include <xxhash.h>

static const char *const name_of[] = {"a copy within the host", "a copy to the device", "a copy to the host",
                                      "a copy within the device", "a copy"};

/* Both sides, and whether they are what the call says. */
static void check_sides(const MemoryBlock *to, const MemoryBlock *from, cudaMemcpyKind kind) {
    bool to_device = to && !to->pinned, from_device = from && !from->pinned;
    bool to_wanted = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice,
         from_wanted = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    const char *what = name_of[kind], *hint = "look at what the copy is said to be";
    CHECK(kind == cudaMemcpyDefault || to_device == to_wanted, hint, "%s: its end is the %s memory", what,
          to_device ? "device's" : "host's");
    CHECK(kind == cudaMemcpyDefault || from_device == from_wanted, hint, "%s: it begins in the %s memory",
          what, from_device ? "device's" : "host's");
}

static void copy_staged(void *to, const void *from, size_t bytes, const char *who, cudaStream_t stream) {
    auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    emulator_enqueue(stream, who, [=] {
        memcpy(emulator_writes(to, bytes, who), staged->data(), bytes);
        return true;
    });
}

static void copy_from_pinned(void *to, const void *from, MemoryBlock *pinned, size_t bytes, const char *who,
                             cudaStream_t stream) {
    uint64_t sum = XXH64(from, bytes, 0);
    pinned->to_be_read++;
    emulator_enqueue(stream, who, [=] {
        const void *now = emulator_reads(from, bytes, who);
        pinned->to_be_read--;
        void *open = emulator_writes(to, bytes, who);
        memcpy(open, now, bytes);
        CHECK(XXH64(open, bytes, 0) == sum, "wait for a mark behind the copy before you change it",
              "the host changes pinned memory before %s to '%s' has read it", who,
              block_at(to, false)->name.c_str());
        return true;
    });
}

static void copy_to_pinned(void *to, MemoryBlock *pinned, const void *from, size_t bytes, const char *who,
                           cudaStream_t stream) {
    if (!pinned->to_be_read) memset(to, 0xff, bytes); /* whoever reads it too early sees NaNs */
    emulator_enqueue(stream, who, [=] {
        memcpy(emulator_writes(to, bytes, who), emulator_reads(from, bytes, who), bytes);
        return true;
    });
}

static void copy_on_device(void *to, const void *from, size_t bytes, const char *who, cudaStream_t stream) {
    emulator_enqueue(stream, who, [=] {
        const void *source = emulator_reads(from, bytes, who);
        memmove(emulator_writes(to, bytes, who), source, bytes);
        return true;
    });
}

static void copy_out(void *to, const void *from, size_t bytes, const char *who, cudaStream_t stream) {
    emulator_enqueue(stream, who, [=] { return memcpy(to, emulator_reads(from, bytes, who), bytes), true; });
    mark_wait(stream_mark(stream));
}

extern "C" {

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (cudaError_t error = wanted_error("cudaMemcpyAsync")) return returns(error);
    if (!bytes) return returns(cudaSuccess);
    const char *who = name_of[kind];
    MemoryBlock *target = block_at(to, false), *source = block_at(from, false);
    check_sides(target, source, kind);
    if (target) check_inside(target, to, bytes, who);
    if (source) check_inside(source, from, bytes, who);
    bool to_device = target && !target->pinned, from_device = source && !source->pinned;
    if (to_device && from_device)
        copy_on_device(to, from, bytes, who, stream);
    else if (to_device && source)
        copy_from_pinned(to, from, source, bytes, who, stream);
    else if (to_device)
        copy_staged(to, from, bytes, who, stream);
    else if (from_device && target)
        copy_to_pinned(to, target, from, bytes, who, stream);
    else if (from_device)
        copy_out(to, from, bytes, who, stream);
    else
        return returns(cudaErrorInvalidValue);
    return returns(cudaSuccess);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    if (cudaError_t error = wanted_error("cudaMemsetAsync")) return returns(error);
    if (!bytes) return returns(cudaSuccess);
    emulator_open(p, "memset");
    emulator_enqueue(stream, "memset", [=] {
        memset(emulator_writes(p, bytes, "memset"), value, bytes);
        return true;
    });
    return returns(cudaSuccess);
}
}
