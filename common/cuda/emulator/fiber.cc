#include "common/cuda/emulator/fiber.h"

#include "common/cuda/emulator/emulator.h"

extern "C" {
#include "common/base/base.h"
}

#include <sys/mman.h>

/* What a call must keep is pushed, the stack exchanged, and the other's popped. */
#ifndef EMULATOR_UCONTEXT
extern "C" void emulator_switch(void **save, void *load);
#endif
#if defined(EMULATOR_UCONTEXT)
#elif defined(__x86_64__)
enum { SAVED = 6, RETURN_TO = 6 }; /* words, and which of them is the return address */
__asm__(".text\n.globl emulator_switch\n.type emulator_switch,@function\n"
        "emulator_switch:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    pop %rcx\n    jmp *%rcx\n" /* ret would always be predicted to return to `from` */
        ".size emulator_switch, .-emulator_switch\n");
#else
enum { SAVED = 20, RETURN_TO = 11 };
__asm__(".text\n.globl emulator_switch\n.type emulator_switch,%function\n"
        "emulator_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp]\n    stp x21, x22, [sp, #16]\n    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n    str x9, [x0]\n    mov sp, x1\n"
        "    ldp x19, x20, [sp]\n    ldp x21, x22, [sp, #16]\n    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n    ret\n"
        ".size emulator_switch, .-emulator_switch\n");
#endif

static const size_t MOST_THREADS = 1024, GUARD = 4096;

/* Address space alone: pages come as they are touched. */
static void reserve(Stacks *stacks) {
    size_t bytes = MOST_THREADS * EMULATOR_STACK;
    void *p = mmap(NULL, bytes + EMULATOR_STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED, "raise the limit of memory (ulimit -v)", "no room for the emulator's stacks");
    stacks->begin = (char *)(((uintptr_t)p + EMULATOR_STACK - 1) & ~(EMULATOR_STACK - 1));
    stacks->bytes = bytes;
}

Fiber *fiber_take(Stacks *stacks, void (*body)(void)) {
    if (!stacks->idle.empty()) {
        Fiber *f = stacks->idle.back();
        stacks->idle.pop_back();
        return f;
    }
    if (!stacks->begin) reserve(stacks);
    Fiber *f = new Fiber();
    f->stack = stacks->begin + stacks->all.size() * EMULATOR_STACK;
    stacks->all.push_back(f);
    CHECK(mprotect(f->stack, GUARD, PROT_NONE) == 0, NULL, "mprotect of the emulator's stacks failed");
    /* Each begins in another line of the cache: at multiples of a large power of two they would all share few. */
    size_t color = (stacks->all.size() * 5 % 61) * 64;
    char *top = f->stack + EMULATOR_STACK - sizeof(EmulatorThread) - color;
#ifdef EMULATOR_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = (size_t)(top - f->stack);
    makecontext(&f->context, body, 0);
#else
    void **words = (void **)top - 2 - SAVED; /* aligned as before a call */
    for (int i = 0; i < SAVED + 2; i++) words[i] = NULL;
    words[RETURN_TO] = (void *)body;
    f->top = words;
#endif
    return f;
}

void fiber_switch(Fiber *from, Fiber *to) {
#ifdef EMULATOR_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    emulator_switch(&from->top, to->top);
#endif
}
