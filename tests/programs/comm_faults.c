/* Does what tests/test_comm_faults.sh asks for: works until it is killed, or makes a mistake.
 *     mpiexec -n 4 comm_faults work PHASE FOLDER    each rank writes its process id to FOLDER/RANK
 *     mpiexec -n 4 comm_faults mistake NAME
 *     mpiexec -n 4 comm_faults interrupt FOLDER     works until it is interrupted */
#define _GNU_SOURCE
#include "common/comm/comm.h"
#include "common/base/interrupt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Comm *world;
enum { LARGE = 1 << 20 };
static float small[64], large[LARGE], all[8 * LARGE];

static void sum_large(Comm *comm) { comm_all_reduce(comm, NULL, large, large, LARGE, TYPE_F32, REDUCE_MAX); }

static void sum_small(Comm *comm) { comm_all_reduce(comm, NULL, small, small, 64, TYPE_F32, REDUCE_MAX); }

/* One turn of a phase, for ever. */
static void work(const char *phase) {
    int rank = world->rank, n = world->size;
    if (!strcmp(phase, "small")) sum_small(world);
    if (!strcmp(phase, "large")) sum_large(world);
    if (!strcmp(phase, "gather")) comm_all_gather(world, NULL, large, all, LARGE, TYPE_F32);
    if (!strcmp(phase, "wait") && rank != 1) comm_barrier(world, NULL); /* rank 1 is busy and never comes */
    if (!strcmp(phase, "ring")) {
        CommRequest *request = comm_start_send(world, NULL, large, LARGE, TYPE_F32, (rank + 1) % n);
        comm_recv(world, NULL, all, LARGE, TYPE_F32, (rank + n - 1) % n);
        comm_wait(world, NULL, request);
    }
    if (!strcmp(phase, "split")) {
        Comm *part = comm_split(world, rank % 2, 0, "part");
        sum_small(part);
        comm_close(part);
    }
}

/* Rank 1 does something else than the rest. */
static void mistake(const char *name) {
    bool other = world->rank == 1;
    if (!strcmp(name, "count"))
        comm_all_reduce(world, NULL, small, small, other ? 63 : 64, TYPE_F32, REDUCE_SUM);
    if (!strcmp(name, "large-count"))
        comm_all_reduce(world, NULL, large, large, other ? 1 : LARGE, TYPE_F32, REDUCE_SUM);
    if (!strcmp(name, "type"))
        comm_all_reduce(world, NULL, small, small, 32, other ? TYPE_F64 : TYPE_F32, REDUCE_SUM);
    if (!strcmp(name, "reduction"))
        comm_all_reduce(world, NULL, small, small, 64, TYPE_F32, other ? REDUCE_MAX : REDUCE_SUM);
    if (!strcmp(name, "root")) comm_broadcast(world, NULL, small, 64, TYPE_F32, other ? 1 : 0);
    if (!strcmp(name, "kind")) {
        if (other)
            comm_barrier(world, NULL);
        else
            sum_large(world);
    }
    if (!strcmp(name, "dropped")) { /* one all_reduce is missing: the next call shows it */
        if (!other) sum_small(world);
        comm_all_gather(world, NULL, small, all, 64, TYPE_F32);
    }
    if (!strcmp(name, "message-count") || !strcmp(name, "message-type")) {
        bool type = !strcmp(name, "message-type");
        if (other) comm_send(world, NULL, small, type ? 32 : 60, type ? TYPE_F64 : TYPE_F32, 2);
        if (world->rank == 2) comm_recv(world, NULL, small, type ? 32 : 64, TYPE_F32, 1);
        comm_barrier(world, NULL);
    }
    if (!strcmp(name, "no-send")) {
        if (other)
            comm_recv(world, NULL, small, 64, TYPE_F32, 0);
        else
            sum_small(world);
    }
    if (!strcmp(name, "other-group")) {
        Comm *part = comm_split(world, 0, 0, "part");
        sum_small(other ? part : world);
    }
    if (!strcmp(name, "peer")) comm_send(world, NULL, small, 64, TYPE_F32, world->rank + 7);
    if (!strcmp(name, "exit")) {
        if (other) fail(3, "none", "rank 1 gives up");
        sum_small(world);
    }
    if (!strcmp(name, "late")) { /* which is none */
        if (other) sleep(2);
        sum_small(world);
    }
    if (!strcmp(name, "not-waited")) {
        comm_start_all_reduce(world, NULL, small, all, 64, TYPE_F32, REDUCE_SUM);
        if (world->rank == 0) comm_start_send(world, NULL, large, LARGE, TYPE_F32, 1);
        comm_close(world);
    }
}

static void say_ready(const char *folder) {
    char *path = xprintf("%s/%d", folder, world->rank), *text = xprintf("%d\n", (int)getpid());
    comm_barrier(world, NULL);
    file_write(path, text, strlen(text));
    free(path);
    free(text);
}

int main(int argc, char **argv) {
    CHECK_USAGE(argc >= 3, NULL, "see the first lines of the source");
    base_set_program(argv[0]);
    world = comm_world();
    if (!strcmp(argv[1], "mistake")) mistake(argv[2]);
    if (!strcmp(argv[1], "work")) {
        say_ready(argv[3]);
        for (;;) work(argv[2]);
    }
    if (!strcmp(argv[1], "interrupt")) {
        int32_t asked = 0, steps = 0;
        interrupt_install();
        say_ready(argv[2]);
        for (; !asked; steps++) { /* all finish the same step */
            sum_large(world);
            asked = interrupt_requested();
            comm_all_reduce(world, NULL, &asked, &asked, 1, TYPE_I32, REDUCE_MAX);
        }
        int32_t most = 0;
        comm_all_reduce(world, NULL, &steps, &most, 1, TYPE_I32, REDUCE_MAX);
        printf("rank %d: %s\n", world->rank, steps == most ? "saved" : "out of step");
        comm_close(world);
        return 0;
    }
    puts("nothing was noticed");
    comm_close(world);
    return 0;
}
