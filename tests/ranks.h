/* ranks: for tests that mpiexec starts as several processes. Every rank checks; rank 0 prints what all agree on. */
#ifndef RANKS_H
#define RANKS_H

#include "common/comm/comm.h"
#include "tests/tap.h"

#include <stdlib.h>

/* The world, as rank 0 prints alone. */
static inline Comm *ranks_world(void) {
    Comm *comm = comm_world();
    if (comm->rank != 0 && !freopen("/dev/null", "w", stdout)) fail(1, NULL, "cannot open /dev/null");
    return comm;
}

/* A folder that all ranks see, until ranks_folder_remove. */
static inline char *ranks_folder(Comm *comm) {
    enum { BYTES = 512 };
    char *path = xcalloc(1, BYTES), *made = comm->rank == 0 ? file_temp_folder("shard-test") : NULL;
    if (made) snprintf(path, BYTES, "%s", made);
    free(made);
    comm_broadcast(comm, NULL, path, BYTES / sizeof(int32_t), TYPE_I32, 0);
    return path;
}

/* When no rank needs it any more. */
static inline void ranks_folder_remove(Comm *comm, char *path) {
    comm_barrier(comm, NULL);
    if (comm->rank == 0) file_remove(path);
    free(path);
}

/* ok() where it passed on every rank. A rank on which it did not says so, whatever becomes of the sum, and fails. */
__attribute__((format(printf, 3, 4))) static inline bool ok_on_all(Comm *comm, bool passed,
                                                                   const char *format, ...) {
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    int32_t failed = !passed;
    if (failed) fprintf(stderr, "# rank %d: not ok: %s\n", comm->rank, what);
    comm_all_reduce(comm, NULL, &failed, &failed, 1, TYPE_I32, REDUCE_SUM);
    tap_failures += !passed && failed == 0;
    return ok(failed == 0, "%s (%d rank%s)", what, comm->size, comm->size > 1 ? "s" : "");
}

#endif
