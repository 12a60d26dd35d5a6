/* counts: what a kernel asks of memory, as the emulator counts it. On a GPU, and without the emulator's checks, nobody
 * counts, and nothing is tested. */
#ifndef COUNTS_H
#define COUNTS_H

#include "common/cuda/emulator/emulator_counts.h"
#include "tests/tap.h"

#include <stdlib.h>

#pragma weak emulator_counts

/* What the kernel has done so far: threads of a warp that are neighbours touched neighbouring global memory, in hardly more
 * sectors than hold what they wanted (rows that begin within a sector take one more), and shared memory without bank
 * conflicts. */
static inline void memory_used_well(const char *kernel) {
    const char *checks = getenv("SHARD_EMULATOR_CHECKS");
    if (!emulator_counts || (checks && *checks == '0')) return;
    EmulatorCounts c = emulator_counts(kernel);
    ok(c.launches && (double)c.sectors <= 1.25 * (double)c.sectors_needed &&
           c.shared_turns == c.shared_accesses,
       "%s: %lld sectors, where %lld are enough; %lld turns of shared memory for %lld accesses", kernel,
       (long long)c.sectors, (long long)c.sectors_needed, (long long)c.shared_turns,
       (long long)c.shared_accesses);
}

#endif
