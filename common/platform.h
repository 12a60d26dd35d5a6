/* platform: what differs between systems, in one file, each with a portable fallback. */
#ifndef PLATFORM_H
#define PLATFORM_H

/* Threads that this process should run: OMP_NUM_THREADS when set, otherwise the cores that affinity and, on
 * Linux, the control group's quota (cpu.max) leave to it. */
int platform_threads(void);

#endif
