/* fiber: stacks, and a switch from one to another. */
#ifndef EMULATOR_FIBER_H
#define EMULATOR_FIBER_H

#include <stddef.h>
#include <stdint.h>
#include <vector>

#if !defined(__x86_64__) && !defined(__aarch64__)
#    define EMULATOR_UCONTEXT
#endif
#ifdef EMULATOR_UCONTEXT
#    include <ucontext.h>
#endif

struct Fiber {
    char *stack; /* EMULATOR_STACK bytes; NULL: of the host's own thread */
#ifdef EMULATOR_UCONTEXT
    ucontext_t context;
#else
    void *top; /* of what the fiber has saved on its stack */
#endif
};

/* Stacks for a whole block, made as they are needed. */
struct Stacks {
    char *begin;
    size_t bytes;
    std::vector<Fiber *> idle, all;
};

/* A fiber that is free: a new one begins with `body`, which never returns. */
Fiber *fiber_take(Stacks *stacks, void (*body)(void));
void fiber_switch(Fiber *from, Fiber *to);

#endif
