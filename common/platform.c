#define _GNU_SOURCE
#include "common/platform.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Threads that wait for each other should spin for a moment, then sleep. The OpenMP runtimes spin for
 * milliseconds, which is good on an idle machine only: with another busy program on two cores a training step
 * took 20 times as long. They read their settings when they are loaded, which is before any code of ours, so
 * the program starts itself once more with the settings in place. What the user has set stays, and then
 * nothing happens here. */
#if defined __linux__ && defined __GLIBC__ /* which gives a constructor the arguments */
__attribute__((constructor)) static void spin_briefly(int argc, char **argv) {
    (void)argc;
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME")) return;
    setenv("GOMP_SPINCOUNT", "1000", 1); /* GNU: about 20 microseconds */
    setenv("KMP_BLOCKTIME", "0", 1);     /* LLVM: milliseconds */
    char self[4096]; /* the path itself: under "/proc/self/exe" ps and top would call the program exe */
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return;
    self[length] = 0;
    execv(self, argv); /* comes back only where that cannot be: then as it was */
}
#endif

enum { MAX_THREADS = 512 };

int platform_threads(void) {
    int threads = (int)fmin(omp_get_max_threads(), MAX_THREADS); /* knows OMP_NUM_THREADS and affinity */
    if (getenv("OMP_NUM_THREADS")) return threads;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return threads;
    double quota, period;
    if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0 && quota > 0) /* "max 100000" reads none */
        threads = (int)fmin(threads, fmax(1, floor(quota / period)));
    fclose(f);
    return threads;
}

/* Every parallel region of the program, also those before a device is made. */
__attribute__((constructor)) static void limit_threads(void) { omp_set_num_threads(platform_threads()); }
