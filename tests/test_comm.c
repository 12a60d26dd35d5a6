/* Collectives and messages: every kind, type and awkward count, whole groups and parts of them, one after the other
 * and several at once, against values that each rank computes for itself; sums to the bit. The bytes counted, against
 * the formulas. The last line has a hash of all results, which must not depend on how the bytes travelled.
 *
 * TEST np: 3 8, all: 1 2 5
 * TEST variants: float, all: asan */
#include "tests/collectives.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static Comm *world;
static XXH64_hash_t hash;
static int tests; /* numbers them: ranks that test together agree on it */

/* Element i of what rank r gives to test number `test`. Floats of all sizes, so that the order of a sum shows. */
static void element(int test, int r, int64_t i, ElementType type, void *out) {
    uint64_t x = ((uint64_t)test << 48 ^ (uint64_t)r << 36 ^ (uint64_t)i) + 1; /* splitmix64's mixing of it */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    uint64_t size = 1000 + x % 40; /* exponent of a double; the low bits of x serve twice */
    uint64_t bits = (x >> 63) << 63 | size << 52 | (x & 0xfffffffffffff);
    double real_x;
    memcpy(&real_x, &bits, sizeof real_x);
    if (type == TYPE_F32) *(float *)out = (float)real_x;
    if (type == TYPE_F64) *(double *)out = real_x;
    if (type == TYPE_I32) *(int32_t *)out = (int32_t)(uint32_t)x;
}

static void fill(int test, int r, int64_t count, ElementType type, void *out) {
    int64_t e = element_bytes(type);
    for (int64_t i = 0; i < count; i++) element(test, r, i, type, (char *)out + i * e);
}

/* y = y + x or max(y, x) */
static void combine(Reduction reduction, ElementType type, void *y, const void *x) {
    bool sum = reduction == REDUCE_SUM;
    float *yf = y;
    double *yd = y;
    int32_t *yi = y;
    if (type == TYPE_F32) *yf = sum ? *yf + *(const float *)x : fmaxf(*yf, *(const float *)x);
    if (type == TYPE_F64) *yd = sum ? *yd + *(const double *)x : fmax(*yd, *(const double *)x);
    if (type != TYPE_I32) return;
    int32_t xi = *(const int32_t *)x;
    *yi = sum ? (int32_t)((uint32_t)*yi + (uint32_t)xi) : *yi > xi ? *yi : xi;
}

/* What rank `rank` must get in `out`, and how many elements. Members are the ranks 0 .. n-1 of the group, who gave
 * what fill makes for them. */
static int64_t expected(const CommCall *call, int test, int n, int rank, void *out) {
    int64_t count = call->count, e = element_bytes(call->type), at = 0;
    bool rows = call->kind == COMM_ALL_GATHER || call->kind == COMM_ALL_TO_ALL;
    for (int64_t k = 0; k < (rows ? n * count : count); k++, at += e) {
        int64_t i = rows ? k % count : k, own = rank * count + i;
        int r = rows ? (int)(k / count) : 0;
        double term; /* room for one element of any type */
        switch (call->kind) {
        case COMM_ALL_GATHER: element(test, r, i, call->type, (char *)out + at); break;
        case COMM_ALL_TO_ALL: element(test, r, own, call->type, (char *)out + at); break;
        case COMM_BROADCAST: element(test, call->peer, i, call->type, (char *)out + at); break;
        default:
            for (int from = 0; from < n; from++) {
                element(test, from, call->kind == COMM_ALL_REDUCE ? i : own, call->type,
                        from ? (void *)&term : (char *)out + at);
                if (from) combine(call->reduction, call->type, (char *)out + at, &term);
            }
        }
    }
    return rows ? n * count : count;
}

/* A call with memory of its own. */
typedef struct {
    CommCall call;
    int test;
    Comm *comm;
    CommRequest *request;
    void *in, *out, *want;
    int64_t in_count, in_bytes, out_bytes;
} Trial;

