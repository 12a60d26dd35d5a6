/* cases: small kernels, each right and with one mistake. A program runs one of them by its name:
 *   build-emulated/tests/emulator_kernels CASE [broken]
 * and says what the emulator counted. tests/test_emulator_kernels.sh knows what each mistake must be called. */
#ifndef CASES_H
#define CASES_H

#include "common/cuda/gpu.h"

extern "C" {
#include "common/cuda/emulator/emulator_counts.h"
}

struct Case {
    const char *name;
    void (*run)(Queue *q, bool broken);
    Case *next;
    static Case *first;
    Case(const char *name_, void (*run_)(Queue *, bool)) : name(name_), run(run_), next(first) {
        first = this;
    }
};

/* CASE(name) { launches on q what is right, or what is broken } */
#define CASE(name)                                                                                           \
    static void run_##name(Queue *q, bool broken);                                                           \
    static Case case_##name(#name, run_##name);                                                              \
    static void run_##name(Queue *q, bool broken)

/* Launches kernel<false> or kernel<true>. */
#define LAUNCH_CASE(kernel, grid, block, ...)                                                                \
    do {                                                                                                     \
        if (broken)                                                                                          \
            LAUNCH(kernel<true>, grid, block, 0, q, __VA_ARGS__);                                            \
        else                                                                                                 \
            LAUNCH(kernel<false>, grid, block, 0, q, __VA_ARGS__);                                           \
    } while (0)

/* Memory of the device's that nobody has written; of zeros. */
template <class T> static inline T *unwritten(size_t count) {
    void *p;
    CUDA((int)cudaMalloc(&p, count * sizeof(T)));
    return (T *)p;
}
template <class T> static inline T *zeros(Queue *q, size_t count) {
    T *p = unwritten<T>(count);
    CUDA((int)cudaMemsetAsync(p, 0, count * sizeof(T), (cudaStream_t)q->stream));
    return p;
}

#endif
