#define _GNU_SOURCE
#include "common/comm/transport.h"

#include "common/base/base.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* MPI takes some MB of /dev/shm for each rank, of which a container has 64 in all, and ends the job when there is no
 * more. Ranks of one machine share memory of ours (memory.c), which MPI need not know: it has little to carry between
 * them. Each line: an MPI, by a part of the name that it gives itself, and a variable that keeps it out of /dev/shm. */
static const struct {
    const char *mpi, *variable, *value;
} choices[] = {
    {"MPICH", "MPIR_CVAR_NOLOCAL", "1"}, /* every rank is on a machine of its own, it believes */
    {"ch4:ucx", "UCX_TLS", "^posix"},    /* segments (shmget) instead, which are not in /dev/shm */
    {"Open MPI", "OMPI_MCA_btl_vader_backing_directory", "/tmp"}, /* files instead; up to 4, and from 5 on */
    {"Open MPI", "OMPI_MCA_btl_sm_backing_directory", "/tmp"},
};

void transport_choose(void) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(version, &length);
    for (int i = 0; i < COUNT_OF(choices); i++)
        if (strstr(version, choices[i].mpi)) setenv(choices[i].variable, choices[i].value, 0);
}

void wait_for_mpi(MPI_Request *request) {
    enum { QUICK_LOOKS = 16, SHORT_NS = 20000, LONG_NS = 1000000 };
    int done;
    for (int looks = 0; MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done; looks++) {
        int64_t pause = min64((int64_t)SHORT_NS * (looks - QUICK_LOOKS), LONG_NS);
        if (pause > 0)
            nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
        else
            sched_yield();
    }
}
