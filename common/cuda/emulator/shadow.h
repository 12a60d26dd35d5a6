/* shadow: who touched each cell of memory last. Two accesses race when neither is known to come before the other: then they
 * are of different threads, no barrier stands between them, or they are of different blocks of a grid.
 *
 * An area begins with cells of 8 bytes; the first access that is finer, or lies across cells, splits all of them. */
#ifndef EMULATOR_SHADOW_H
#define EMULATOR_SHADOW_H

#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

/* An access: 0 is none. Serials count what lies between two barriers, through all blocks and launches; 1 is what others than
 * kernels wrote. Threads from 1024 on stand for several (atomics). */
typedef uint64_t Stamp;
enum { SITE_BITS = 12, TIME_BITS = 14, THREAD_BITS = 11, SERIAL_BITS = 26 };
const uint32_t MOST_SITES = 1u << SITE_BITS, MOST_TIME = 1u << TIME_BITS, MOST_SERIAL = 1u << SERIAL_BITS;
const unsigned WARP_OF_THREADS = 1024, MANY_THREADS = 1056; /* atomics of a warp's lanes; of several warps */
static inline Stamp stamp_new(uint32_t serial, unsigned thread, unsigned time) {
    return ((Stamp)serial << THREAD_BITS | thread) << (TIME_BITS + SITE_BITS + 1) | (Stamp)time << SITE_BITS;
}
const Stamp ATOMIC = (Stamp)1 << (TIME_BITS + SITE_BITS);
static inline unsigned stamp_site(Stamp s) { return s & (MOST_SITES - 1); }
static inline unsigned stamp_time(Stamp s) { return s >> SITE_BITS & (MOST_TIME - 1); }
static inline unsigned stamp_thread(Stamp s) {
    return s >> (TIME_BITS + SITE_BITS + 1) & ((1u << THREAD_BITS) - 1);
}
static inline uint32_t stamp_serial(Stamp s) {
    return (uint32_t)(s >> (TIME_BITS + SITE_BITS + 1 + THREAD_BITS));
}

struct Cell {
    Stamp writer, reader[2]; /* the last one; two of those since, neither before the other */
};

/* What the last launch that touched 256 bytes did with each word of them. */
struct ToldPiece {
    uint32_t launch;
    uint64_t words;
};

struct Area {
    uintptr_t begin;
    size_t bytes;
    std::string name;
    bool shared;
    int shift; /* a cell is 1 << shift bytes */
    Cell *cells;
    std::vector<ToldPiece> told[2]; /* of each 256 bytes: reads, writes */
};

enum AccessKind { READ, WRITE, ATOMIC_ACCESS };

/* An instruction that touches memory. */
struct Site {
    const void *return_address;
    unsigned number; /* below MOST_SITES; 0: one of too many */
    Area *area;      /* the last one that it touched, while `generation` is the current one */
    uint32_t generation;
};

/* Accesses of a warp's lanes, until they can be put side by side: the n-th of each lane at a site are one of the warp. */
struct SiteLog {
    uint16_t rows[32];
    uint16_t bytes;
    bool shared;
    std::vector<uintptr_t> at; /* [lane][row] */
};
struct AccessLog {
    std::vector<SiteLog *> sites; /* by number; NULL: none */
    std::vector<unsigned> used;
};

struct Block;

void area_start(Area *area, uintptr_t begin, size_t bytes, const char *name, bool shared);
/* Nobody has touched it. */
void area_forget(Area *area);
void area_end(Area *area);
/* Makes cells so small that one begins, and one ends, at these offsets. */
void area_split(Area *area, size_t begin, size_t end);
/* What the running thread does to an area, and what is wrong with it. */
void area_access(Block *b, Area *area, size_t offset, size_t bytes, AccessKind kind, const Site *site);

/* memory.cc. Held while a grid runs. */
void memory_lock(void);
void memory_unlock(void);
Area *memory_find(uintptr_t p);
Area *memory_near(uintptr_t p); /* one that ends shortly before it, or begins shortly behind it */
/* Serials begin again: what was written stays so. */
void memory_forget_serials(void);
/* Changes when areas do. */
extern uint32_t area_generation;

/* accesses.cc */
const void *site_address(unsigned number);
void access_seen(Block *b, void *address, size_t bytes, AccessKind kind, const void *return_address);

/* counts.cc */
EmulatorCounts *counts_of(const char *kernel);
void log_access(AccessLog *log, const Site *site, int lane, uintptr_t p, size_t bytes, bool shared);
/* Counts what is in the log, and empties it. */
void log_flush(AccessLog *log, EmulatorCounts *counts);

#endif
