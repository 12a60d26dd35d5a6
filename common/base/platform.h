/* platform: what differs between systems, in one file, each with a portable fallback. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Threads that this process should run: OMP_NUM_THREADS when set, otherwise the cores that affinity and, on
 * Linux, the control group's quota (cpu.max) leave to it, and its share of them when it has said with whom it
 * shares. */
int platform_threads(void);

/* The cores that this process may run on: bit c % 64 of word c / 64 is core c. */
enum { PLATFORM_CORE_WORDS = 64 };
typedef struct {
    uint64_t words[PLATFORM_CORE_WORDS];
} CoreSet;
CoreSet platform_cores(void);
/* `processes` processes of one job run on these cores, of which this one is `number`: from now on each has its share of
 * threads, at least one. */
void platform_share_cores(const CoreSet *cores, int processes, int number);
/* false: of the processes that share the cores, those before this one are as many as the cores. */
bool platform_has_core(void);
/* How many of these cores a control group leaves. */
int platform_core_count(const CoreSet *cores);

/* Sleeps while *word is `seen`, until someone wakes it or the time is up; it may also return without a reason.
 * Processes may share the word's memory. */
void platform_sleep_on(_Atomic uint32_t *word, uint32_t seen, double seconds);
void platform_wake(_Atomic uint32_t *word); /* everyone who sleeps on it */
/* A breath in a loop that waits for another core. */
static inline void platform_pause(void) {
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("isb"); /* "yield" does nothing on most of these cores */
#endif
}

/* What ps and top call this process from now on, where that can be. */
void platform_rename_process(const char *name);

/* Does what is written there come to a terminal, whose line can be drawn anew? Not where TERM is dumb, which is also how
 * mpiexec says that a terminal it has made up for a rank is none (build/mpiexec). */
bool platform_terminal(int file);

/* The CPU has the vector instructions AVX-512 (F, BW, DQ, VL), and the system lets programs use them. */
bool platform_has_avx512(void);

/* The number that mpiexec, or its like, has given to this process; -1 when it was started alone. */
int platform_rank(void);
/* How many processes it has started, as far as it says before MPI has begun. */
int platform_ranks(void);
/* The number of this process among those of its machine, as far as mpiexec says; otherwise -1. */
int platform_local_rank(void);

/* Memory that other processes of this machine can map: a file that lies in memory, outside /dev/shm, which is small in
 * a container. A new one holds zeros, which take no memory before they are touched or reserved. Others open it by its
 * path until its maker calls platform_memory_unname. The functions return a file, or -1 and errno. */
typedef struct {
    char text[64];
} MemoryPath;
int platform_memory_new(int64_t bytes, MemoryPath *path);
int platform_memory_open(const MemoryPath *path);
void platform_memory_unname(const MemoryPath *path);
/* From now on touching these bytes cannot fail. 0, or an errno: there is no room for them. */
int platform_memory_reserve(int file, int64_t offset, int64_t bytes);

#endif
