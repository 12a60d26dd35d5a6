/* The collectives, as rounds: who lays what into its slot, who reads which part of it. Long ones go in chunks that
 * fit a slot.
 *
 *   all_gather, broadcast       the slot holds a chunk, which everyone reads (of the root's alone)
 *   reduce_scatter, all_to_all  the slot holds a chunk for each rank; a rank reads its own from every slot
 *   all_reduce, short           everyone reads everything and sums
 *   all_reduce, long            each rank sums its slice of the chunk; in the next round, which brings the next chunk,
 *                               everyone reads the sums
 *   barrier                     a round without bytes
 *
 * Each rank reads, and so sums, in rank order. */
#define _GNU_SOURCE
#include "common/comm/group.h"

#include "common/comm/reduce.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

World world;

/* An all_reduce is short when a rank reads at most this much from all slots: less than a second round costs. */
enum { SHORT_BYTES = 32 << 10 };

typedef struct {
    int64_t first, count; /* elements */
} Chunk;

static int64_t chunk_elements(const CommCall *call, int n) {
    bool for_each = call->kind == COMM_REDUCE_SCATTER || call->kind == COMM_ALL_TO_ALL;
    return max64(1, SLOT_BYTES / (for_each ? n : 1) / element_bytes(call->type));
}

/* Empty before the first chunk and behind the last. */
static Chunk chunk_of(const CommCall *call, int n, int64_t c) {
    int64_t m = chunk_elements(call, n);
    if (c < 0 || c * m >= call->count) return (Chunk){0, 0};
    return (Chunk){c * m, min64(m, call->count - c * m)};
}

static Chunk slice_of(Chunk chunk, int n, int k) {
    int64_t first = chunk.count * k / n;
    return (Chunk){chunk.first + first, chunk.count * (k + 1) / n - first};
}

static bool is_short(const CommCall *call, int n) {
    return call->count * element_bytes(call->type) * n <= SHORT_BYTES;
}

static int64_t rounds_of(const CommCall *call, int n) {
    int64_t chunks = max64(1, ceil_div(call->count, chunk_elements(call, n)));
    return chunks + (call->kind == COMM_ALL_REDUCE && !is_short(call, n));
}

void rounds_spans(const CommCall *call, int n, int64_t round, int writer, int reader,
                  Span spans[SLOT_PARTS]) {
    int64_t e = element_bytes(call->type);
    Chunk chunk = chunk_of(call, n, round);
    spans[SLOT_INPUT] = (Span){0, chunk.count * e};
    spans[SLOT_RESULT] = (Span){SLOT_BYTES, 0};
    switch (call->kind) {
    case COMM_ALL_REDUCE:
        if (is_short(call, n)) break;
        Chunk slice = slice_of(chunk, n, reader);
        spans[SLOT_INPUT] = (Span){(slice.first - chunk.first) * e, slice.count * e};
        spans[SLOT_RESULT].bytes = slice_of(chunk_of(call, n, round - 1), n, writer).count * e;
        break;
    case COMM_REDUCE_SCATTER:
    case COMM_ALL_TO_ALL: spans[SLOT_INPUT].offset = reader * chunk_elements(call, n) * e; break;
    case COMM_BROADCAST:
        if (writer != call->peer) spans[SLOT_INPUT].bytes = 0;
        break;
    default: break;
    }
}

/* ---- one round ---- */

static void copy(void *to, const void *from, int64_t bytes) {
    if (bytes > 0 && to != from) memcpy(to, from, (size_t)bytes);
}

static void write_slot(const GroupRequest *request) {
    Group *g = request->group;
    const CommCall *call = &request->call;
    int n = g->comm.size;
    int64_t e = element_bytes(call->type);
    Chunk chunk = chunk_of(call, n, request->round);
    const char *in = call->in;
    char *slot = g->transport->slot(g);
    switch (call->kind) {
    case COMM_REDUCE_SCATTER:
    case COMM_ALL_TO_ALL:
        for (int r = 0; r < n && chunk.count; r++)
            copy(slot + r * chunk_elements(call, n) * e, in + (r * call->count + chunk.first) * e,
                 chunk.count * e);
        break;
    case COMM_BROADCAST:
        if (g->comm.rank != call->peer) break;
        /* fall through */
    default:
        if (chunk.count) copy(slot, in + chunk.first * e, chunk.count * e);
    }
}

