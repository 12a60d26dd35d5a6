/* MPI carries the bytes, between machines. A round is one message from each rank to each other rank: a header, and
 * what the reader is to have of the slot. A send goes as messages of at most PIECE_BYTES, each with the header again.
 * Nothing here waits: whoever waits asks again. */
#include "common/comm/group.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 64 << 20 };

typedef struct MessageGroup {
    int id;
    char *slot, *received; /* received: a header and the parts, for each writer */
    int64_t stride;
    CommHeader header;     /* of the round under way */
    MPI_Request *requests; /* one recv and one send for each other rank */
    MPI_Status *statuses;
    int request_count;
} Messages;

static int tag_of(const Group *g, bool round) { return 2 * g->by_message->id + round; }

int messages_max_id(void) {
    int *limit, found;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found);
    return found ? *limit / 2 : 32767 / 2; /* what every MPI allows */
}

void messages_join(Group *g, int id) {
    int n = g->comm.size;
    Messages *m = xcalloc(1, sizeof *m);
    *m = (Messages){.id = id,
                    .slot = xmalloc((size_t)messages_slot_bytes(n)),
                    .stride = messages_stride(n),
                    .requests = xcalloc(2 * (size_t)n, sizeof *m->requests),
                    .statuses = xcalloc(2 * (size_t)n, sizeof *m->statuses)};
    m->received = xmalloc((size_t)(n * m->stride));
    g->transport = &transport_messages;
    g->by_message = m;
    comm_hold(&g->comm, messages_held(n));
}

/* Begins to send a header and up to two pieces of memory as one message, without copying them together. */
static void send_pieces(const CommHeader *header, const char *const *data, const int64_t *bytes, int to,
                        int tag, MPI_Request *request) {
    int lengths[3] = {sizeof *header}, count = 1;
    MPI_Aint addresses[3];
    MPI_Get_address(header, &addresses[0]);
    for (int i = 0; i < 2; i++)
        if (bytes[i]) {
            lengths[count] = (int)bytes[i];
            MPI_Get_address(data[i], &addresses[count++]);
        }
    MPI_Datatype type;
    MPI_Type_create_hindexed(count, lengths, addresses, MPI_BYTE, &type);
    MPI_Type_commit(&type);
    MPI_Isend(MPI_BOTTOM, 1, type, to, tag, MPI_COMM_WORLD, request);
    MPI_Type_free(&type); /* when the message has gone */
}

/* ---- rounds ---- */

static char *messages_slot(Group *g) { return g->by_message->slot; }

static void messages_post(Group *g, const GroupRequest *request) {
    Messages *m = g->by_message;
    int n = g->comm.size, rank = g->comm.rank;
    m->header = request_header(request);
    m->request_count = 0;
    for (int k = 1; k < n; k++) { /* each begins with its neighbours, so that not all send to one at a time */
        int from = (rank + n - k) % n;
        MPI_Irecv(m->received + from * m->stride, (int)m->stride, MPI_BYTE, g->comm.world_rank[from],
                  tag_of(g, true), MPI_COMM_WORLD, &m->requests[m->request_count++]);
    }
    for (int k = 1; k < n; k++) {
        int to = (rank + k) % n;
        Span spans[SLOT_PARTS];
        rounds_spans(&request->call, n, request->round, rank, to, spans);
        const char *data[SLOT_PARTS];
        int64_t bytes[SLOT_PARTS];
        for (int part = 0; part < SLOT_PARTS; part++) {
            data[part] = m->slot + spans[part].offset;
            bytes[part] = spans[part].bytes;
        }
        send_pieces(&m->header, data, bytes, g->comm.world_rank[to], tag_of(g, true),
                    &m->requests[m->request_count++]);
    }
}

static bool messages_arrived(Group *g) {
    Messages *m = g->by_message;
    int all;
    MPI_Testall(m->request_count, m->requests, &all, m->statuses);
    return all;
}

static CommHeader messages_header(const Group *g, int rank) {
    const Messages *m = g->by_message;
    CommHeader header = m->header;
    if (rank != g->comm.rank) memcpy(&header, m->received + rank * m->stride, sizeof header);
    return header;
}

