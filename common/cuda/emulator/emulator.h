/* emulator: kernels of a GPU, run on this CPU. A thread of a block is a fiber; the compiler tells of each access that a
 * kernel makes, so that mistakes which a GPU hides end the program with a line that names them. README.md in this folder
 * says what is found. From the environment:
 *   SHARD_EMULATOR_SEED=n     threads, blocks and streams in another order for each n (0, the default: as they come)
 *   SHARD_EMULATOR_CHECKS=0   nothing is looked for or counted; blocks run on OpenMP's threads
 *   SHARD_EMULATOR_COUNTS=1   a table of what kernels did (emulator_counts.h) at the program's end, on stderr */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <cuda_runtime.h>

#include <functional>
#include <stdint.h>
#include <string.h>
#include <tuple>

/* ---- launches ---- */

struct EmulatorLaunch {
    const char *kernel, *file; /* its name, and where it is launched */
    int line;
    dim3 grid, block;
    size_t dynamic_bytes;
    void (*thread)(const void *arguments); /* one thread's work */
    const void *arguments;                 /* threads may read these */
    size_t argument_bytes;
};

/* Whether mistakes are looked for. */
bool emulator_checks(void);
/* Runs the whole grid now. A mistake ends the program. */
void emulator_run_grid(const EmulatorLaunch *launch);

/* Work of a stream: step is called until it returns true. (streams) */
void emulator_enqueue(cudaStream_t stream, const char *what, std::function<bool()> step);
/* The address by which kernels reach what a pointer of the device's, or to pinned memory, means; any other ends the program
 * and names `who`. */
void *emulator_open(const void *address, const char *who);

/* ---- memory that kernels may touch, by the addresses that kernels have; thread-safe ---- */

/* From now on these bytes are there, and nobody has written them. name is copied. */
void emulator_memory_add(void *open, size_t bytes, const char *name);
void emulator_memory_remove(void *open);
/* The same bytes get another name, and count as never written. */
void emulator_memory_rename(void *open, const char *name);
/* Somebody other than a kernel has written them (a copy, a memset, a product). */
void emulator_memory_written(void *open, size_t bytes);
/* `who`, other than a kernel, reads them: ends the program if some are of no memory, or were never written. */
void emulator_memory_read(const void *open, size_t bytes, const char *who);
/* What a kernel touches, told to whoever watches streams, once in a launch for each piece of 256 bytes and kind. (streams) */
void emulator_touched(void *piece, bool written);
/* When the launch is done: a bit for each word of 4 bytes that it has touched so. */
uint64_t emulator_touched_words(const void *piece, bool written);

/* ---- what a thread knows of itself: it lies at the upper end of the thread's stack ---- */

const size_t EMULATOR_STACK = 128 << 10; /* bytes; stacks begin at multiples of it */
struct alignas(64) EmulatorThread {
    uint3 index, block;
    dim3 block_size, grid_size;
    int linear;
};
static inline const EmulatorThread *emulator_thread(void) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return (const EmulatorThread *)((here | (EMULATOR_STACK - 1)) + 1) - 1;
}
#define threadIdx (emulator_thread()->index)
#define blockIdx  (emulator_thread()->block)
#define blockDim  (emulator_thread()->block_size)
#define gridDim   (emulator_thread()->grid_size)

/* ---- what kernels call ---- */

void emulator_barrier(const char *file, int line);
#define __syncthreads() emulator_barrier(__FILE__, __LINE__)

/* The array of `bytes` bytes that belongs to the block and this place in the source. */
void *emulator_shared(const void *place, size_t bytes, const char *name);
void *emulator_dynamic(void);
#define SHARED(type, name, dimensions)                                                                       \
    static const char name##_place = 0;                                                                      \
    typedef type name##_type dimensions;                                                                     \
    name##_type &name = *(name##_type *)emulator_shared(&name##_place, sizeof(name##_type), #name)
#define DYNAMIC_SHARED(type, name) type *name = (type *)emulator_dynamic()

/* Operations of a warp: each lane of mask comes, with the same mask. */
void emulator_sync_warp(unsigned mask);
unsigned emulator_ballot(unsigned mask, bool vote);
/* The value of lane `from`. */
uint64_t emulator_shuffle(unsigned mask, uint64_t value, int from, const char *what);