static Trial trial_begin(Comm *comm, CommCall call) {
    int n = comm->size;
    int64_t e = element_bytes(call.type);
    bool many_in = call.kind == COMM_REDUCE_SCATTER || call.kind == COMM_ALL_TO_ALL;
    Trial t = {
        .call = call, .test = ++tests, .comm = comm, .in_count = many_in ? n * call.count : call.count};
    t.in_bytes = t.in_count * e;
    t.in = xmalloc((size_t)t.in_bytes);
    t.out = xcalloc((size_t)(n * call.count + 1), (size_t)e);
    t.want = xcalloc((size_t)(n * call.count + 1), (size_t)e);
    t.out_bytes = expected(&call, t.test, n, comm->rank, t.want) * e;
    fill(t.test, comm->rank, t.in_count, call.type, t.in);
    t.call.in = t.in;
    t.call.out = t.out;
    if (call.kind == COMM_BROADCAST) t.call.in = memcpy(t.out, t.in, (size_t)t.in_bytes);
    t.request = comm_start(comm, NULL, t.call);
    return t;
}

/* Did it write what it should, and nothing behind it? */
static bool trial_end(Trial *t) {
    int64_t e = element_bytes(t->call.type);
    comm_wait(t->comm, NULL, t->request);
    bool good =
        memcmp(t->out, t->want,
               (size_t)(t->out_bytes + (t->out_bytes < t->comm->size * t->call.count * e ? e : 0))) == 0;
    hash = XXH64(t->out, (size_t)t->out_bytes, hash);
    free(t->in);
    free(t->out);
    free(t->want);
    return good;
}

static const ElementType types[] = {TYPE_F32, TYPE_F64, TYPE_I32};

/* Around the borders of what is sent whole, in one slot, in several. */
static const int64_t counts[] = {0,    1,    2,     3,     7,     64,    511,   1000,
                                 1025, 4097, 32768, 65535, 65536, 65537, 200003};

static bool trial(Comm *comm, CommCall call) {
    Trial t = trial_begin(comm, call);
    return trial_end(&t);
}

static void all_collectives(Comm *comm) {
    every_collective(comm, types, COUNT_OF(types), counts, COUNT_OF(counts), trial);
}

/* A result in the place of its input. */
static void in_place(Comm *comm) {
    int n = comm->size, rank = comm->rank;
    int64_t count = 70001;
    size_t bytes = (size_t)(n * count) * sizeof(float);
    float *data = xmalloc(bytes), *want = xmalloc(bytes);
    fill(1, rank, count, TYPE_F32, data);
    expected(&(CommCall){.kind = COMM_ALL_REDUCE, .count = count}, 1, n, rank, want);
    comm_all_reduce(comm, NULL, data, data, count, TYPE_F32, REDUCE_SUM);
    ok_on_all(comm, memcmp(data, want, (size_t)count * sizeof(float)) == 0, "all_reduce in place");
    fill(1, rank, count, TYPE_F32, data + rank * count);
    expected(&(CommCall){.kind = COMM_ALL_GATHER, .count = count}, 1, n, rank, want);
    comm_all_gather(comm, NULL, data + rank * count, data, count, TYPE_F32);
    ok_on_all(comm, memcmp(data, want, bytes) == 0, "all_gather in place");
    fill(1, rank, n * count, TYPE_F32, data);
    expected(&(CommCall){.kind = COMM_REDUCE_SCATTER, .count = count}, 1, n, rank, want);
    comm_reduce_scatter(comm, NULL, data, data + rank * count, count, TYPE_F32, REDUCE_SUM);
    ok_on_all(comm, memcmp(data + rank * count, want, (size_t)count * sizeof(float)) == 0,
              "reduce_scatter in place");
    fill(1, rank, n * count, TYPE_F32, data);
    expected(&(CommCall){.kind = COMM_ALL_TO_ALL, .count = count}, 1, n, rank, want);
    comm_all_to_all(comm, NULL, data, data, count, TYPE_F32);
    ok_on_all(comm, memcmp(data, want, bytes) == 0, "all_to_all in place");
    free(data);
    free(want);
}

