/* Compiled for the oldest CPU of its kind. No function of other files here: theirs are compiled for the new one. */
#define _GNU_SOURCE /* program_invocation_short_name */
#include "common/base/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined __x86_64__
#    include <cpuid.h>
#elif defined __aarch64__ && defined __linux__
#    include <sys/auxv.h>
#endif

/* Intel, Software Developer's Manual 2, CPUID; AMD, Programmer's Manual 3, appendix E. */
void cpu_words(uint32_t words[CPU_WORDS]) {
    memset(words, 0, CPU_WORDS * sizeof *words);
#if defined __x86_64__
    uint32_t a, b, c, d, leaves = 0;
    if (__get_cpuid(1, &a, &b, &c, &d)) words[CPU_1_ECX] = c;
    if (__get_cpuid_count(7, 0, &leaves, &b, &c, &d))
        words[CPU_7_EBX] = b, words[CPU_7_ECX] = c, words[CPU_7_EDX] = d;
    if (leaves > 0 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) words[CPU_7_1_EAX] = a;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) words[CPU_80000001_ECX] = c;
    if (words[CPU_1_ECX] & 1u << 27) /* OSXSAVE: the register can be read */
        __asm__ volatile("xgetbv" : "=a"(words[CPU_XCR0]), "=d"(d) : "c"(0));
#elif defined __aarch64__ && defined __linux__
    words[CPU_HWCAP] = (uint32_t)getauxval(AT_HWCAP);
    words[CPU_HWCAP2] = (uint32_t)getauxval(AT_HWCAP2);
#else
    memset(words, -1, CPU_WORDS * sizeof *words); /* nothing is known */
#endif
}

int cpu_missing(const CpuFeature *needs, const uint32_t words[CPU_WORDS], char *names, int bytes) {
    enum { SHOWN = 6 };
    int missing = 0, length = 0;
    names[0] = 0;
    for (const CpuFeature *f = needs; f->name; f++) {
        if ((words[f->word] & f->bits) == f->bits) continue;
        if (missing++ < SHOWN && length < bytes)
            length += snprintf(names + length, (size_t)(bytes - length), "%s%s", length ? ", " : "", f->name);
    }
    if (missing > SHOWN && length < bytes)
        snprintf(names + length, (size_t)(bytes - length), " and %d more", missing - SHOWN);
    return missing;
}

/* Not the first one that a launcher started on this machine. */
static int others_speak(void) {
    static const char *const names[] = {"MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value) return atoi(value) > 0;
    }
    return 0;
}

void cpu_check(void) {
    uint32_t words[CPU_WORDS];
    char names[256];
    cpu_words(words);
    if (cpu_missing(cpu_needs, words, names, sizeof names) == 0) return;
    if (others_speak()) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000},
                  NULL); /* a launcher may end all with the first one */
        _exit(1);
    }
#ifdef __GLIBC__
    const char *program = program_invocation_short_name;
#else
    const char *program = "shard.c";
#endif
    fprintf(stderr,
            "%s: error: this CPU lacks what the program was built with: %s (hint: make clean, then build it "
            "on the oldest "
            "machine that it is to run on, or for any x86-64 or arm64 with make MARCH=)\n",
            program, names);
    _exit(1);
}
