/* group: the inside of the mpi backend. A group's collectives are made of rounds (rounds.c). In a round every
 * rank lays bytes into its slot, posts it, and when all have posted reads its part of the others' slots. Two transports
 * know how: ranks of one machine share memory (shared.c); otherwise MPI carries messages (messages.c).
 * The collectives are written once, so that both give the same bits. */
#ifndef COMM_GROUP_H
#define COMM_GROUP_H

#include "common/base/platform.h"
#include "common/comm/comm.h"

enum { CACHE_LINE_BYTES = 64 };

/* A slot holds so many bytes of one round and, behind them, this rank's slice of the sums of the round before. The
 * larger, the fewer times all have to meet; at 1 MB that costs little, and two slots of each of a few ranks still fit a
 * last-level cache. */
enum { SLOT_BYTES = 1 << 20 };

/* What goes ahead of every call's bytes, so that calls that do not match are found. */
typedef struct {
    int64_t
        number; /* of the call: collectives of a group are counted, and messages from one rank to another */
    int64_t count;
    int32_t kind, type, reduction, peer;
    double ready; /* as its rank gave it to start */
} CommHeader;

typedef struct Group Group;
typedef struct GroupRequest GroupRequest;

struct GroupRequest {
    GroupRequest *next;
    Group *group;
    CommCall call;
    int64_t number;
    int64_t round; /* of a collective: the one it is in */
    bool posted;   /* ... and whether this rank has posted it */
    double ready;  /* its own, and in the end the latest that counts (CommArrival) */
    int64_t moved; /* of a message: bytes that have left, or come; -1 before its header has */
    bool done;
    void *handle; /* for messages.c, which keeps it with the request */
};

/* A piece of a slot. */
typedef struct {
    int64_t offset, bytes;
} Span;
typedef enum { SLOT_INPUT, SLOT_RESULT, SLOT_PARTS } SlotPart;

typedef struct {
    /* the slot for this rank's next round */
    char *(*slot)(Group *g);
    /* gives the slot to the others */
    void (*post)(Group *g, const GroupRequest *request);
    /* has everyone posted this round? Then its slots can be read until this rank posts the next. */
    bool (*arrived)(Group *g);
    CommHeader (*header)(const Group *g, int rank);
    /* the part of the slot of `writer` that this rank is to read in the round that has arrived */
    const char *(*read)(Group *g, int writer, const Span spans[SLOT_PARTS], SlotPart part);
    /* a send or recv goes as far as it can: true when that was any way */
    bool (*move)(Group *g, GroupRequest *request);
    void (*close)(Group *g);
} Transport;

struct Group {
    Comm comm; /* comes first: a Comm of this backend is a Group */
    const Transport *transport;
    int64_t calls, *sent, *received;              /* how many collectives; messages to and from each member */
    const void **rows;                            /* scratch: two for each member */
    GroupRequest *collectives, **collectives_end; /* under way, in order: one is in its rounds at a time */
    GroupRequest *messages, **messages_end;
    Group *next; /* all groups of this process */

    struct SharedGroup *shared;      /* of shared.c */
    struct MessageGroup *by_message; /* of messages.c */
};

/* ---- rounds.c ---- */

/* What every rank of the job knows, as world.c found it. */
typedef struct {
    int rank, size;
    int *machine; /* of each rank: the lowest rank that shares memory with it */
    int *seat;    /* of each rank: its number among those */
} World;
extern World world;

CommHeader request_header(const GroupRequest *request);
/* A recv has got this header: ends the program when its sender sends something else. Takes over when that was ready. */
void check_message(GroupRequest *request, CommHeader header);

/* Goes on with a collective as far as it can: true when that was any way. */
bool rounds_advance(GroupRequest *request);
/* What `reader` reads of the slot of `writer` in a round of a group of n. */
void rounds_spans(const CommCall *call, int n, int64_t round, int writer, int reader, Span spans[SLOT_PARTS]);

/* ---- memory.c: the memory that the ranks of one machine share ---- */

#define MEMORY_HINT "start fewer ranks, or end programs that hold memory"
/* Makes some, for up to `ranks` ranks, which find it at `path`. Gives its file, or -1 and errno. */
int memory_new(int64_t bytes, int ranks, MemoryPath *path);
/* Takes it into use. `ranks` ranks do; this one has number `seat`, and number 0 must have before anyone takes a place.
 * spin: each has a core, so that one who waits may keep his for a moment. */
void memory_open(int file, int64_t bytes, int seat, int ranks, bool spin);
void memory_close(void);
/* A place in it, which means the same to all of them, of this size; the first `clear` bytes are zeros. 0: no
 * place is left. Ends the program when the machine has no memory for it. */
int64_t memory_take(int64_t bytes, int64_t clear);
void memory_give_back(int64_t place, int64_t bytes);
void *memory_at(int64_t place);

/* Others ring this rank when they have done something that it may wait for. Whoever waits reads the bell, looks for
 * something to do, and when there was nothing sleeps until it rings (or the time is up). */
uint32_t bell_read(void);
void bell_sleep(uint32_t bell, double seconds);
void bell_ring(int seat);

/* ---- shared.c ---- */

extern const Transport transport_shared;
/* A place for a group of n, 0 when none is left. One member asks for it, tells the others, and all join. seats: of
 * the members. */
int64_t shared_place(int n);
void shared_join(Group *g, int64_t place, const int *seats);
/* Bytes that each rank of a group of n holds from then on, and for each rank that it sends to. */
int64_t shared_held(int n);
int64_t shared_channel_held(void);

/* ---- messages.c: MPI between any two ranks ---- */

extern const Transport transport_messages;
/* id: of the group, 1 or more, the same for all members and no other group of theirs; at most messages_max_id */
void messages_join(Group *g, int id);
/* Of a round: what a rank lays out for the others, and what it gets from each, behind a header. */
static inline int64_t messages_slot_bytes(int n) { return SLOT_BYTES + SLOT_BYTES / n + CACHE_LINE_BYTES; }
static inline int64_t messages_stride(int n) { return messages_slot_bytes(n) + (int64_t)sizeof(CommHeader); }
/* Bytes that each rank of a group of n holds. */
static inline int64_t messages_held(int n) { return messages_slot_bytes(n) + n * messages_stride(n); }
int messages_max_id(void);

/* ---- stall.c ---- */

/* For a rank that has waited for a while: ends the program when every rank waits, for ever. moves: how often a call of
 * this rank has gone on. */
void stall_look(int64_t moves, const GroupRequest *waits_for);
/* Rank 0, which asks, is on this machine: its questions ring this rank's bell. */
bool stall_rings(void);
/* When all end well: nobody leaves a question, or an answer, on its way. */
void stall_close(void);

/* ---- mpi.c ---- */

/* What goes on while this rank waits for calls, NULL: nothing else; true: there is something that rings no bell. */
extern bool (*group_meanwhile)(void);

/* The group of all: `place` in shared memory, or 0. closed: is called when it has been closed, the last of all groups. */
Group *group_of_all(int64_t place, void (*closed)(void));

#endif