static const char *messages_read(Group *g, int writer, const Span spans[SLOT_PARTS], SlotPart part) {
    Messages *m = g->by_message;
    if (writer == g->comm.rank) return m->slot + spans[part].offset;
    const char *parts = m->received + writer * m->stride + sizeof(CommHeader);
    return part == SLOT_INPUT ? parts : parts + spans[SLOT_INPUT].bytes;
}

/* ---- messages ---- */

typedef struct {
    MPI_Request mpi;
    CommHeader header;
    int64_t piece; /* bytes under way */
} Move;

static int64_t next_piece(const GroupRequest *request) {
    int64_t total = request->call.count * element_bytes(request->call.type);
    return min64(PIECE_BYTES, total - max64(request->moved, 0));
}

/* Begins to send the next piece. */
static void begin_send(Group *g, const GroupRequest *request, Move *move) {
    int to = g->comm.world_rank[request->call.peer];
    const char *data[2] = {(const char *)request->call.in + max64(request->moved, 0)};
    int64_t bytes[2] = {next_piece(request)};
    move->header = request_header(request);
    move->piece = bytes[0];
    send_pieces(&move->header, data, bytes, to, tag_of(g, false), &move->mpi);
}

/* Begins to receive the next piece, when it is there. */
static void begin_recv(Group *g, GroupRequest *request, Move *move) {
    int from = g->comm.world_rank[request->call.peer], there, bytes;
    MPI_Message message;
    MPI_Status status;
    MPI_Improbe(from, tag_of(g, false), MPI_COMM_WORLD, &there, &message, &status);
    if (!there) return;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    move->piece = next_piece(request);
    if (bytes != (int64_t)sizeof(CommHeader) + move->piece) { /* its header says what it is instead */
        char *other = xmalloc((size_t)bytes);
        MPI_Mrecv(other, bytes, MPI_BYTE, &message, MPI_STATUS_IGNORE);
        memcpy(&move->header, other, sizeof move->header);
        free(other);
        check_message(request, move->header);
    }
    int lengths[2] = {sizeof move->header, (int)move->piece};
    MPI_Aint addresses[2];
    MPI_Get_address(&move->header, &addresses[0]);
    MPI_Get_address((char *)request->call.out + max64(request->moved, 0), &addresses[1]);
    MPI_Datatype type;
    MPI_Type_create_hindexed(2, lengths, addresses, MPI_BYTE, &type);
    MPI_Type_commit(&type);
    MPI_Imrecv(MPI_BOTTOM, 1, type, &message, &move->mpi);
    MPI_Type_free(&type);
}

static bool messages_move(Group *g, GroupRequest *request) {
    if (!request->handle) {
        request->handle = xcalloc(1, sizeof(Move));
        ((Move *)request->handle)->mpi = MPI_REQUEST_NULL;
    }
    Move *move = request->handle;
    bool moved = false;
    for (;;) {
        if (move->mpi == MPI_REQUEST_NULL) {
            if (request->call.kind == COMM_SEND)
                begin_send(g, request, move);
            else
                begin_recv(g, request, move);
            if (move->mpi == MPI_REQUEST_NULL) return moved;
            moved = true;
        }
        int done;
        MPI_Test(&move->mpi, &done, MPI_STATUS_IGNORE);
        if (!done) return moved;
        if (request->call.kind == COMM_RECV) check_message(request, move->header);
        request->moved = max64(request->moved, 0) + move->piece;
        if (next_piece(request) == 0) {
            request->done = true;
            return true;
        }
    }
}

static void messages_close(Group *g) {
    Messages *m = g->by_message;
    free(m->slot);
    free(m->received);
    free(m->requests);
    free(m->statuses);
    free(m);
}

const Transport transport_messages = {
    .slot = messages_slot,
    .post = messages_post,
    .arrived = messages_arrived,
    .header = messages_header,
    .read = messages_read,
    .move = messages_move,
    .close = messages_close,
};
