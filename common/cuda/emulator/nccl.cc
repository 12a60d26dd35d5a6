/* NCCL between processes of one machine. A communicator's members have a memory in common: a slot for each, and a channel from
 * each to each.
 *
 * A call is done piece by piece. In a collective each member lays a piece into its slot; when all have, each takes what it
 * needs of all slots; when all have taken theirs, the next piece follows. A channel holds one piece of a message. A step of a
 * stream (emulator_enqueue) goes as far as the others have come, and is called again. */
#include "common/cuda/emulator/nccl.h"
#include "common/cuda/emulator/streams.h"

extern "C" {
#include "common/base/base.h"
#include "common/base/platform_memory.h"
}

#include <algorithm>
#include <cuda_bf16.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t PIECE = 64 << 10; /* bytes */
static const int MOST_RANKS = 64;

/* ---- what members have in common ---- */

struct Header {
    int kind, type, op, root;
    uint64_t count;
};
struct alignas(64) Slot {
    std::atomic<uint64_t> laid, taken; /* pieces, in all its calls */
    Header header;
    char bytes[PIECE];
};
struct alignas(64) Meeting {
    std::atomic<int> joined, left;
    int device[MOST_RANKS];
};

static size_t slot_at(int rank) { return sizeof(Meeting) + (size_t)rank * sizeof(Slot); }
static size_t channel_at(int ranks, int from, int to) {
    return slot_at(ranks) + ((size_t)from * (size_t)ranks + (size_t)to) * sizeof(Slot);
}

enum State { JOINING, READY, CONNECTING, FINALIZING, FINAL };

struct Call;
struct ncclComm {
    int rank, ranks;
    MemoryPath path;
    int file;
    char *memory; /* what members have in common */
    State state;
    bool connected;
    uint64_t pieces; /* of collectives that are done */
    std::string last_error;
    std::function<void()> held; /* a call that waits until members are connected */

    size_t bytes() const { return channel_at(ranks, ranks, 0); }
    Meeting *meeting() const { return (Meeting *)memory; }
    Slot *slot(int r) const { return (Slot *)(memory + slot_at(r)); }
    Slot *channel(int from, int to) const { return (Slot *)(memory + channel_at(ranks, from, to)); }
};

/* ---- errors ---- */

