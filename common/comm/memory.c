/* The memory that ranks of one machine share, and the bells by which they wake each other. A rank that waits spins for
 * a moment, where the ranks have cores of their own, then sleeps. */
#define _GNU_SOURCE
#include "common/comm/group.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZES = 1024, PAGE_BYTES = 4096 };
static const double SPIN_SECONDS = 50e-6;

typedef struct {
    _Alignas(2 * CACHE_LINE_BYTES) _Atomic uint32_t bell;
    _Atomic uint32_t asleep;
} Seat;

typedef struct {
    _Atomic uint64_t said; /* the words of the first error */
    _Atomic uint32_t lock;
    int64_t next; /* where nothing has been taken yet */
    struct {
        int64_t bytes,
            free; /* free: a place of this size that was given back, and holds the next such; 0: none */
    } sizes[SIZES];
    Seat seats[];
} Memory;

static Memory *memory;
static int64_t memory_bytes;
static int memory_file;
static int own_seat;
static bool may_spin;

void *memory_at(int64_t place) { return (char *)memory + place; }

/* Ranks that fail alike, each for itself, need one voice. */
static bool first_to_say(uint64_t words) {
    uint64_t nothing = 0;
    return atomic_compare_exchange_strong(&memory->said, &nothing, words) || nothing != words;
}

static int64_t head_bytes(int ranks) {
    int64_t head = (int64_t)(sizeof(Memory) + (size_t)ranks * sizeof(Seat));
    return ceil_div(head, PAGE_BYTES) * PAGE_BYTES;
}

int memory_new(int64_t bytes, int ranks, MemoryPath *path) {
    int file = platform_memory_new(bytes, path);
    if (file < 0) return -1;
    errno = platform_memory_reserve(file, 0, head_bytes(ranks));
    return errno ? -1 : file;
}

void memory_open(int file, int64_t bytes, int seat, int ranks, bool spin) {
    memory_file = file;
    memory_bytes = bytes;
    own_seat = seat;
    may_spin = spin;
    memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(memory != MAP_FAILED, "start fewer ranks, or raise `ulimit -v`",
          "cannot map the memory that ranks of one machine share: %s", strerror(errno));
    base_errors_said_once(first_to_say);
    if (seat == 0) memory->next = head_bytes(ranks);
}

void memory_close(void) {
    base_errors_said_once(NULL);
    munmap(memory, (size_t)memory_bytes);
    close(memory_file);
}

static void lock(void) {
    while (atomic_exchange(&memory->lock, 1)) sched_yield();
}

static void unlock(void) { atomic_store(&memory->lock, 0); }

/* Where places of this size wait to be taken again. Groups come in few sizes. */
static int64_t *free_places(int64_t bytes) {
    int s = 0;
    while (s < SIZES - 1 && memory->sizes[s].bytes && memory->sizes[s].bytes != bytes) s++;
    ASSERT(s < SIZES - 1);
    memory->sizes[s].bytes = bytes;
    return &memory->sizes[s].free;
}

/* Before anyone touches it: a page that cannot be had later would end the program by a signal (SIGBUS). */
static void reserve(int64_t place, int64_t bytes) {
    int error = platform_memory_reserve(memory_file, place, bytes);
    CHECK(error == 0, MEMORY_HINT, "no %.0f KB left for memory that ranks of one machine share: %s",
          1e-3 * (double)bytes, strerror(error));
}

int64_t memory_take(int64_t bytes, int64_t clear) {
    int64_t stride = ceil_div(bytes, PAGE_BYTES) * PAGE_BYTES;
    lock();
    int64_t *head = free_places(bytes), place = *head;
    bool new = !place && memory->next + stride <= memory_bytes;
    if (place) memcpy(head, memory_at(place), sizeof place);
    if (new) {
        place = memory->next;
        memory->next += stride;
    }
    unlock();
    if (new) reserve(place, stride);
    if (place) memset(memory_at(place), 0, (size_t)clear);
    return place;
}

void memory_give_back(int64_t place, int64_t bytes) {
    lock();
    int64_t *head = free_places(bytes);
    memcpy(memory_at(place), head, sizeof place);
    *head = place;
    unlock();
}

/* ---- bells ---- */

/* The one who rings first does, then rings; the one who sleeps first says so, then looks: one of them sees the other
 * (all of it sequentially consistent). */
void bell_ring(int seat) {
    Seat *s = &memory->seats[seat];
    atomic_fetch_add(&s->bell, 1);
    if (atomic_load(&s->asleep)) platform_wake(&s->bell);
}

uint32_t bell_read(void) { return atomic_load(&memory->seats[own_seat].bell); }

void bell_sleep(uint32_t bell, double seconds) {
    Seat *s = &memory->seats[own_seat];
    if (may_spin) {
        double end = now_seconds() + SPIN_SECONDS;
        do
            for (int i = 0; i < 32; i++) {
                if (atomic_load_explicit(&s->bell, memory_order_acquire) != bell) return;
                platform_pause();
            }
        while (now_seconds() < end);
    }
    atomic_store(&s->asleep, 1);
    if (atomic_load(&s->bell) == bell) platform_sleep_on(&s->bell, bell, seconds);
    atomic_store(&s->asleep, 0);
}
