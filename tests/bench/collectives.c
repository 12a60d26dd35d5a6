/* Collectives of this code beside MPI's own, in turns, so that what else the machine does favours neither. Medians.
 *     make build/bench/collectives build/mpiexec && build/mpiexec -n 8 build/bench/collectives */
#include "common/comm/comm.h"

#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 30 };

static Comm *world;
static char *in, *out;

static void ours(CommKind kind, int64_t count) {
    if (kind == COMM_ALL_REDUCE) comm_all_reduce(world, NULL, in, out, count, TYPE_F32, REDUCE_SUM);
    if (kind == COMM_ALL_GATHER) comm_all_gather(world, NULL, in, out, count / world->size, TYPE_F32);
    if (kind == COMM_REDUCE_SCATTER)
        comm_reduce_scatter(world, NULL, in, out, count / world->size, TYPE_F32, REDUCE_SUM);
    if (kind == COMM_BROADCAST) comm_broadcast(world, NULL, out, count, TYPE_F32, 0);
    if (kind == COMM_ALL_TO_ALL) comm_all_to_all(world, NULL, in, out, count / world->size, TYPE_F32);
    if (kind == COMM_BARRIER) comm_barrier(world, NULL);
    if (kind == COMM_SEND && world->rank == 0) {
        comm_send(world, NULL, in, count, TYPE_F32, 1);
        comm_recv(world, NULL, out, count, TYPE_F32, 1);
    }
    if (kind == COMM_SEND && world->rank == 1) {
        comm_recv(world, NULL, out, count, TYPE_F32, 0);
        comm_send(world, NULL, in, count, TYPE_F32, 0);
    }
}

static void theirs(CommKind kind, int64_t count) {
    int n = (int)count, part = n / world->size;
    MPI_Comm all = MPI_COMM_WORLD;
    if (kind == COMM_ALL_REDUCE) MPI_Allreduce(in, out, n, MPI_FLOAT, MPI_SUM, all);
    if (kind == COMM_ALL_GATHER) MPI_Allgather(in, part, MPI_FLOAT, out, part, MPI_FLOAT, all);
    if (kind == COMM_REDUCE_SCATTER) MPI_Reduce_scatter_block(in, out, part, MPI_FLOAT, MPI_SUM, all);
    if (kind == COMM_BROADCAST) MPI_Bcast(out, n, MPI_FLOAT, 0, all);
    if (kind == COMM_ALL_TO_ALL) MPI_Alltoall(in, part, MPI_FLOAT, out, part, MPI_FLOAT, all);
    if (kind == COMM_BARRIER) MPI_Barrier(all);
    if (kind == COMM_SEND && world->rank == 0) {
        MPI_Send(in, n, MPI_FLOAT, 1, 0, all);
        MPI_Recv(out, n, MPI_FLOAT, 1, 0, all, MPI_STATUS_IGNORE);
    }
    if (kind == COMM_SEND && world->rank == 1) {
        MPI_Recv(out, n, MPI_FLOAT, 0, 0, all, MPI_STATUS_IGNORE);
        MPI_Send(in, n, MPI_FLOAT, 0, 0, all);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The time per call of the slowest rank. */
static double time_calls(bool of_mpi, CommKind kind, int64_t bytes, int calls) {
    comm_barrier(world, NULL);
    double start = now_seconds(), slowest;
    for (int c = 0; c < calls; c++) (of_mpi ? theirs : ours)(kind, bytes / 4);
    double own = (now_seconds() - start) / calls;
    comm_all_reduce(world, NULL, &own, &slowest, 1, TYPE_F64, REDUCE_MAX);
    return slowest;
}

/* As often as fits a second or so; each time is of several calls where they are short. */
static void measure(CommKind kind, int64_t bytes) {
    double seconds[2][REPEATS], median[2], total = 0;
    int calls[2], repeats = 0;
    for (int side = 0; side < 2; side++) {
        double once = time_calls(side, kind, bytes, 1);
        calls[side] = (int)fmin(10, fmax(1, 1e-3 / once));
    }
    while (repeats < REPEATS && (repeats < 3 || total < 1)) {
        for (int side = 0; side < 2; side++) {
            seconds[side][repeats] = time_calls(side, kind, bytes, calls[side]);
            total += seconds[side][repeats] * calls[side];
        }
        repeats++;
    }
    if (world->rank != 0) return;
    for (int side = 0; side < 2; side++) {
        qsort(seconds[side], (size_t)repeats, sizeof(double), ascending);
        median[side] = seconds[side][repeats / 2];
    }
    printf("%-15s %9lld %12.1f %12.1f %8.2f %9.2f\n", comm_kind_names[kind], (long long)bytes,
           1e6 * median[0], 1e6 * median[1], median[0] / median[1], (double)bytes / median[0] * 1e-9);
    fflush(stdout);
}

int main(void) {
    static const CommKind kinds[] = {COMM_ALL_REDUCE, COMM_ALL_GATHER, COMM_REDUCE_SCATTER,
                                     COMM_BROADCAST,  COMM_ALL_TO_ALL, COMM_SEND};
    static const int64_t sizes[] = {1 << 10, 1 << 16, 4 << 20};
    world = comm_world();
    CHECK(world->size > 1, "build/mpiexec -n 8 build/bench/collectives", "nothing to measure with one rank");
    in = xcalloc(1, 4 << 20);
    out = xcalloc(1, 4 << 20);
    memset(in, 0, 4 << 20);
    memset(out, 0, 4 << 20);
    if (world->rank == 0)
        printf("%d ranks: S bytes per rank (assembled or cut: in all); send: there and back\n"
               "%-15s %9s %12s %12s %8s %9s\n",
               world->size, "", "S", "ours us", "MPI us", "ratio", "S/time GB/s");
    measure(COMM_BARRIER, 0);
    for (int k = 0; k < COUNT_OF(kinds); k++)
        for (int s = 0; s < COUNT_OF(sizes); s++) measure(kinds[k], sizes[s]);
    free(in);
    free(out);
    comm_close(world);
    return 0;
}
