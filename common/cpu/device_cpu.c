#define _GNU_SOURCE
#include "common/cpu/device_cpu.h"

#include "common/base/closed_memory.h"
#include "common/base/platform.h"
#include "common/cpu/kernels_cpu.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const Kernels kernels_cpu = {
    .name = "cpu",
    .zero = cpu_zero,
    .copy = cpu_copy,
    .cast = cpu_cast,
    .add = cpu_any_add,
    .accumulate = cpu_any_accumulate,
    .copy_slice = cpu_copy_slice,
    .scale = cpu_any_scale,
    .matmul = cpu_matmul,
    .matmul_scratch = cpu_matmul_scratch,
    .add_row = cpu_any_add_row,
    .sum_rows = cpu_sum_rows,
    .embedding = cpu_any_embedding,
    .embedding_backward = cpu_embedding_backward,
    .position_backward = cpu_position_backward,
    .layernorm = cpu_any_layernorm,
    .layernorm_backward = cpu_any_layernorm_backward,
    .norm_backward_param = cpu_norm_backward_param,
    .rmsnorm = cpu_any_rmsnorm,
    .rmsnorm_backward = cpu_any_rmsnorm_backward,
    .relu = cpu_any_relu,
    .relu_backward = cpu_any_relu_backward,
    .gelu = cpu_any_gelu,
    .gelu_backward = cpu_any_gelu_backward,
    .swiglu = cpu_any_swiglu,
    .swiglu_backward = cpu_any_swiglu_backward,
    .dropout = cpu_any_dropout,
    .rope = cpu_any_rope,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
    .attention_scratch = cpu_attention_scratch,
    .attention_cached = cpu_attention_cached,
    .softmax_cross_entropy = cpu_softmax_cross_entropy,
    .row_max = cpu_row_max,
    .exp_sums = cpu_exp_sums,
    .split_cross_entropy = cpu_split_cross_entropy,
    .head_loss = cpu_head_loss,
    .head_loss_scratch = cpu_head_loss_scratch,
    .squared_error = cpu_any_squared_error,
    .reciprocal = cpu_reciprocal,
    .add_means = cpu_add_means,
    .sum = cpu_sum,
    .clip = cpu_clip,
    .squares = cpu_squares,
    .adamw = cpu_adamw,
    .sgd = cpu_sgd,
};

/* ---- memory ---- */

static void *take(int64_t bytes) {
    bool large = bytes >= 2 * DEVICE_LARGE_UNIT;
    void *block = aligned_alloc(large ? DEVICE_LARGE_UNIT : DEVICE_UNIT, (size_t)bytes);
#ifdef MADV_HUGEPAGE
    if (block && large) madvise(block, (size_t)bytes, MADV_HUGEPAGE); /* a hint: failing is fine */
#endif
    return block;
}

static void give_back(void *block, int64_t bytes) {
    (void)bytes;
    free(block);
}

static void write_memory(Queue *q, void *to, const void *from, int64_t bytes) {
    (void)q;
    memcpy(closed_memory_open(to), from, (size_t)bytes);
}

static void read_memory(Queue *q, void *to, const void *from, int64_t bytes) {
    (void)q;
    memcpy(to, closed_memory_open(from), (size_t)bytes);
}

static void copy_memory(Queue *q, void *to, const void *from, int64_t bytes) {
    (void)q;
    memcpy(closed_memory_open(to), closed_memory_open(from), (size_t)bytes);
}

static void clear_memory(Queue *q, void *to, int64_t bytes) {
    (void)q;
    memset(closed_memory_open(to), 0, (size_t)bytes);
}

static void *pin(int64_t bytes) { return malloc((size_t)bytes); }

/* ---- the device ---- */

#define BACKEND(memory_take, memory_give_back, memory_rename)                                                \
    {                                                                                                        \
        .name = "cpu", .take = memory_take, .give_back = memory_give_back, .rename = memory_rename,          \
        .write = write_memory, .read = read_memory, .copy = copy_memory, .clear = clear_memory, .pin = pin,  \
        .unpin = free, .start_write = write_memory, .start_read = read_memory,                               \
    }
static void rename_closed(Queue *q, void *block, const char *name) {
    (void)q;
    closed_memory_rename(block, name);
}
static const DeviceBackend backend = BACKEND(take, give_back, NULL);
static const DeviceBackend backend_closed =
    BACKEND(closed_memory_take, closed_memory_give_back, rename_closed);

Device *device_new_cpu(int64_t budget) {
    closed_memory_start();
    Device *device = device_new(&kernels_cpu, closed_memory.bytes ? &backend_closed : &backend, budget);
    device->queue.threads = platform_threads();
    /* threads are outside: over fixed tiles, so that bits do not depend on them */
    openblas_set_num_threads(1);
    return device;
}
