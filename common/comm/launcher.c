/* A program of one MPI that the mpiexec of another starts finds nobody, and each of its processes believes to be alone. The
 * launchers leave their marks in the environment: so many were started. */
#define _GNU_SOURCE
#include "common/comm/launcher.h"

#include "common/base/base.h"
#include "common/base/platform.h"

#include <mpi.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef OPEN_MPI
#    define OWN_MPI "Open MPI"
#    define SRUN    "srun --mpi=pmix"
#else /* or one of its relatives */
#    define OWN_MPI "MPICH"
#    define SRUN    "srun --mpi=pmi2"
#endif
#ifndef MPIEXEC /* the one that belongs to this build */
#    define MPIEXEC "build/mpiexec"
#endif

bool launcher_found(void) {
    if (platform_rank() >= 0) return true;
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    CHECK_USAGE(!tasks || atoi(tasks) <= 1, "try srun --mpi=pmi2 or --mpi=pmix",
                "srun started %s processes that cannot find each other", tasks);
    return false;
}

/* Each starts MPI in its own time, and when one ends, mpiexec may end the others. */
enum { SECONDS_TO_SPEAK = 2 };

void launcher_check(int size) {
    int ranks = platform_ranks();
    if (size > 1 || ranks <= 1) return;
    const char *launcher = getenv("OMPI_COMM_WORLD_SIZE") ? "the mpiexec of Open MPI"
                           : getenv("MPI_LOCALNRANKS")    ? "the mpiexec of MPICH"
                                                          : NULL;
    base_usage_said_by(platform_rank() > 0);
    if (platform_rank() > 0) sleep(SECONDS_TO_SPEAK);
    fail(2, launcher ? "try " MPIEXEC : "try " SRUN,
         "this program was built with " OWN_MPI
         ", and %s started %d processes of it, which cannot find each other",
         launcher ? launcher : "something else", ranks);
}
