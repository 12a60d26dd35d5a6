/* emulator_counts: what kernels did, by kernel, while the emulator's checks were on. C and C++. */
#ifndef EMULATOR_COUNTS_H
#define EMULATOR_COUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int64_t launches, blocks;
    /* Global memory, in sectors of 32 bytes: those that the accesses of a warp touch together, and as few as could hold the
     * bytes that they want. Equal: all is coalesced. */
    int64_t sectors, sectors_needed;
    /* Shared memory, 32 banks of 4 bytes: accesses of a warp (one of 8 bytes a lane counts as two, as it takes two turns at
     * best), the turns they took, and the most that one took. Equal: no conflicts. */
    int64_t shared_accesses, shared_turns;
    int worst_turns;
    int64_t barriers; /* __syncthreads that a block passed */
    int64_t atomics;  /* of threads */
} EmulatorCounts;

/* kernel: its name in LAUNCH, without template arguments: "add_kernel". All zero: it never ran. */
EmulatorCounts emulator_counts(const char *kernel);
void emulator_counts_reset(void);
/* A line for each kernel that ran, by name. */
void emulator_counts_print(FILE *f);

#ifdef __cplusplus
}
#endif
#endif