static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator_sync_warp(mask); }
static inline unsigned __ballot_sync(unsigned mask, int vote) { return emulator_ballot(mask, vote != 0); }
static inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
static inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
static inline int emulator_lane(void) { return emulator_thread()->linear % 32; }
template <class T> static inline T emulator_shuffled(unsigned mask, T v, int from, const char *what) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle carries up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emulator_shuffle(mask, bits, from, what);
    memcpy(&v, &bits, sizeof v);
    return v;
}
/* In sections of `width` lanes; where there is no such lane in the section, a lane keeps its own value. */
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32) {
    int lane = emulator_lane(), from = lane ^ x;
    return emulator_shuffled(mask, v, from / width <= lane / width ? from : lane, "__shfl_xor_sync");
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32) {
    int lane = emulator_lane();
    return emulator_shuffled(mask, v, lane % width + (int)d < width ? lane + (int)d : lane,
                             "__shfl_down_sync");
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32) {
    int lane = emulator_lane();
    return emulator_shuffled(mask, v, lane % width >= (int)d ? lane - (int)d : lane, "__shfl_up_sync");
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    return emulator_shuffled(mask, v, emulator_lane() / width * width + from % width, "__shfl_sync");
}

/* Atomics of 4 or 8 bytes: begin counts and checks one, and reads *p; try is a compare-and-swap, which on failure reads *p
 * into old. */
void emulator_atomic_begin(void *p, size_t bytes, void *old);
bool emulator_atomic_try(void *p, size_t bytes, void *old, const void *wanted);
template <class T, class F> static inline T emulator_atomic(T *p, F next) {
    T old, wanted;
    emulator_atomic_begin(p, sizeof(T), &old);
    do wanted = next(old);
    while (!emulator_atomic_try(p, sizeof(T), &old, &wanted));
    return old;
}
template <class T> static inline T atomicAdd(T *p, T v) {
    return emulator_atomic(p, [=](T old) { return old + v; });
}
template <class T> static inline T atomicMax(T *p, T v) {
    return emulator_atomic(p, [=](T old) { return old > v ? old : v; });
}
template <class T> static inline T atomicMin(T *p, T v) {
    return emulator_atomic(p, [=](T old) { return old < v ? old : v; });
}
template <class T> static inline T atomicExch(T *p, T v) {
    return emulator_atomic(p, [=](T) { return v; });
}
template <class T> static inline T atomicCAS(T *p, T expected, T v) {
    return emulator_atomic(p, [=](T old) { return old == expected ? v : old; });
}

static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }

/* ---- LAUNCH ---- */

template <class A> static inline A emulator_argument(A a, const char *) { return a; }
template <class A> static inline A *emulator_argument(A *a, const char *who) {
    return a ? (A *)emulator_open((const void *)a, who) : NULL;
}
template <class... P> struct EmulatorCall {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    static void thread(const void *of) {
        const EmulatorCall *call = (const EmulatorCall *)of;
        std::apply(call->kernel, call->arguments);
    }
};
/* Pointers among the arguments are opened now. */
template <class... P, class... A>
static inline void emulator_launch(void (*kernel)(P...), const char *name, const char *file, int line,
                                   dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t stream,
                                   A... arguments) {
    EmulatorCall<P...> call = {kernel, std::tuple<P...>(emulator_argument((P)arguments, name)...)};
    emulator_enqueue(stream, name, [=] {
        EmulatorLaunch launch = {name,          file,        line,  grid,       block,
                                 dynamic_bytes, call.thread, &call, sizeof call};
        emulator_run_grid(&launch);
        return true;
    });
}
#define LAUNCH(kernel, grid, block, dynamic_bytes, q, ...)                                                   \
    do {                                                                                                     \
        cuda_launching(q);                                                                                   \
        emulator_launch(kernel, #kernel, __FILE__, __LINE__, grid, block, dynamic_bytes,                     \
                        (cudaStream_t)(q)->stream, __VA_ARGS__);                                             \
        cuda_launched(q, #kernel, cudaGetLastError());                                                       \
    } while (0)

#endif
