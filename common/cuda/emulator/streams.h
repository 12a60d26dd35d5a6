/* streams: work that streams were given, and the memory that it touches.
 *
 * One thread does the work of all streams: late, when the host waits for some of it, in the order that it was issued in, or,
 * with a seed, in any that events allow. A clock says for each piece of work which others come before it, by streams, by
 * events, and by what the host waited for. It does not depend on when work really happens: so that two pieces which touch the
 * same memory with no event between are found whenever both are done, in every order. */
#ifndef EMULATOR_STREAMS_H
#define EMULATOR_STREAMS_H

#include "common/cuda/emulator/emulator.h"

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

/* ---- for calls that the emulator carries out itself: copies, products, collectives ---- */

/* From within a step of a stream (emulator_enqueue): the host's address of device memory, or of pinned memory, that `who`
 * reads or overwrites. Ends the program where it is not inside one allocation, where what is read was never written, or
 * where another stream's work touches it and no event stands between. */
const void *emulator_reads(const void *address, size_t bytes, const char *who);
void *emulator_writes(void *address, size_t bytes, const char *who);

/* ---- streams.cc ---- */

/* Of each stream, by its number: how much of its work comes before. */
typedef std::vector<uint64_t> Clock;

struct Work {
    const char *what; /* kept for good */
    std::function<bool()> step;
    uint64_t number, issued; /* in its stream, from 1 on; among all */
    Clock clock;             /* its own number included */
};
struct CUstream_st {
    int number, device;
    bool stuck; /* its next step waits for something */
    uint64_t issued;
    std::atomic<uint64_t> done;
    Clock clock;
    std::deque<Work> work;
    uint64_t wanted; /* the last of its work that the host has asked about */
};
/* A point in a stream's work. */
struct Mark {
    cudaStream_t stream; /* NULL: of none, and passed */
    uint64_t number;
    Clock clock;
    std::shared_ptr<double> time; /* when it was passed, in seconds */
};

cudaStream_t stream_new(int device);
Mark stream_mark(cudaStream_t stream); /* a new one */
Mark stream_last(cudaStream_t stream); /* behind what it has been given */
/* What the stream is given from now on comes behind the mark. */
void stream_after(cudaStream_t stream, const Mark &mark);
bool mark_passed(const Mark &mark);
/* ... asked by the host, which then knows what came before, and otherwise will ask again. */
bool mark_asked(const Mark &mark);
/* The host waits. */
void mark_wait(const Mark &mark);
void streams_wait(void); /* for all work of all streams */
/* The work whose step runs; NULL: none does. */
const Work *work_running(cudaStream_t *stream);
/* Where the program is ending in another thread, this one waits for that. */
void wait_if_ending(void);
const char *kept_text(const char *text);

/* ---- order.cc ---- */

struct Access {
    int stream;
    uint64_t number; /* 0: none */
    const char *what;
};
/* Who touched each byte of a block last. */
struct Piece {
    size_t end;
    Access writer;
    std::vector<Access> readers; /* since then, one of each stream */
};
typedef std::map<size_t, Piece> Touched;

/* The work that runs reads or writes these bytes. */
void order_touch(Touched *touched, const char *name, size_t begin, size_t end, bool writes);
/* Looks at what the kernel that has run has touched (emulator_touched). */
void order_look_at_kernel(void);

/* ---- blocks.cc ---- */

struct MemoryBlock {
    uintptr_t begin; /* as the device sees it */
    size_t bytes;
    int device;
    bool pinned;
    std::string name;
    Touched touched;
    int to_be_read; /* pinned: copies from it that were issued and have not begun */
};

/* The block that holds the address, as the device or, `open`, as kernels see it; NULL: none. */
MemoryBlock *block_at(const void *address, bool open);
/* The whole range lies in the block; the program ends where it does not. */
void check_inside(const MemoryBlock *block, const void *address, size_t bytes, const char *who);

/* ---- runtime.cc ---- */

/* What the call returns; it is the error that cudaGetLastError tells, unless it is none. */
cudaError_t returns(cudaError_t error);
/* The error that the environment wants of this call. */
cudaError_t wanted_error(const char *call);
int current_device(void);
size_t device_bytes(void);

#endif