static const struct {
    ncclResult_t result;
    const char *name, *text;
} results[] = {
#define RESULT(name, text)                                                                                   \
    { name, #name, text }
    RESULT(ncclSuccess, "no error"),
    RESULT(ncclUnhandledCudaError, "unhandled cuda error (run with NCCL_DEBUG=INFO for details)"),
    RESULT(ncclSystemError, "unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    RESULT(ncclInternalError, "internal error - please report this issue to the NCCL developers"),
    RESULT(ncclInvalidArgument, "invalid argument (run with NCCL_DEBUG=WARN for details)"),
    RESULT(ncclInvalidUsage, "invalid usage (run with NCCL_DEBUG=WARN for details)"),
    RESULT(ncclRemoteError, "remote process exited or there was a network error"),
    RESULT(ncclInProgress, "NCCL operation in progress"),
};

static ncclResult_t wanted(const char *call) {
    const char *text = getenv("SHARD_EMULATOR_ERROR");
    size_t length = strlen(call);
    if (!text || strncmp(text, call, length) || text[length] != '=') return ncclSuccess;
    for (auto &r : results)
        if (!strcmp(r.name, text + length + 1)) return r.result;
    return ncclInternalError;
}

static ncclResult_t refused(ncclComm_t comm, ncclResult_t result, const char *why) {
    comm->last_error = why;
    return result;
}

/* ---- calls ---- */

enum Kind { ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, BROADCAST, SEND, RECV };
static const char *const names[] = {"ncclAllReduce", "ncclAllGather", "ncclReduceScatter",
                                    "ncclBroadcast", "ncclSend",      "ncclRecv"};

static size_t bytes_of(int type) { return type == ncclFloat64 ? 8 : type == ncclBfloat16 ? 2 : 4; }

static std::string text_of(const Header &h) {
    char text[128];
    snprintf(text, sizeof text, "%s of %llu elements of type %d", names[h.kind], (unsigned long long)h.count,
             h.type);
    std::string all = text;
    if (h.kind == ALL_REDUCE || h.kind == REDUCE_SCATTER) all += h.op == ncclSum ? ", sum" : ", max";
    if (h.kind == BROADCAST) all += ", root " + std::to_string(h.root);
    return all;
}

/* y = y + x or max(y, x), where a NaN stays one */
template <class T> static void combine(T *y, const T *x, size_t count, int op) {
    for (size_t i = 0; i < count; i++)
        y[i] = op == ncclSum ? (T)(y[i] + x[i]) : y[i] > x[i] || y[i] != y[i] ? y[i] : x[i];
}

/* out (count) = the sum, or maximum, of rows (ranks, count) in their order; that of bf16 is rounded once */
static void reduce(const std::vector<const char *> &rows, char *out, size_t count, int type, int op) {
    if (type == ncclBfloat16) {
        std::vector<float> y(count), x(count);
        for (size_t r = 0; r < rows.size(); r++) {
            for (size_t i = 0; i < count; i++)
                (r ? x : y)[i] = __bfloat162float(((const __nv_bfloat16 *)rows[r])[i]);
            if (r) combine(y.data(), x.data(), count, op);
        }
        for (size_t i = 0; i < count; i++) ((__nv_bfloat16 *)out)[i] = __float2bfloat16(y[i]);
        return;
    }
    memcpy(out, rows[0], count * bytes_of(type));
    for (size_t r = 1; r < rows.size(); r++)
        if (type == ncclFloat32)
            combine((float *)out, (const float *)rows[r], count, op);
        else if (type == ncclFloat64)
            combine((double *)out, (const double *)rows[r], count, op);
        else if (op == ncclSum) /* they wrap around */
            combine((uint32_t *)out, (const uint32_t *)rows[r], count, op);
        else
            combine((int32_t *)out, (const int32_t *)rows[r], count, op);
}

struct Call {
    ncclComm_t comm;
    Header header;
    const void *in_address;
    void *out_address;
    int peer;

    bool begun = false, laid = false, done = false;
    const char *in = NULL;
    char *out = NULL;
    uint64_t piece = 0;

    size_t in_bytes() const {
        return header.count * bytes_of(header.type) *
               (header.kind == REDUCE_SCATTER ? (size_t)comm->ranks : 1);
    }
    size_t out_bytes() const {
        return header.count * bytes_of(header.type) * (header.kind == ALL_GATHER ? (size_t)comm->ranks : 1);
    }

    /* The memory that it touches is looked at once, when its turn comes. */
    void begin() {
        begun = true;
        const char *who = names[header.kind];
        bool reads = header.kind != RECV && !(header.kind == BROADCAST && comm->rank != header.root);
        bool writes = header.kind != SEND &&
                      !(header.kind == BROADCAST && comm->rank == header.root && in_address == out_address);
        if (!header.count) return;
        if (reads) in = (const char *)emulator_reads(in_address, in_bytes(), who);
        if (writes) out = (char *)emulator_writes(out_address, out_bytes(), who);
    }

    /* Of a piece: its first element, and how many there are. */
    size_t most() const {
        return PIECE / bytes_of(header.type) / (header.kind == REDUCE_SCATTER ? (size_t)comm->ranks : 1);
    }
    size_t first() const { return piece * most(); }
    size_t count() const { return std::min(most(), (size_t)header.count - first()); }
    bool is_last() const { return (piece + 1) * most() >= header.count; }

    bool step() {
        if (!begun) begin();
        while (!done && (header.kind == SEND ? send() : header.kind == RECV ? receive() : collective()))
            continue;
        return done;
    }

    void next() {
        laid = false;
        done = is_last();
        piece++;
    }

    /* -- a piece of a collective; false: others have not come so far -- */
    bool collective() {
        uint64_t number = comm->pieces + piece;
        for (int r = 0; r < comm->ranks; r++)
            if (laid ? comm->slot(r)->laid <= number : comm->slot(r)->taken < number) return false;
        Slot *own = comm->slot(comm->rank);
        if (!laid) {
            lay(own);
            own->laid = number + 1;
            return laid = true;
        }
        if (piece == 0) compare();
        take();
        own->taken = number + 1;
        next();
        if (done) comm->pieces = number + 1;
        return true;
    }

    void lay(Slot *own) {
        size_t e = bytes_of(header.type), n = count();
        own->header = header;
        if (!n || !in) return;
        if (header.kind == REDUCE_SCATTER)
            for (int r = 0; r < comm->ranks; r++)
                memcpy(own->bytes + (size_t)r * n * e, in + ((size_t)r * header.count + first()) * e, n * e);
        else
            memcpy(own->bytes, in + first() * e, n * e);
    }

    void take() {
        size_t e = bytes_of(header.type), n = count();
        if (!n || !out) return;
        std::vector<const char *> rows;
        size_t own = header.kind == REDUCE_SCATTER ? (size_t)comm->rank * n * e : 0;
        for (int r = 0; r < comm->ranks; r++) rows.push_back(comm->slot(r)->bytes + own);
        if (header.kind == BROADCAST)
            memcpy(out + first() * e, rows[(size_t)header.root], n * e);
        else if (header.kind == ALL_GATHER)
            for (size_t r = 0; r < rows.size(); r++)
                memcpy(out + (r * header.count + first()) * e, rows[r], n * e);
        else
            reduce(rows, out + first() * e, n, header.type, header.op);
    }

    /* NCCL would hang, or give wrong numbers. */
    void compare() const {
        for (int r = 0; r < comm->ranks; r++) differ(comm->slot(r)->header, r);
    }
    void differ(const Header &h, int other) const {
        bool message = header.kind == SEND || header.kind == RECV;
        if (h.count == header.count && h.type == header.type &&
            (message || (h.kind == header.kind && h.op == header.op && h.root == header.root)))
            return;
        fail(1, "every member of a communicator makes the same calls in the same order",
             "calls of NCCL that do not match: member %d makes %s, member %d %s", comm->rank,
             text_of(header).c_str(), other, text_of(h).c_str());
    }

    /* -- a piece of a message -- */
    bool send() {
        Slot *channel = comm->channel(comm->rank, peer);
        if (channel->laid != channel->taken) return false;
        size_t e = bytes_of(header.type);
        channel->header = header;
        if (count()) memcpy(channel->bytes, in + first() * e, count() * e);
        channel->laid++;
        next();
        return true;
    }

    bool receive() {
        Slot *channel = comm->channel(peer, comm->rank);
        if (channel->laid == channel->taken) return false;
        size_t e = bytes_of(header.type);
        differ(channel->header, peer);
        if (count()) memcpy(out + first() * e, channel->bytes, count() * e);
        channel->taken++;
        next();
        return true;
    }
};

/* ---- to the streams ---- */

/* Between ncclGroupStart and ncclGroupEnd. */
static thread_local int depth;
static thread_local std::vector<Call> group;
static thread_local cudaStream_t group_stream;

/* All of them are one piece of a stream's work: messages to one rank, or from one, in their order, the others side by side. */
static bool step_all(std::vector<Call> &calls) {
    bool all = true;
    for (size_t i = 0; i < calls.size(); i++) {
        bool turn = true;
        for (size_t j = 0; j < i; j++)
            turn &= calls[j].done || calls[j].header.kind != calls[i].header.kind ||
                    calls[j].peer != calls[i].peer;
        if (turn && !calls[i].done) calls[i].step();
        all &= calls[i].done;
    }
    return all;
}

static ncclResult_t launch(ncclComm_t comm, std::vector<Call> calls, cudaStream_t stream) {
    const char *name = names[calls[0].header.kind];
    auto shared = std::make_shared<std::vector<Call>>(std::move(calls));
    auto enqueue = [=] { emulator_enqueue(stream, name, [=] { return step_all(*shared); }); };
    if (comm->connected) return enqueue(), ncclSuccess;
    comm->held = enqueue;
    comm->state = CONNECTING;
    return ncclInProgress;
}

/* In place is where NCCL says so; other ways to write what is read give what they give. */
static bool overlaps(const Call &c) {
    uintptr_t in = (uintptr_t)c.in_address, out = (uintptr_t)c.out_address;
    if (!in || !out || in + c.in_bytes() <= out || out + c.out_bytes() <= in) return false;
    uintptr_t own = (uintptr_t)c.comm->rank * (uintptr_t)std::min(c.in_bytes(), c.out_bytes());
    return c.header.kind == ALL_GATHER       ? in != out + own
           : c.header.kind == REDUCE_SCATTER ? out != in + own
                                             : in != out;
}

static ncclResult_t call(Kind kind, const void *in, void *out, size_t count, ncclDataType_t type,
                         ncclRedOp_t op, int root, int peer, ncclComm_t comm, cudaStream_t stream) {
    if (ncclResult_t result = wanted(names[kind]))
        return refused(comm, result, "as SHARD_EMULATOR_ERROR wants it");
    if (comm->state != READY)
        return refused(comm, ncclInvalidArgument,
                       "Attempt to use communicator before the previous operation returned ncclSuccess");
    if (peer >= comm->ranks || root >= comm->ranks) return refused(comm, ncclInvalidArgument, "no such rank");
    Call c = {comm, {kind, type, op, root, count}, in, out, peer};
    if (overlaps(c)) return refused(comm, ncclInvalidArgument, "what is read is overwritten");
    if (!depth) return launch(comm, {c}, stream);
    if (!group.empty() && (group[0].comm != comm || group_stream != stream))
        return refused(comm, ncclInvalidUsage, "the emulator knows groups of one communicator and stream");
    group.push_back(c);
    group_stream = stream;
    return ncclSuccess;
}

extern "C" {

const char *ncclGetErrorString(ncclResult_t result) {
    for (auto &r : results)
        if (r.result == result) return r.text;
    return "unknown result code";
}
const char *ncclGetLastError(ncclComm_t comm) { return comm ? comm->last_error.c_str() : ""; }
ncclResult_t ncclGetVersion(int *version) {
    *version = 22800;
    return ncclSuccess;
}

/* ---- communicators ---- */

/* Its maker's process holds the memory until all have joined, and longer: it is small. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    if (ncclResult_t result = wanted("ncclGetUniqueId")) return result;
    MemoryPath path;
    memset(id, 0, sizeof *id);
    if (platform_memory_new((int64_t)channel_at(MOST_RANKS, MOST_RANKS, 0), &path) < 0)
        return ncclSystemError;
    memcpy(id->internal, path.text, sizeof path.text);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    if (ncclResult_t result = wanted("ncclCommInitRankConfig")) return result;
    if (ranks < 1 || ranks > MOST_RANKS || rank < 0 || rank >= ranks || config->blocking)
        return ncclInvalidArgument;
    ncclComm_t c = *comm = new ncclComm();
    c->rank = rank;
    c->ranks = ranks;
    c->state = JOINING;
    memcpy(c->path.text, id.internal, sizeof c->path.text);
    c->file = platform_memory_open(&c->path);
    if (c->file < 0) return ncclRemoteError;
    c->memory = (char *)mmap(NULL, c->bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, c->file, 0);
    close(c->file);
    if (c->memory == MAP_FAILED) return ncclSystemError;
    c->meeting()->device[rank] = current_device() + 1;
    c->meeting()->joined++;
    return ncclInProgress;
}

static ncclResult_t state_after_joining(ncclComm_t c) {
    if (c->meeting()->joined < c->ranks) return ncclInProgress;
    for (int r = 0; r < c->ranks; r++)
        if (r != c->rank && c->meeting()->device[r] == c->meeting()->device[c->rank])
            return refused(c, ncclInvalidUsage, "Duplicate GPU detected");
    if (c->rank == 0) platform_memory_unname(&c->path);
    c->state = READY;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = wanted("ncclCommGetAsyncError");
    if (*error) return ncclSuccess;
    if (comm->state == JOINING)
        *error = state_after_joining(comm);
    else if (comm->state == CONNECTING) { /* another look finds that it has */
        *error = comm->connected ? ncclSuccess : ncclInProgress;
        if (comm->connected) {
            comm->held();
            comm->state = READY;
        }
        comm->connected = true;
    } else if (comm->state == FINALIZING) {
        *error = comm->meeting()->left < comm->ranks ? ncclInProgress : ncclSuccess;
        if (!*error) comm->state = FINAL;
    }
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    if (ncclResult_t result = wanted("ncclCommFinalize"))
        return refused(comm, result, "as SHARD_EMULATOR_ERROR wants it");
    streams_wait();
    comm->meeting()->left++;
    comm->state = FINALIZING;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    munmap(comm->memory, comm->bytes());
    delete comm;
    return ncclSuccess;
}

/* ---- collectives and messages ---- */

ncclResult_t ncclAllReduce(const void *in, void *out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
    return call(ALL_REDUCE, in, out, count, type, op, 0, 0, comm, stream);
}
ncclResult_t ncclAllGather(const void *in, void *out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return call(ALL_GATHER, in, out, count, type, ncclSum, 0, 0, comm, stream);
}
ncclResult_t ncclReduceScatter(const void *in, void *out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
    return call(REDUCE_SCATTER, in, out, count, type, op, 0, 0, comm, stream);
}
ncclResult_t ncclBroadcast(const void *in, void *out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    return call(BROADCAST, in, out, count, type, ncclSum, root, 0, comm, stream);
}
ncclResult_t ncclSend(const void *in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return call(SEND, in, NULL, count, type, ncclSum, 0, peer, comm, stream);
}
ncclResult_t ncclRecv(void *out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return call(RECV, NULL, out, count, type, ncclSum, 0, peer, comm, stream);
}
ncclResult_t ncclGroupStart(void) {
    depth++;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    if (--depth || group.empty()) return ncclSuccess;
    ncclComm_t comm = group[0].comm;
    return launch(comm, std::move(group), group_stream);
}
}
