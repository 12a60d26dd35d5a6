/* Ranks of one machine meet in memory that all of them have mapped.
 *
 * A group has a place in it: two slots for each rank, used in turn, and a count of the ranks that have posted the
 * round. The last one to post opens the next round and rings the others. Two slots are enough: a rank writes round
 * k + 2 after everyone posted round k + 1, which each did after reading round k. Messages go through a ring of bytes for
 * each pair that speaks. */
#include "common/comm/group.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHANNEL_BYTES = 2 << 20, /* of messages from one rank to another that can wait for their recv */
    PIECE_BYTES = 32 << 10   /* of a message, after which the other side may go on: whole lines */
};

static int64_t round_up(int64_t bytes, int64_t unit) { return ceil_div(bytes, unit) * unit; }

/* ---- a group's place ---- */

typedef struct {
    _Atomic uint32_t posted; /* ranks that have posted the round */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t round;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t left; /* ranks that have closed the group */
    _Alignas(
        CACHE_LINE_BYTES) _Atomic int64_t channels[]; /* (n, n): the place for messages from each to each */
} Meeting;

typedef struct SharedGroup {
    Meeting *place;
    int64_t offset;
    int *seats; /* of the members */
    uint32_t round;
} Shared;

static int64_t headers_offset(int64_t n) {
    return round_up((int64_t)sizeof(Meeting) + n * n * (int64_t)sizeof(int64_t), CACHE_LINE_BYTES);
}

static int64_t slots_offset(int64_t n) {
    return round_up(headers_offset(n) + 2 * n * CACHE_LINE_BYTES, 4096);
}

static int64_t slot_stride(int64_t n) {
    return SLOT_BYTES + round_up(SLOT_BYTES / n + CACHE_LINE_BYTES, CACHE_LINE_BYTES);
}

static int64_t shared_bytes(int64_t n) { return slots_offset(n) + 2 * n * slot_stride(n); }

static CommHeader *header_at(const Group *g, uint32_t round, int rank) {
    int64_t n = g->comm.size, line = (int64_t)(round % 2) * n + rank;
    return memory_at(g->shared->offset + headers_offset(n) + line * CACHE_LINE_BYTES);
}

static char *slot_at(const Group *g, uint32_t round, int rank) {
    int64_t n = g->comm.size, slot = (int64_t)(round % 2) * n + rank;
    return memory_at(g->shared->offset + slots_offset(n) + slot * slot_stride(n));
}

int64_t shared_place(int n) { return memory_take(shared_bytes(n), headers_offset(n)); }

void shared_join(Group *g, int64_t place, const int *seats) {
    size_t bytes = (size_t)g->comm.size * sizeof *seats;
    g->transport = &transport_shared;
    g->shared = xcalloc(1, sizeof *g->shared);
    *g->shared = (Shared){.place = memory_at(place), .offset = place, .seats = xmalloc(bytes)};
    memcpy(g->shared->seats, seats, bytes);
    comm_hold(&g->comm, shared_held(g->comm.size));
}

int64_t shared_held(int n) { return 2 * slot_stride(n); }

/* ---- rounds: `round` is the one that this rank posts next ---- */

static char *shared_slot(Group *g) { return slot_at(g, g->shared->round, g->comm.rank); }

static void shared_post(Group *g, const GroupRequest *request) {
    Shared *s = g->shared;
    uint32_t n = (uint32_t)g->comm.size;
    *header_at(g, s->round, g->comm.rank) = request_header(request);
    uint32_t round = s->round++;
    if (atomic_fetch_add(&s->place->posted, 1) + 1 < n) return;
    atomic_store(&s->place->posted, 0);
    atomic_store(&s->place->round, round + 1);
    for (int r = 0; r < g->comm.size; r++)
        if (r != g->comm.rank) bell_ring(s->seats[r]);
}

static bool shared_arrived(Group *g) { return atomic_load(&g->shared->place->round) == g->shared->round; }

static CommHeader shared_header(const Group *g, int rank) {
    return *header_at(g, g->shared->round - 1, rank);
}

static const char *shared_read(Group *g, int writer, const Span spans[SLOT_PARTS], SlotPart part) {
    return slot_at(g, g->shared->round - 1, writer) + spans[part].offset;
}

/* ---- messages: a ring of bytes from one rank to another ----
 *
 * A message is a line with its header, then its bytes in pieces, the last one filled up to a whole line. The first piece
 * goes with the header. Pieces are short: while one is taken out, the next one is laid in. */

typedef struct {
    _Alignas(CACHE_LINE_BYTES) _Atomic uint64_t sent, sender_waits;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint64_t received, receiver_waits;
    _Alignas(CACHE_LINE_BYTES) char bytes[CHANNEL_BYTES];
} Channel;

int64_t shared_channel_held(void) { return sizeof(Channel); }

/* NULL: the sender has not made it yet. */
static Channel *channel(Group *g, int from, int to) {
    _Atomic int64_t *place = &g->shared->place->channels[from * g->comm.size + to];
    int64_t offset = atomic_load(place);
    if (!offset && from == g->comm.rank) {
        offset = memory_take(sizeof(Channel), sizeof(Channel) - CHANNEL_BYTES);
        CHECK(offset, "close groups that are not needed",
              "no shared memory left for messages from rank %d to rank %d of group '%s'", from, to,
              g->comm.name);
        comm_hold(&g->comm, shared_channel_held());
        Channel *new = memory_at(offset);
        atomic_store(&new->receiver_waits, 1); /* it may have looked for the channel already */
        atomic_store(place, offset);
    }
    return offset ? memory_at(offset) : NULL;
}

