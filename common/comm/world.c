/* The job's start and end: what mpiexec started finds itself, its machines, their memory and its watcher. */
#define _GNU_SOURCE
#include "common/comm/group.h"
#include "common/comm/launcher.h"
#include "common/comm/transport.h"
#include "common/comm/watch.h"

#include <errno.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool one_machine;       /* runs all ranks */
enum { SECONDS_TO_SPEAK = 3 }; /* for the one who knows why the job ends */

/* How many ranks share memory at most: SHARD_SHARED_RANKS=1 switches it off, so that one machine can try what happens
 * between several. */
static int max_shared_ranks(void) {
    const char *text = getenv("SHARD_SHARED_RANKS");
    int ranks = text ? atoi(text) : world.size;
    CHECK_USAGE(ranks >= 1, "1: none, 2: in pairs, ...", "SHARD_SHARED_RANKS is '%s'", text);
    return ranks;
}

/* ---- who is where ---- */

/* What the ranks tell each other, all at once, when MPI has started. */
typedef struct {
    char host[72];
    int32_t local;     /* its number among those that mpiexec started on its machine; -1: not known */
    MemoryPath memory; /* which it would share */
    int32_t lacks;     /* an errno: it could not make any; otherwise 0 */
    char watcher[108]; /* where the watcher of its machine is found; "": it does not know */
    CoreSet cores;     /* that it may run on */
} Introduction;

static Introduction introduce_self(const MemoryPath *memory, int lacks, const char *watcher) {
    Introduction self = {
        .local = platform_local_rank(), .memory = *memory, .lacks = lacks, .cores = platform_cores()};
    gethostname(self.host, sizeof self.host - 1);
    snprintf(self.watcher, sizeof self.watcher, "%s", watcher);
    return self;
}

static Introduction *introduce_all(const Introduction *self) {
    Introduction *all = xmalloc((size_t)world.size * sizeof *all);
    MPI_Request request;
    MPI_Iallgather(self, sizeof *self, MPI_BYTE, all, sizeof *all, MPI_BYTE, MPI_COMM_WORLD, &request);
    wait_for_mpi(&request);
    return all;
}

static bool same_seat(const Introduction *a, const Introduction *b) {
    return a->local == b->local && strcmp(a->host, b->host) == 0;
}

/* machine[r] = the lowest rank of the machine of rank r. One host may stand for several machines (mpiexec -launcher
 * fork -hosts a,b): then each local number is there several times. */
static int *machines(const Introduction *all) {
    size_t n = (size_t)world.size;
    int *machine = xmalloc(n * sizeof *machine), *which = xcalloc(n, sizeof *which);
    for (int r = 0; r < world.size; r++) {
        for (int q = 0; q < r; q++) which[r] += all[r].local >= 0 && same_seat(&all[q], &all[r]);
        machine[r] = 0;
        while (which[machine[r]] != which[r] || strcmp(all[machine[r]].host, all[r].host) != 0) machine[r]++;
    }
    free(which);
    return machine;
}

/* Who shares memory with whom: the ranks of a machine, or as many of them as may. */
static void find_sharers(const int *machine) {
    int n = world.size, most = max_shared_ranks();
    int *count = xcalloc((size_t)n, sizeof *count), *first = xmalloc((size_t)n * sizeof *first);
    world.machine = xmalloc((size_t)n * sizeof *world.machine);
    world.seat = xmalloc((size_t)n * sizeof *world.seat);
    for (int r = 0; r < n; r++) { /* count, first: of the machine whose lowest rank is .. */
        int m = machine[r];
        world.seat[r] = count[m]++ % most;
        if (world.seat[r] == 0) first[m] = r;
        world.machine[r] = first[m];
    }
    free(count);
    free(first);
}

/* ---- what a machine's ranks have in common ---- */

/* Its cores are shared by its ranks, whether each was bound to some or all may use all. Has each a core of its own? */
static bool share_cores(const Introduction *all, const int *machine) {
    CoreSet cores = {0};
    int ranks = 0, number = 0;
    for (int r = 0; r < world.size; r++) {
        if (machine[r] != machine[world.rank]) continue;
        ranks++;
        number += r < world.rank;
        for (int w = 0; w < PLATFORM_CORE_WORDS; w++) cores.words[w] |= all[r].cores.words[w];
    }
    one_machine = ranks == world.size;
    platform_share_cores(&cores, ranks, number);
    return platform_core_count(&cores) >= ranks;
}

/* The watcher's path is known to one of the machine's ranks. */
static void join_watcher(const Introduction *all, const int *machine) {
    const char *path = "";
    int ranks = 0;
    for (int r = 0; r < world.size; r++) {
        if (machine[r] != machine[world.rank]) continue;
        ranks++;
        if (*all[r].watcher) path = all[r].watcher;
    }
    watch_join(path, world.rank, ranks);
}

/* Pages that nobody touches cost nothing, so it may be large. */
static int64_t memory_bytes(void) { return (int64_t)world.size * (64 << 20); }

