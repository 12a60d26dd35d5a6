/* A message from one rank to another and back, by this code and by MPI itself, in turns of a few. Microseconds one way:
 * of the quickest tenth of the turns, in which both ranks had a core, and of the median.
 *     make build/bench/messages && mpiexec -n 2 build/bench/messages */
#include "common/comm/comm.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 1000, TRIPS = 5 }; /* there and back, in each turn */
static const double LONGEST =
    10; /* seconds for one size: MPI spins, and takes ages where others want the cores */

static Comm *world;
static char *out, *in;

static void say(bool by_mpi, int64_t bytes, int to) {
    if (by_mpi)
        MPI_Send(out, (int)bytes, MPI_BYTE, to, 0, MPI_COMM_WORLD);
    else
        comm_send(world, NULL, out, bytes / 4, TYPE_F32, to);
}

static void hear(bool by_mpi, int64_t bytes, int from) {
    if (by_mpi)
        MPI_Recv(in, (int)bytes, MPI_BYTE, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    else
        comm_recv(world, NULL, in, bytes / 4, TYPE_F32, from);
}

static void round_trip(bool by_mpi, int64_t bytes) {
    int other = 1 - world->rank;
    if (world->rank == 0) say(by_mpi, bytes, other);
    hear(by_mpi, bytes, other);
    if (world->rank == 1) say(by_mpi, bytes, other);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(int64_t bytes) {
    static double seconds[2][TURNS];
    double start = now_seconds();
    int32_t turns = 0, more = 1;
    while (more) {
        for (int side = 0; side < 2; side++) {
            round_trip(side, bytes); /* what the other side had in the caches */
            double begin = now_seconds();
            for (int t = 0; t < TRIPS; t++) round_trip(side, bytes);
            seconds[side][turns] = (now_seconds() - begin) / (2 * TRIPS);
        }
        turns++;
        if (turns % 10) continue; /* rank 0 decides */
        more = turns < TURNS && now_seconds() - start < LONGEST;
        comm_broadcast(world, NULL, &more, 1, TYPE_I32, 0);
    }
    if (world->rank != 0) return;
    for (int side = 0; side < 2; side++) qsort(seconds[side], (size_t)turns, sizeof(double), ascending);
    double quick[2] = {seconds[0][turns / 10], seconds[1][turns / 10]},
           median[2] = {seconds[0][turns / 2], seconds[1][turns / 2]};
    printf("%9lld %10.2f %10.2f %7.2f %12.2f %10.2f %7.2f\n", (long long)bytes, 1e6 * quick[0],
           1e6 * quick[1], quick[0] / quick[1], 1e6 * median[0], 1e6 * median[1], median[0] / median[1]);
    fflush(stdout);
}

int main(void) {
    static const int64_t sizes[] = {4, 1 << 10, 8 << 10, 64 << 10, 512 << 10, 4 << 20};
    world = comm_world();
    CHECK(world->size == 2, "mpiexec -n 2 build/bench/messages", "%d ranks", world->size);
    out = memset(xmalloc(4 << 20), 0, 4 << 20);
    in = memset(xmalloc(4 << 20), 0, 4 << 20);
    if (world->rank == 0)
        printf("one way, us: the quickest tenth %19s the median\n%9s %10s %10s %7s %12s %10s %7s\n", "",
               "bytes", "ours", "MPI", "ratio", "ours", "MPI", "ratio");
    for (int s = 0; s < COUNT_OF(sizes); s++) measure(sizes[s]);
    free(out);
    free(in);
    comm_close(world);
    return 0;
}
