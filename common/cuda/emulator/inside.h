/* inside: what the emulator's own files share. A Block is what one thread of the host runs: a block of a grid at a time. */
#ifndef EMULATOR_INSIDE_H
#define EMULATOR_INSIDE_H

#include "common/cuda/emulator/emulator.h"
#include "common/cuda/emulator/emulator_counts.h"
#include "common/cuda/emulator/fiber.h"
#include "common/cuda/emulator/shadow.h"

#include <memory>
#include <string>
#include <vector>

enum ThreadState { RUNNING, AT_BARRIER, AT_WARP_OPERATION, ENDED };
enum WarpOperation { SYNC_WARP, BALLOT, SHUFFLE };

struct Thread {
    ThreadState state;
    Fiber *fiber;
    const char *where; /* it waits: a file, or the warp operation's name */
    int line;
    const void *return_address; /* of the call, for a barrier */
};

/* What a lane brings to an operation, and gets. */
struct Lane {
    WarpOperation operation;
    unsigned mask;
    int from;
    uint64_t value, result;
};

struct Warp {
    unsigned there, arrived, ended; /* lanes; there: of the block at all */
    Lane lane[32];
    /* __syncwarp advances the time. clock[a][b]: all that lane b did at times before it is known to lane a. */
    unsigned time, clock[32][32];
    AccessLog log;
};

struct SharedArray {
    const void *place;
    Area area;
};

struct Block {
    const EmulatorLaunch *launch;
    EmulatorThread
        head; /* of the thread that runs or was started last; only `index` and `linear` differ among threads */
    int thread_count, current, started, ended, at_barrier, first_at_barrier;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<int> order, ready; /* in which threads begin; those that may go on */
    uint64_t random;               /* 0: in order */
    Fiber scheduler;
    Stacks stacks;

    char *shared; /* SHARED_SPACE bytes */
    size_t shared_used, static_bytes;
    std::vector<std::unique_ptr<SharedArray>> arrays; /* [0]: dynamic shared memory, if there is some */

    /* with checks */
    bool checks;
    Stamp now;                                    /* of the thread that runs */
    uint32_t launch_serial, block_serial, serial; /* first of the launch, of the block; the current one */
    std::vector<std::pair<uint32_t, uint64_t>>
        serials; /* first serial of each block that has run, its number */
    EmulatorCounts *counts;
    uint32_t launch_number;

    std::string finding, hint; /* what ends the program */
    /* What a thread has read that nobody has written: the program goes on until the next barrier, as another thread may be
     * found to write it, whose turn has not come. */
    std::string pending;
    const char *pending_hint;
};

/* Of a block. GPUs have more, for a kernel that asks for it (cudaFuncSetAttribute): LAUNCH does not. */
const size_t MOST_SHARED = 48 << 10;
const size_t SHARED_SPACE = 1 << 20;

/* The block that runs on this thread of the host; the same, where checks are on. */
extern thread_local Block *emulator_block, *emulator_watched;

static inline Warp *warp_of(Block *b, int thread) { return &b->warps[(size_t)thread / 32]; }

/* block.cc: runs the block that b->head names. */
void block_run(Block *b);
void thread_wait(ThreadState state, const char *where, int line, const void *return_address);
void thread_ready(Block *b, int thread);
uint64_t random_below(Block *b, uint64_t n);

/* warp.cc */
void warp_reset(Warp *w, int lanes);
/* What the thread, which waits for others of its warp, waits for. */
std::string warp_waits_for(Block *b, int thread);

/* shared.cc */
void shared_launch(Block *b);
void shared_begin(Block *b);
Area *shared_find(Block *b, uintptr_t p);

/* finding.cc: ends the program, from a thread of a kernel: "kernel K (launched at F:L), block (x,y,z): ..." */
[[noreturn]] void finding(const char *hint, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool finding_pending(Block *b); /* what is pending, if something is, becomes the finding */
void finding_end(Block *b);     /* on the host's own stack: where there is one, the program ends */
std::string thread_text(Block *b, int linear);
std::string waiting_text(const Thread *t); /* " at FILE:LINE", " in __shfl_xor_sync" */
/* " at FILE:LINE" of an instruction's return address, " in FILE:LINE from FILE:LINE" in a function of a header; nothing
 * where it cannot be found */
std::string place_text(const void *return_address);

#endif
