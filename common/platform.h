/* platform: what differs between systems, in one file, each with a portable fallback. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdbool.h>

/* Threads that this process should run: OMP_NUM_THREADS when set, otherwise the cores that affinity and, on
 * Linux, the control group's quota (cpu.max) leave to it, and its share of them when it has said with whom it
 * shares. */
int platform_threads(void);

/* The CPU has the vector instructions AVX-512 (F, BW, DQ, VL), and the system lets programs use them. */
bool platform_has_avx512(void);

#endif
