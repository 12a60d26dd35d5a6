/* Memory of the emulated GPUs, at addresses that the host cannot follow, and memory of the host's that they reach. */
#include "common/cuda/emulator/streams.h"

extern "C" {
#include "common/base/base.h"
#include "common/base/closed_memory.h"
}

#include <mutex>
#include <stdlib.h>
#include <string.h>

struct Memory {
    std::recursive_mutex mutex; /* whoever ends the program may free memory on the way */
    std::map<uintptr_t, MemoryBlock> blocks;
    std::map<int, size_t> used; /* bytes of each device */
};
static Memory *const memory = new Memory;

static std::unique_lock<std::recursive_mutex> locked() {
    wait_if_ending();
    return std::unique_lock<std::recursive_mutex>(memory->mutex);
}

static void *opened(const MemoryBlock *block) { return closed_memory_open((void *)block->begin); }

static MemoryBlock *find(uintptr_t at) {
    auto next = memory->blocks.upper_bound(at);
    if (next == memory->blocks.begin()) return NULL;
    MemoryBlock *block = &std::prev(next)->second;
    return at - block->begin < block->bytes ? block : NULL;
}

MemoryBlock *block_at(const void *address, bool open) {
    auto lock = locked();
    uintptr_t at = (uintptr_t)address, closed = at - (uintptr_t)closed_memory.open;
    return find(open && closed - closed_memory.begin < closed_memory.bytes ? closed : at);
}

static size_t offset_in(const MemoryBlock *block, const void *address) {
    return (uintptr_t)address - block->begin;
}

void check_inside(const MemoryBlock *block, const void *address, size_t bytes, const char *who) {
    CHECK(bytes <= block->bytes - offset_in(block, address), "look at the sizes",
          "%s: %zu bytes from byte %zu of '%s' on, which has %zu", who, bytes, offset_in(block, address),
          block->name.c_str(), block->bytes);
}

static MemoryBlock *expected(const void *address, const char *who) {
    MemoryBlock *block = find((uintptr_t)address);
    if (block) return block;
    bool was_device = (uintptr_t)address - closed_memory.begin < closed_memory.bytes;
    fail(1, was_device ? "use it before it is freed" : "tensor_write carries it to the device",
         "'%s' is given %s", who,
         was_device ? "memory of the device that is nobody's" : "a pointer to the host's memory");
}

void *emulator_open(const void *address, const char *who) {
    auto lock = locked();
    return (char *)opened(expected(address, who)) + offset_in(find((uintptr_t)address), address);
}

/* ---- from within a step ---- */

static void *touch(const void *address, size_t bytes, const char *who, bool writes) {
    auto lock = locked();
    MemoryBlock *block = expected(address, who);
    check_inside(block, address, bytes, who);
    size_t begin = offset_in(block, address);
    order_touch(&block->touched, block->name.c_str(), begin, begin + bytes, writes);
    return (char *)opened(block) + begin;
}

const void *emulator_reads(const void *address, size_t bytes, const char *who) {
    const void *open = touch(address, bytes, who, false);
    emulator_memory_read(open, bytes, who);
    return open;
}

void *emulator_writes(void *address, size_t bytes, const char *who) {
    void *open = touch(address, bytes, who, true);
    emulator_memory_written(open, bytes);
    return open;
}

/* What a block held is lost, behind all that the stream was given. */
static void forget(uintptr_t begin, const char *name) {
    auto lock = locked();
    MemoryBlock *block = find(begin);
    if (!block) return;
    order_touch(&block->touched, block->name.c_str(), 0, block->bytes, true);
    if (name) block->name = name; /* until then it is known by the last one's */
    emulator_memory_rename(opened(block), name ? name : (block->name + ", which is freed").c_str());
}

extern "C" {

void emulator_rename(cudaStream_t stream, void *p, const char *name) {
    {
        auto lock = locked();
        closed_memory_name(p, name);
    }
    if (!emulator_checks()) return;
    uintptr_t begin = (uintptr_t)p;
    const char *kept = name ? kept_text(name) : NULL;
    emulator_enqueue(stream, name ? "device_alloc" : "device_free",
                     [=] { return forget(begin, kept), true; });
}

/* ---- what CUDA calls ---- */

static void add(void *p, size_t bytes, bool pinned) {
    MemoryBlock block = {(uintptr_t)p, bytes, current_device(), pinned, pinned ? "pinned memory" : "memory",
                         {},           0};
    memory->blocks.emplace(block.begin, block);
    emulator_memory_add(opened(&block), bytes, block.name.c_str());
}

static cudaError_t take_away(void *p, bool pinned) {
    if (!p) return returns(cudaSuccess);
    streams_wait(); /* as CUDA does */
    auto lock = locked();
    auto found = memory->blocks.find((uintptr_t)p);
    if (found == memory->blocks.end() || found->second.pinned != pinned)
        return returns(cudaErrorInvalidValue);
    emulator_memory_remove(opened(&found->second));
    if (pinned) {
        free(p);
    } else {
        memory->used[found->second.device] -= found->second.bytes;
        closed_memory_give_back(p, (int64_t)found->second.bytes);
    }
    memory->blocks.erase(found);
    return returns(cudaSuccess);
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
    if (cudaError_t error = wanted_error("cudaMalloc")) return returns(error);
    auto lock = locked();
    size_t *used = &memory->used[current_device()];
    if (bytes > device_bytes() - *used) return returns(cudaErrorMemoryAllocation);
    closed_memory_create();
    *used += bytes;
    *p = closed_memory_take((int64_t)bytes);
    add(*p, bytes, false);
    return returns(cudaSuccess);
}

cudaError_t cudaFree(void *p) { return take_away(p, false); }

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) {
    if (cudaError_t error = wanted_error("cudaHostAlloc")) return returns(error);
    auto lock = locked();
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*p) return returns(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes); /* a NaN in every type */
    add(*p, bytes, true);
    emulator_memory_written(*p, bytes); /* by the host, at any time */
    return returns(cudaSuccess);
}

cudaError_t cudaFreeHost(void *p) { return take_away(p, true); }

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    auto lock = locked();
    *total = device_bytes();
    *left = *total - memory->used[current_device()];
    return returns(cudaSuccess);
}
}