/* Nobody goes on when one whose memory is needed has none. One speaks, and mpiexec then ends those that wait. */
static void check_memory(const Introduction *all) {
    for (int r = 0; r < world.size; r++) {
        if (world.seat[r] != 0 || !all[r].lacks) continue;
        if (r != world.rank) {
            sleep(SECONDS_TO_SPEAK);
            exit(1);
        }
        fail(1, MEMORY_HINT, "rank %d finds no memory that ranks of one machine could share: %s", r,
             strerror(all[r].lacks));
    }
}

/* Each makes a memory before it knows whose will be used: that of the first of those that share. */
static void open_memory(int own, const Introduction *all, bool spin) {
    int first = world.machine[world.rank], ranks = 0;
    for (int r = 0; r < world.size; r++) ranks += world.machine[r] == first;
    int file = first == world.rank ? own : platform_memory_open(&all[first].memory);
    int error = errno;
    if (file < 0) sleep(SECONDS_TO_SPEAK); /* it may have ended, and says why */
    CHECK(file >= 0, "are both of one user, and is /proc there?",
          "rank %d cannot open the memory of rank %d at %s: %s", world.rank, first, all[first].memory.text,
          strerror(error));
    if (file != own && own >= 0) {
        platform_memory_unname(&all[world.rank].memory);
        close(own);
    }
    memory_open(file, memory_bytes(), world.seat[world.rank], ranks, spin);
}

/* A rank that dies breaks its connections to other machines, and those may see it first. They leave the word to the
 * watcher that saw it die, which ends the job; when nobody has in SECONDS_TO_SPEAK, a whole machine or the network is
 * gone. */
static void on_error(MPI_Comm *comm, int *code, ...) {
    (void)comm;
    char text[MPI_MAX_ERROR_STRING];
    int length;
    MPI_Error_string(*code, text, &length);
    double until = now_seconds() + SECONDS_TO_SPEAK;
    while (now_seconds() < until) sleep(1); /* which a signal may cut short */
    fail(1, "another machine, or the network to it, may be gone", "rank %d: MPI cannot go on: %s", world.rank,
         text);
}

static void handle_errors(void) {
    MPI_Errhandler handler;
    MPI_Comm_create_errhandler(on_error, &handler);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
    MPI_Errhandler_free(&handler);
}

/* ---- the end ---- */

/* MPI_Finalize of an MPICH that speaks TCP through UCX (seen with 4.0.2 over 1.13) may never return: a rank says goodbye
 * and waits for an answer, while those who have had theirs wait for all to come, and answer nobody. Ten lines show it:
 * three ranks on two machines, each sends to each, MPI_Finalize. */
static bool finalize_may_hang(void) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(version, &length);
    return !one_machine && strstr(version, "ch4:ucx") && !strstr(version, "--with-pmi");
}

/* So there the ranks, which have all come to the last barrier, tell mpiexec themselves that they are done: the one thing
 * that it must hear (the PMI protocol, version 1, which such an MPICH speaks). */
static bool tell_launcher(void) {
    static const char done[] = "cmd=finalize\n";
    char answer[256] = "";
    const char *fd = getenv("PMI_FD");
    return fd && write(atoi(fd), done, sizeof done - 1) == sizeof done - 1 &&
           read(atoi(fd), answer, sizeof answer - 1) > 0 && strstr(answer, "finalize_ack");
}

static void world_close(void) {
    stall_close();
    watch_leave();
    memory_close();
    if (!finalize_may_hang() || !tell_launcher()) MPI_Finalize();
    free(world.machine);
    free(world.seat);
}

/* ---- the start ---- */

static Group *open_world(void) {
    int64_t place = 0;
    bool everyone = true;
    for (int r = 0; r < world.size; r++) everyone &= world.machine[r] == 0;
    if (everyone && world.rank == 0) place = shared_place(world.size);
    MPI_Request request;
    MPI_Ibcast(&place, 1, MPI_INT64_T, 0, MPI_COMM_WORLD, &request);
    wait_for_mpi(&request);
    return group_of_all(place, world_close);
}

Comm *comm_world(void) {
    base_usage_said_by(false); /* from here on each rank knows what others may not, or they ask comm_refuse */
    if (!launcher_found()) return comm_self();
    const char *watcher = watch_start();
    int provided;
    transport_choose();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    handle_errors();
    MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world.size);
    launcher_check(world.size);

    MemoryPath path;
    int memory = memory_new(memory_bytes(), world.size, &path);
    Introduction self = introduce_self(&path, memory < 0 ? errno : 0, watcher), *all = introduce_all(&self);
    int *machine = machines(all);
    find_sharers(machine);
    check_memory(all);
    open_memory(memory, all, share_cores(all, machine));
    join_watcher(all, machine);
    free(machine);
    free(all);
    Group *group = open_world();
    platform_memory_unname(&path); /* everyone has opened it */
    return &group->comm;
}