/* A NaN on one rank reaches all, also through a maximum. */
static void nan_stays(Comm *comm) {
    for (int r = 0; r < comm->size; r++) {
        float x = comm->rank == r ? NAN : (float)comm->rank, sum, max;
        comm_all_reduce(comm, NULL, &x, &sum, 1, TYPE_F32, REDUCE_SUM);
        comm_all_reduce(comm, NULL, &x, &max, 1, TYPE_F32, REDUCE_MAX);
        ok_on_all(comm, isnan(sum) && isnan(max), "a NaN of rank %d stays", r);
    }
}

/* Many calls at once, ended in another order than they were begun; messages among them, a short one behind a long one
 * that has to wait. */
static void in_flight(Comm *comm, Comm *other) {
    enum { CALLS = 12, LONG = 1500000, SHORT = 10 }; /* LONG: more than waits anywhere for its recv */
    Trial trials[CALLS];
    int n = comm->size, next = (comm->rank + 1) % n, before = (comm->rank + n - 1) % n;
    size_t bytes = (LONG + SHORT) * sizeof(float);
    float *out = xmalloc(bytes), *in = xmalloc(bytes);
    CommRequest *under_way[4];
    fill(7, comm->rank, LONG + SHORT, TYPE_F32, out);
    if (n > 1) {
        under_way[0] = comm_start_send(comm, NULL, out, LONG, TYPE_F32, next);
        under_way[1] = comm_start_send(comm, NULL, out + LONG, SHORT, TYPE_F32, next);
    }
    for (int k = 0; k < CALLS; k++)
        trials[k] =
            trial_begin(k % 3 == 2 ? other : comm, (CommCall){collectives[k % 5], types[k % 3], REDUCE_SUM, 0,
                                                              1 + 9999 * k, NULL, NULL});
    if (n > 1) {
        under_way[2] = comm_start_recv(comm, NULL, in, LONG, TYPE_F32, before);
        under_way[3] = comm_start_recv(comm, NULL, in + LONG, SHORT, TYPE_F32, before);
    }
    bool good = true;
    for (int k = CALLS; k-- > 0;) good &= trial_end(&trials[k]);
    for (int k = 0; k < 4 && n > 1; k++) comm_wait(comm, NULL, under_way[k]);
    fill(7, before, LONG + SHORT, TYPE_F32, out);
    good &= n == 1 || memcmp(in, out, bytes) == 0;
    ok_on_all(comm, good, "%d collectives in two groups and messages in flight", CALLS);
    free(in);
    free(out);
}

static void messages(Comm *comm) {
    enum { MANY = 100 };
    int n = comm->size, rank = comm->rank;
    bool good = true;
    double data[4000], want[4000];
    CommRequest *sent[MANY];
    double *kept = xmalloc(MANY * sizeof data);
    for (int other = 0; other < n;
         other++) { /* every pair, the lower rank sends first, and the answer comes back */
        if (other == rank) continue;
        for (int turn = 0; turn < 2; turn++) {
            bool sends = (rank < other) == (turn == 0);
            int from = sends ? rank : other, to = sends ? other : rank;
            int64_t count = 4000 - 1000 * turn - to;
            fill(100 + turn, from, count, TYPE_F64, want);
            if (sends) {
                comm_send(comm, NULL, want, count, TYPE_F64, to);
            } else {
                comm_recv(comm, NULL, data, count, TYPE_F64, from);
                good &= memcmp(data, want, (size_t)count * sizeof *data) == 0;
            }
        }
    }
    ok_on_all(comm, good, "a message from each rank to each");
    good = true;
    for (int k = 0; k < MANY && n > 1; k++) {
        int64_t count = 40 * (k % 100);
        double *mine = kept + 4000 * k;
        fill(200 + k, rank, count, TYPE_F64, mine);
        sent[k] = comm_start_send(comm, NULL, mine, count, TYPE_F64, (rank + 1) % n);
    }
    for (int k = 0; k < MANY && n > 1; k++) {
        int64_t count = 40 * (k % 100);
        int before = (rank + n - 1) % n;
        comm_recv(comm, NULL, data, count, TYPE_F64, before);
        fill(200 + k, before, count, TYPE_F64, want);
        good &= memcmp(data, want, (size_t)count * sizeof *data) == 0;
    }
    for (int k = 0; k < MANY && n > 1; k++) comm_wait(comm, NULL, sent[k]);
    ok_on_all(comm, good, "%d messages arrive in order", MANY);
    free(kept);
}

