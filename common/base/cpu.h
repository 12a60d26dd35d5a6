/* cpu: does this CPU have the instructions that the program was built with? -march=native builds for the machine that
 * builds; on an older one (a cluster with two kinds of nodes, a copied folder) the program would die somewhere of an illegal
 * instruction. It looks before, in a constructor that runs ahead of all others, and says so in one line.
 *
 * cpu_needs.c is compiled with the program's flags, and only holds data; cpu_check.c is compiled for the oldest CPU of its kind
 * (the Makefile's BASELINE), and calls nothing that is not. */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>

/* Where a CPU says what it has. x86: words that CPUID returns, and XCR0, the registers that the system saves.
 * arm64: the words of Linux's auxiliary vector. */
#if defined __aarch64__
enum { CPU_HWCAP, CPU_HWCAP2, CPU_WORDS };
#else
enum { CPU_1_ECX, CPU_7_EBX, CPU_7_ECX, CPU_7_EDX, CPU_7_1_EAX, CPU_80000001_ECX, CPU_XCR0, CPU_WORDS };
#endif

typedef struct {
    const char *name;
    int word;
    uint32_t bits; /* all of them are needed */
} CpuFeature;

/* What a compiler may use by itself, of what this program was built with: the oldest first. It ends with a name NULL. What
 * takes an intrinsic (AES, SHA, random numbers) is left out, as nothing here has one. */
extern const CpuFeature cpu_needs[];

void cpu_words(uint32_t words[CPU_WORDS]);
/* How many of `needs` are not in `words`; the names of the first of them, with commas between, in `names`. */
int cpu_missing(const CpuFeature *needs, const uint32_t words[CPU_WORDS], char *names, int bytes);
/* Ends the program, with a line, where one is missing. Of the processes that a launcher started on this machine the first
 * one speaks. */
void cpu_check(void);

#endif
