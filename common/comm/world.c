/* The job's start and end: what mpiexec started finds itself, its machines, their memory and its watcher. */
#define _GNU_SOURCE
#include "common/comm/group.h"
#include "common/comm/launcher.h"
#include "common/comm/watch.h"
#include "common/base/platform.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static MPI_Comm sharers; /* the ranks that share memory */
static MPI_Win window;   /* which is this */
static bool one_machine; /* runs all ranks */

/* How many ranks share memory at most: SHARD_SHARED_RANKS=1 switches it off, so that one machine can try what happens
 * between several. */
static int max_shared_ranks(void) {
    const char *text = getenv("SHARD_SHARED_RANKS");
    int ranks = text ? atoi(text) : world.size;
    CHECK_USAGE(ranks >= 1, "1: none, 2: in pairs, ...", "SHARD_SHARED_RANKS is '%s'", text);
    return ranks;
}

static bool is_everyone(MPI_Comm some) {
    int ranks;
    MPI_Comm_size(some, &ranks);
    return ranks == world.size;
}

/* Who shares memory with whom. `machine`: the ranks of this machine, `sharers`: those that may share its memory. */
static void find_machines(MPI_Comm machine) {
    int rank, n = world.size;
    MPI_Comm_rank(machine, &rank);
    MPI_Comm_split(machine, rank / max_shared_ranks(), rank, &sharers);
    MPI_Comm_rank(sharers, &rank);
    int mine[2] = {world.rank, rank}, *all = xmalloc((size_t)n * sizeof mine);
    MPI_Bcast(&mine[0], 1, MPI_INT, 0, sharers);
    MPI_Allgather(mine, 2, MPI_INT, all, 2, MPI_INT, MPI_COMM_WORLD);
    world.machine = xmalloc((size_t)n * sizeof *world.machine);
    world.seat = xmalloc((size_t)n * sizeof *world.seat);
    for (int r = 0; r < n; r++) {
        world.machine[r] = all[2 * r];
        world.seat[r] = all[2 * r + 1];
    }
    free(all);
}

/* Slots: the larger, the fewer times all have to meet; at 1 MB that costs little, and two slots of each of a few ranks
 * still fit a last-level cache. Where memory is short, four groups of all ranks are to fit it. */
enum { LARGEST_SLOT = 1 << 20, SMALLEST_SLOT = 16 << 10 };

static void choose_slot(int64_t bytes, int ranks) {
    world.slot_bytes = LARGEST_SLOT;
    while (world.slot_bytes > SMALLEST_SLOT && 4 * shared_bytes(ranks) > bytes) world.slot_bytes /= 2;
    MPI_Allreduce(MPI_IN_PLACE, &world.slot_bytes, 1, MPI_INT64_T, MPI_MIN,
                  MPI_COMM_WORLD); /* everyone is here */
}

/* Pages that nobody touches cost nothing, so it may be large; but a small /dev/shm has to last for all. */
static int64_t memory_bytes(int ranks) {
    int64_t bytes = (int64_t)ranks * (64 << 20);
    struct statvfs info;
    if (statvfs("/dev/shm", &info) == 0)
        bytes = min64(bytes, (int64_t)info.f_bavail * (int64_t)info.f_frsize / 2);
    return bytes;
}

static void open_memory(bool spin) {
    int seat, ranks, unit;
    MPI_Aint bytes;
    void *base;
    MPI_Comm_rank(sharers, &seat);
    MPI_Comm_size(sharers, &ranks);
    MPI_Win_allocate_shared(seat ? 0 : (MPI_Aint)memory_bytes(ranks), 1, MPI_INFO_NULL, sharers, &base,
                            &window);
    MPI_Win_shared_query(window, 0, &bytes, &unit, &base);
    memory_open(base, bytes, seat, ranks, spin);
    choose_slot(bytes, ranks);
}

/* The cores of a machine are shared by its ranks, whether each was bound to some or all may use all. Has each a core
 * of its own? */
static bool share_cores(MPI_Comm machine) {
    int ranks;
    MPI_Comm_size(machine, &ranks);
    CoreSet own = platform_cores(), all;
    MPI_Allreduce(&own, &all, PLATFORM_CORE_WORDS, MPI_UINT64_T, MPI_BOR, machine);
    platform_share_cores(&all, ranks);
    return platform_core_count(&all) >= ranks;
}

/* A rank that dies breaks its connections to other machines, and those may see it first. They leave the word to the
 * watcher that saw it die, which ends the job; when nobody has in SECONDS_TO_SPEAK, a whole machine or the network is
 * gone. */
enum { SECONDS_TO_SPEAK = 3 };
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

/* The watcher's path is known to the first rank of the machine. */
static void join_watcher(MPI_Comm machine, const char *known) {
    char path[128];
    int ranks;
    snprintf(path, sizeof path, "%s", known);
    MPI_Comm_size(machine, &ranks);
    MPI_Bcast(path, sizeof path, MPI_CHAR, 0, machine);
    watch_join(path, world.rank, ranks);
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
    base_errors_said_once(NULL);
    MPI_Win_free(&window);
    MPI_Comm_free(&sharers);
    if (!finalize_may_hang() || !tell_launcher()) MPI_Finalize();
    free(world.machine);
    free(world.seat);
}

/* ---- the start ---- */

static Group *open_world(void) {
    int64_t place = 0;
    if (is_everyone(sharers) && world.rank == 0) place = shared_place(world.size);
    MPI_Bcast(&place, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
    return group_of_all(place, world_close);
}

Comm *comm_world(void) {
    base_usage_said_by(false); /* from here on each rank knows what others may not, or they ask comm_refuse */
    if (!launcher_found()) return comm_self();
    const char *watcher = watch_start();
    int provided;
    MPI_Comm machine;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    handle_errors();
    MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world.size);
    launcher_check(world.size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world.rank, MPI_INFO_NULL, &machine);
    one_machine = is_everyone(machine);
    find_machines(machine);
    open_memory(share_cores(machine));
    join_watcher(machine, watcher);
    MPI_Comm_free(&machine);
    return &open_world()->comm;
}