static void parts(void) {
    int n = world->size, rank = world->rank;
    Comm *parity = comm_split(world, rank % 2, 0, "parity");
    ok_on_all(world, parity->size == (n + 1 - rank % 2) / 2 && parity->rank == rank / 2, "split by parity");
    Comm *mirror = comm_split(world, 0, -rank, "mirror");
    ok_on_all(world, mirror->size == n && mirror->rank == n - 1 - rank, "split with the order reversed");
    all_collectives(parity);
    all_collectives(mirror);
    messages(mirror);
    in_flight(world, parity);
    in_flight(mirror, parity);
    Comm *some = comm_split(world, rank == 0 ? -1 : 3, 0, "all but rank 0");
    ok_on_all(world, (some == NULL) == (rank == 0), "a rank that takes no part");
    if (some) all_collectives(some);
    tests = 100000; /* rank 0 has made fewer */
    Comm *half = comm_split(parity, parity->rank < (parity->size + 1) / 2, 0, "half of a parity");
    in_flight(world, half);
    comm_close(half);
    if (some) comm_close(some);
    for (int k = 0; k < 200; k++) comm_close(comm_split(parity, 0, 0, "short-lived"));
    ok_on_all(world, true, "200 groups opened and closed");
    comm_close(mirror);
    comm_close(parity);
}

/* Bytes of one kind, summed over the ranks. */
static int64_t counted(Comm *comm, CommKind kind, CommCount before) {
    double bytes = (double)(comm->counts[kind].bytes - before.bytes), sum;
    comm_all_reduce(comm, NULL, &bytes, &sum, 1, TYPE_F64, REDUCE_SUM);
    return (int64_t)sum;
}

static void counters(void) {
    int n = world->size;
    for (int k = 0; k < COUNT_OF(collectives); k++) {
        CommKind kind = collectives[k];
        bool good = true;
        for (int c = 0; c < COUNT_OF(counts); c++) {
            CommCount before = world->counts[kind];
            Trial trial =
                trial_begin(world, (CommCall){kind, TYPE_F32, REDUCE_SUM, c % n * (kind == COMM_BROADCAST),
                                              counts[c], NULL, NULL});
            trial_end(&trial);
            good &= world->counts[kind].calls == before.calls + 1;
            /* S: the whole of what all_gather, reduce_scatter and all_to_all assemble or cut */
            bool whole = kind == COMM_ALL_REDUCE || kind == COMM_BROADCAST;
            int64_t S = 4 * counts[c] * (whole ? 1 : n);
            good &= counted(world, kind, before) == (kind == COMM_ALL_REDUCE ? 2 : 1) * (n - 1) * S;
        }
        ok_on_all(world, good, "%s counts the bytes of a ring", comm_kind_names[kind]);
    }
    Comm *part = comm_split(world, 0, 0, "part");
    CommCount before = world->counts[COMM_ALL_GATHER];
    int32_t x = 0, *all = xmalloc((size_t)n * sizeof *all);
    comm_all_gather(part, NULL, &x, all, 1, TYPE_I32);
    ok_on_all(world,
              part->counts[COMM_ALL_GATHER].calls == 1 &&
                  world->counts[COMM_ALL_GATHER].calls == before.calls + 1 &&
                  world->counts[COMM_ALL_GATHER].bytes == before.bytes + 4 * (n - 1),
              "a group counts what its parts do, and not what a split needs itself");
    free(all);
    comm_close(part);
}

int main(void) {
    world = ranks_world();
    all_collectives(world);
    in_place(world);
    nan_stays(world);
    messages(world);
    parts();
    counters();
    double mine = (double)(hash >> 12), *hashes = xmalloc((size_t)world->size * sizeof *hashes);
    comm_all_gather(world, NULL, &mine, hashes, 1, TYPE_F64);
    printf("# rank 0 shares its machine with %d of %d ranks\n", world->local_size, world->size);
    printf("# bits %016llx\n", (unsigned long long)XXH64(hashes, (size_t)world->size * sizeof *hashes, 0));
    free(hashes);
    comm_close(world);
    return tap_done();
}
