#define _GNU_SOURCE
#include "common/base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#    include <limits.h>
#    include <linux/futex.h>
#    include <sys/mman.h>
#    include <sys/prctl.h>
#    include <sys/syscall.h>
#endif

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

/* ---- cores ---- */

enum { MAX_THREADS = 512 };
static int share = MAX_THREADS; /* threads that are left to this process by those it shares cores with */

static bool has_core = true;

bool platform_has_core(void) { return has_core; }

/* Cores' worth of time that the control group allows; MAX_THREADS when there is no limit. */
static int quota_cores(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return MAX_THREADS;
    double quota, period;
    int cores = MAX_THREADS;
    if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0 && quota > 0) /* "max 100000" reads none */
        cores = (int)fmin(MAX_THREADS, fmax(1, floor(quota / period)));
    fclose(f);
    return cores;
}

int platform_threads(void) {
    int threads = (int)fmin(omp_get_max_threads(), MAX_THREADS); /* knows OMP_NUM_THREADS and affinity */
    if (getenv("OMP_NUM_THREADS")) return threads;
    return (int)fmin(fmin(threads, share), quota_cores());
}

CoreSet platform_cores(void) {
    CoreSet set = {0};
#ifdef __linux__
    _Static_assert(sizeof set == 512, "up to 4096 cores");
    if (syscall(SYS_sched_getaffinity, 0, sizeof set, &set) > 0) return set;
#endif
    for (int c = 0; c < omp_get_num_procs() && c < 64 * PLATFORM_CORE_WORDS; c++)
        set.words[c / 64] |= UINT64_C(1) << (c % 64);
    return set;
}

int platform_core_count(const CoreSet *cores) {
    int count = 0;
    for (int w = 0; w < PLATFORM_CORE_WORDS; w++) count += __builtin_popcountll(cores->words[w]);
    return (int)fmin(count, quota_cores());
}

static int own_number;
int platform_process_number(void) { return own_number; }

void platform_share_cores(const CoreSet *cores, int processes, int number) {
    own_number = number;
    has_core = number < platform_core_count(cores);
    share = (int)fmax(1, floor((double)platform_core_count(cores) / processes));
    omp_set_num_threads(platform_threads());
}

bool platform_has_avx512(void) {
#if defined __x86_64__ && defined __GNUC__
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

/* Every parallel region of the program, also those before a device is made. */
__attribute__((constructor)) static void limit_threads(void) { omp_set_num_threads(platform_threads()); }

bool platform_terminal(int file) {
    const char *kind = getenv("TERM");
    return isatty(file) && !(kind && strcmp(kind, "dumb") == 0);
}

/* ---- sleeping ---- */

#ifdef __linux__

void platform_sleep_on(_Atomic uint32_t *word, uint32_t seen, double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(1e9 * (seconds - floor(seconds)))};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0);
}

void platform_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0); }

#else

/* No word to sleep on: look every 50 microseconds. */
void platform_sleep_on(_Atomic uint32_t *word, uint32_t seen, double seconds) {
    for (double left = seconds; left > 0 && atomic_load(word) == seen; left -= 50e-6)
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

void platform_wake(_Atomic uint32_t *word) { (void)word; }

#endif

/* ---- names ---- */

#if defined __linux__ && defined __GLIBC__

/* The arguments, which lie one behind the other in memory that ps reads. */
static char *arguments;
static size_t arguments_bytes;

__attribute__((constructor)) static void keep_arguments(int argc, char **argv) {
    if (argc < 1) return;
    arguments = argv[0];
    arguments_bytes = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]) + 1;
}

void platform_rename_process(const char *name) {
    prctl(PR_SET_NAME, name);
    if (!arguments) return;
    memset(arguments, 0, arguments_bytes);
    memcpy(arguments, name, (size_t)fmin((double)strlen(name), (double)arguments_bytes - 1));
}

#else

void platform_rename_process(const char *name) { (void)name; }

#endif

/* The first of these variables that is there, as a number. */
static int first_variable(const char *const *names, size_t count, int otherwise) {
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(names[i]);
        if (value) return atoi(value);
    }
    return otherwise;
}

int platform_rank(void) {
    static const char *const names[] = {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID"};
    return first_variable(names, sizeof names / sizeof *names, -1);
}

int platform_local_rank(void) {
    static const char *const names[] = {"MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID",
                                        "PALS_LOCAL_RANKID"};
    return first_variable(names, sizeof names / sizeof *names, -1);
}

int platform_ranks(void) {
    static const char *const names[] = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"};
    return platform_rank() < 0 ? 1 : first_variable(names, sizeof names / sizeof *names, 1);
}

/* ---- memory that processes share ---- */

static int with_size(int file, int64_t bytes) {
    if (file >= 0 && ftruncate(file, bytes) == 0) return file;
    if (file >= 0) close(file);
    return -1;
}

#ifdef __linux__

int platform_memory_new(int64_t bytes, MemoryPath *path) {
    int file = memfd_create("shard", MFD_CLOEXEC);
    snprintf(path->text, sizeof path->text, "/proc/%d/fd/%d", (int)getpid(), file);
    return with_size(file, bytes);
}

void platform_memory_unname(const MemoryPath *path) { (void)path; /* the name goes with the process */ }

int platform_memory_reserve(int file, int64_t offset, int64_t bytes) {
    int error;
    do error = posix_fallocate(file, offset, bytes);
    while (error == EINTR);
    return error;
}

#else

int platform_memory_new(int64_t bytes, MemoryPath *path) {
    snprintf(path->text, sizeof path->text, "/tmp/shard-memory-XXXXXX");
    return with_size(mkstemp(path->text), bytes);
}

void platform_memory_unname(const MemoryPath *path) { unlink(path->text); }

int platform_memory_reserve(int file, int64_t offset, int64_t bytes) {
    (void)file, (void)offset, (void)bytes; /* no such call everywhere */
    return 0;
}

#endif

int platform_memory_open(const MemoryPath *path) { return open(path->text, O_RDWR | O_CLOEXEC); }

void platform_look_again(int looks) {
    enum { AT_ONCE = 64, STEP_MICROSECONDS = 5, LONGEST_MICROSECONDS = 200 };
    if (looks < AT_ONCE) {
        sched_yield();
        return;
    }
    int longer = looks - AT_ONCE + 1;
    bool longest = longer > LONGEST_MICROSECONDS / STEP_MICROSECONDS; /* also after a day of looking */
    usleep((useconds_t)(longest ? LONGEST_MICROSECONDS : longer * STEP_MICROSECONDS));
}