/* rows[r] = what this rank is to read of each slot */
static void read_rows(const GroupRequest *request, SlotPart part, const void **rows) {
    Group *g = request->group;
    for (int r = 0; r < g->comm.size; r++) {
        Span spans[SLOT_PARTS];
        rounds_spans(&request->call, g->comm.size, request->round, r, g->comm.rank, spans);
        rows[r] = g->transport->read(g, r, spans, part);
    }
}

static void read_slots(const GroupRequest *request) {
    Group *g = request->group;
    const CommCall *call = &request->call;
    int n = g->comm.size, rank = g->comm.rank;
    int64_t e = element_bytes(call->type);
    Chunk chunk = chunk_of(call, n, request->round);
    char *out = call->out;
    const void **rows = g->rows, **sums = g->rows + n;
    if (call->count == 0) return;
    read_rows(request, SLOT_INPUT, rows);
    switch (call->kind) {
    case COMM_ALL_REDUCE: {
        if (is_short(call, n)) {
            comm_reduce(call->reduction, call->type, rows, n, out, call->count);
            break;
        }
        Chunk before = chunk_of(call, n, request->round - 1);
        read_rows(request, SLOT_RESULT, sums);
        for (int r = 0; r < n && before.count; r++) {
            Chunk slice = slice_of(before, n, r);
            copy(out + slice.first * e, sums[r], slice.count * e);
        }
        comm_reduce(call->reduction, call->type, rows, n, g->transport->slot(g) + SLOT_BYTES,
                    slice_of(chunk, n, rank).count);
        break;
    }
    case COMM_REDUCE_SCATTER:
        comm_reduce(call->reduction, call->type, rows, n, out + chunk.first * e, chunk.count);
        break;
    case COMM_ALL_GATHER:
    case COMM_ALL_TO_ALL:
        for (int r = 0; r < n; r++) copy(out + (r * call->count + chunk.first) * e, rows[r], chunk.count * e);
        break;
    case COMM_BROADCAST:
        if (rank != call->peer) copy(out + chunk.first * e, rows[call->peer], chunk.count * e);
        break;
    default: break;
    }
}

/* ---- calls that match ---- */

CommHeader request_header(const GroupRequest *request) {
    const CommCall *c = &request->call;
    return (CommHeader){request->number,       c->count, (int32_t)c->kind, (int32_t)c->type,
                        (int32_t)c->reduction, c->peer,  request->ready};
}

_Noreturn static void calls_differ(const Group *g, int a, CommHeader of_a, int b, CommHeader of_b) {
    CommHeader h[2] = {of_a, of_b};
    CommCallText text[2];
    for (int i = 0; i < 2; i++)
        text[i] = comm_call_text(&(CommCall){(CommKind)h[i].kind, (ElementType)h[i].type,
                                             (Reduction)h[i].reduction, h[i].peer, h[i].count, NULL, NULL});
    fail(1, "every rank of a group makes the same calls in the same order",
         "calls that do not match in group '%s': rank %d is in its call %" PRId64
         ", %s; rank %d in its call %" PRId64 ", %s",
         g->comm.name, a, of_a.number, text[0].text, b, of_b.number, text[1].text);
}

static bool headers_match(CommHeader a, CommHeader b) {
    return a.number == b.number && a.count == b.count && a.kind == b.kind && a.type == b.type &&
           a.reduction == b.reduction && a.peer == b.peer;
}

/* When any two differ, someone differs from rank 0, so rank 0 speaks. The others give it time to. */
static void check_headers(GroupRequest *request) {
    const Group *g = request->group;
    CommHeader mine = request_header(request);
    for (int r = 0; r < g->comm.size; r++) {
        CommHeader other = g->transport->header(g, r);
        request->ready = fmax(request->ready, other.ready);
        if (headers_match(mine, other)) continue;
        if (g->comm.rank != 0) sleep(2);
        calls_differ(g, g->comm.rank, mine, r, other);
    }
}

void check_message(GroupRequest *request, CommHeader header) {
    CommHeader mine = request_header(request);
    request->ready = header.ready;
    if (header.count == mine.count && header.type == mine.type && header.number == mine.number) return;
    calls_differ(request->group, request->group->comm.rank, mine, request->call.peer, header);
}

bool rounds_advance(GroupRequest *request) {
    Group *g = request->group;
    bool moved = false;
    while (!request->done) {
        if (!request->posted) {
            write_slot(request);
            g->transport->post(g, request);
            request->posted = moved = true;
        }
        if (!g->transport->arrived(g)) break;
        if (request->round == 0) check_headers(request);
        read_slots(request);
        request->posted = false;
        request->done = ++request->round == rounds_of(&request->call, g->comm.size);
        moved = true;
    }
    return moved;
}
