/* closed_memory: memory of a CPU device that the host cannot reach, as it cannot reach a GPU's.
 *
 * With SHARD_CLOSED_MEMORY=1 in the environment each page of a device's memory has two addresses. The one that tensors
 * carry is closed: whoever follows it ends the program with a message that names the tensor. Kernels and collectives,
 * which alone may touch a device's memory, turn it into the other one with closed_memory_open. What is new, or was given
 * back, holds NaNs. Without the variable, addresses are what they seem, and closed_memory_open costs a comparison. */
#ifndef CLOSED_MEMORY_H
#define CLOSED_MEMORY_H

#include "common/base/base.h"

typedef struct {
    uintptr_t begin, bytes; /* of the closed addresses; bytes 0: there are none */
    intptr_t open;          /* what lies between a closed address and its open one */
} ClosedMemory;
extern ClosedMemory closed_memory;

/* The address by which kernels reach what is at `address`, which may be the host's as well. */
static inline void *closed_memory_open(const void *address) {
    uintptr_t at = (uintptr_t)address;
    return (void *)(at - closed_memory.begin < closed_memory.bytes ? at + (uintptr_t)closed_memory.open : at);
}

/* Makes it ready, where the environment asks for it: before any of the others. */
void closed_memory_start(void);
/* Makes it ready in any case. */
void closed_memory_create(void);
/* A block of whole pages, at a closed address; for closed_memory.bytes > 0 only. */
void *closed_memory_take(int64_t bytes);
void closed_memory_give_back(void *block, int64_t bytes);
/* From now on the block belongs to `name`, which is copied; NULL: to nobody. */
void closed_memory_name(void *block, const char *name);
void closed_memory_rename(void *block, const char *name); /* and it holds NaNs */

#endif