static void put(Channel *c, uint64_t to, const void *from, int64_t count) {
    if (count == 0) return;
    int64_t begin = (int64_t)(to % CHANNEL_BYTES), straight = min64(count, CHANNEL_BYTES - begin);
    memcpy(c->bytes + begin, from, (size_t)straight);
    if (count > straight) memcpy(c->bytes, (const char *)from + straight, (size_t)(count - straight));
}

static void get(Channel *c, uint64_t from, void *to, int64_t count) {
    if (count == 0) return;
    int64_t begin = (int64_t)(from % CHANNEL_BYTES), straight = min64(count, CHANNEL_BYTES - begin);
    memcpy(to, c->bytes + begin, (size_t)straight);
    if (count > straight) memcpy((char *)to + straight, c->bytes, (size_t)(count - straight));
}

static int64_t room(Channel *c) {
    return CHANNEL_BYTES - (int64_t)(atomic_load(&c->sent) - atomic_load(&c->received));
}

/* `want` bytes of room in the channel, or, with less, false: the other side will ring. */
static bool have_room(Channel *c, int64_t want) {
    if (room(c) >= want) return true;
    atomic_store(&c->sender_waits, 1);
    return room(c) >= want;
}

static bool have_bytes(Channel *c, int64_t want) {
    if (CHANNEL_BYTES - room(c) >= want) return true;
    atomic_store(&c->receiver_waits, 1);
    return CHANNEL_BYTES - room(c) >= want;
}

static void sent(Group *g, Channel *c, int64_t count, int to) {
    atomic_fetch_add(&c->sent, (uint64_t)count);
    if (atomic_load(&c->receiver_waits) && atomic_exchange(&c->receiver_waits, 0))
        bell_ring(g->shared->seats[to]);
}

static void received(Group *g, Channel *c, int64_t count, int from) {
    atomic_fetch_add(&c->received, (uint64_t)count);
    if (atomic_load(&c->sender_waits) && atomic_exchange(&c->sender_waits, 0))
        bell_ring(g->shared->seats[from]);
}

/* The next piece of a message: its bytes, those of the header before it, and what both take of the ring. */
typedef struct {
    int64_t bytes, header, whole;
} Piece;

static Piece next_piece(const GroupRequest *request) {
    int64_t total = request->call.count * element_bytes(request->call.type);
    Piece p = {.bytes = min64(PIECE_BYTES, total - max64(request->moved, 0)),
               .header = request->moved < 0 ? CACHE_LINE_BYTES : 0};
    p.whole = p.header + round_up(p.bytes, CACHE_LINE_BYTES);
    return p;
}

static void piece_moved(GroupRequest *request, Piece piece) {
    request->moved = max64(request->moved, 0) + piece.bytes;
    request->done = request->moved == request->call.count * element_bytes(request->call.type);
}

static bool move_send(Group *g, GroupRequest *request) {
    const CommCall *call = &request->call;
    Channel *c = channel(g, g->comm.rank, call->peer);
    bool moved = false;
    while (!request->done) {
        Piece piece = next_piece(request);
        if (!have_room(c, piece.whole)) break;
        uint64_t at = atomic_load(&c->sent);
        if (piece.header) {
            CommHeader header = request_header(request);
            put(c, at, &header, sizeof header);
        }
        put(c, at + (uint64_t)piece.header, (const char *)call->in + max64(request->moved, 0), piece.bytes);
        sent(g, c, piece.whole, call->peer);
        piece_moved(request, piece);
        moved = true;
    }
    return moved;
}

static bool move_recv(Group *g, GroupRequest *request) {
    const CommCall *call = &request->call;
    Channel *c = channel(g, call->peer, g->comm.rank);
    bool moved = false;
    while (c && !request->done) {
        Piece piece = next_piece(request);
        if (!have_bytes(c, piece.header ? piece.header : piece.whole)) break;
        uint64_t at = atomic_load(&c->received);
        if (piece.header) {
            CommHeader header;
            get(c, at, &header, sizeof header);
            check_message(request, header); /* the first piece is there as well */
        }
        get(c, at + (uint64_t)piece.header, (char *)call->out + max64(request->moved, 0), piece.bytes);
        received(g, c, piece.whole, call->peer);
        piece_moved(request, piece);
        moved = true;
    }
    return moved;
}

static bool shared_move(Group *g, GroupRequest *request) {
    return request->call.kind == COMM_SEND ? move_send(g, request) : move_recv(g, request);
}

/* ---- the end ---- */

/* The last one to leave gives the place back. */
static void shared_close(Group *g) {
    Shared *s = g->shared;
    int n = g->comm.size;
    if (atomic_fetch_add(&s->place->left, 1) + 1 == (uint32_t)n) {
        for (int pair = 0; pair < n * n; pair++)
            if (s->place->channels[pair]) memory_give_back(s->place->channels[pair], sizeof(Channel));
        memory_give_back(s->offset, shared_bytes(n));
    }
    free(s->seats);
    free(s);
}

const Transport transport_shared = {
    .slot = shared_slot,
    .post = shared_post,
    .arrived = shared_arrived,
    .header = shared_header,
    .read = shared_read,
    .move = shared_move,
    .close = shared_close,
};
