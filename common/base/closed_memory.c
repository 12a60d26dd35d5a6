#define _GNU_SOURCE
#include "common/base/closed_memory.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

ClosedMemory closed_memory;

/* Addresses are not used a second time, and pages that nobody has touched cost nothing: so they may be many. */
#define ROOM ((size_t)1 << 40)

typedef struct {
    uintptr_t begin;
    int64_t bytes;
    char name[64]; /* "": nobody's */
} Block;

static Block *blocks; /* by address */
static int64_t block_count, block_capacity;
static size_t used; /* bytes */

static Block *block_at(uintptr_t address) {
    int64_t low = 0, high = block_count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (blocks[middle].begin + (uintptr_t)blocks[middle].bytes <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < block_count && address >= blocks[low].begin ? &blocks[low] : NULL;
}

/* In a signal handler only few calls are allowed: no fail(), no exit(). */
static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    if (at - closed_memory.begin >= closed_memory.bytes) {
        signal(number, SIG_DFL); /* not ours: it happens again, and ends the program */
        return;
    }
    const Block *block = block_at(at);
    char text[256];
    int length = snprintf(
        text, sizeof text,
        "%s: error: the host touches the device's memory of '%s' (hint: kernels and collectives may, all "
        "others use tensor_read and tensor_write)\n",
        base_program(), block && *block->name ? block->name : "nobody any more");
    ssize_t written = write(STDERR_FILENO, text, (size_t)length);
    (void)written; /* nobody to tell */
    _exit(1);
}

void closed_memory_start(void) {
    const char *wanted = getenv("SHARD_CLOSED_MEMORY");
    if (wanted && strcmp(wanted, "0") != 0) closed_memory_create();
}

void closed_memory_create(void) {
    if (closed_memory.bytes) return;
#ifdef __linux__
    char *opened =
        mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *closed =
        opened == MAP_FAILED ? MAP_FAILED : mremap(opened, 0, ROOM, MREMAP_MAYMOVE); /* once more */
    CHECK(closed != MAP_FAILED && mprotect(closed, ROOM, PROT_NONE) == 0,
          "leave SHARD_CLOSED_MEMORY out, or lift ulimit -v", "no room for memory with two addresses");
    closed_memory = (ClosedMemory){(uintptr_t)closed, ROOM, opened - closed};
    sigaction(SIGSEGV, &(struct sigaction){.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, NULL);
#else
    fail(2, "leave it out", "SHARD_CLOSED_MEMORY works on Linux alone");
#endif
}

void *closed_memory_take(int64_t bytes) {
    if (block_count == block_capacity) {
        block_capacity = 2 * block_capacity + 64;
        blocks = xrealloc(blocks, (size_t)block_capacity * sizeof *blocks);
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    CHECK(used + (size_t)bytes + page <= ROOM, "leave SHARD_CLOSED_MEMORY out",
          "all closed addresses are used");
    Block *block = &blocks[block_count++];
    *block = (Block){.begin = closed_memory.begin + used, .bytes = bytes};
    /* a page that is nobody's behind each */
    used += ((size_t)bytes + page - 1) / page * page + page;
    return (void *)block->begin;
}

void closed_memory_give_back(void *block, int64_t bytes) {
    closed_memory_rename(block, NULL);
#ifdef MADV_REMOVE
    madvise(closed_memory_open(block), (size_t)bytes, MADV_REMOVE); /* a hint: failing is fine */
#endif
}

void closed_memory_name(void *block, const char *name) {
    Block *named = block_at((uintptr_t)block);
    ASSERT(named);
    snprintf(named->name, sizeof named->name, "%s", name ? name : "");
}

void closed_memory_rename(void *block, const char *name) {
    closed_memory_name(block, name);
    memset(closed_memory_open(block), 0xff,
           (size_t)block_at((uintptr_t)block)->bytes); /* a NaN in every type */
}
