/* platform: what differs between systems, in one file, each with a portable fallback. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include "common/base/platform_memory.h"

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
/* This one's number among them; 0 before. */
int platform_process_number(void);
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

/* For a loop that looks for something again and again, where nobody wakes it: gives the core away, at first at once, then for
 * a little longer each time. looks: how often it has found nothing. */
void platform_look_again(int looks);

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

#endif
