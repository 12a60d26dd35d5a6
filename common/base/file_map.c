/* Files as memory. A file that another program shortens has pages that are no longer there: reading one is a signal,
 * SIGBUS, which is made an error here. In a signal handler only few calls are allowed, so its message is made when the
 * file is mapped. What is behind the new end in the last page reads as zeros, without a signal:
 * file_check_unchanged. */
#define _GNU_SOURCE
#include "common/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#    define st_mtim st_mtimespec
#endif

typedef struct Map {
    const char *data;
    size_t count;
    char *path, *shortened; /* the message */
    struct stat info;
    struct Map *next;
} Map;

static _Atomic(Map *) maps; /* a handler reads it at any moment: entries are added whole, and stay */
static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER;

static const char hint[] = "leave the file alone until the program has ended, then start it again";

static Map *map_at(const void *address) {
    const char *at = address;
    for (Map *m = atomic_load(&maps); m; m = m->next)
        if (m->data && at >= m->data && at < m->data + m->count) return m;
    return NULL;
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    const Map *m = map_at(info->si_addr);
    if (m) fail_at_signal(m->shortened);
    signal(number, SIG_DFL); /* not ours: it happens again, and ends the program */
}

static void add_map(Map map) {
    pthread_mutex_lock(&adding);
    Map *m = atomic_load(&maps);
    while (m && m->data) m = m->next; /* one that is no longer needed */
    if (m) {
        free(m->path);
        free(m->shortened);
        map.next = m->next;
        const char *data = map.data;
        map.data = NULL; /* until the rest is there */
        *m = map;
        m->data = data;
    } else {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
        sigemptyset(&action.sa_mask);
        sigaction(SIGBUS, &action, NULL);
        m = xmalloc(sizeof *m);
        map.next = atomic_load(&maps);
        *m = map;
        atomic_store(&maps, m);
    }
    pthread_mutex_unlock(&adding);
}

const void *file_map(const char *path, size_t *count) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, "check the path and its permissions", "cannot open '%s' for reading: %s", path,
          strerror(errno));
    Map map = {0};
    CHECK(fstat(fd, &map.info) == 0 && S_ISREG(map.info.st_mode), "name a plain file",
          "cannot map '%s': not a file", path);
    *count = map.count = (size_t)map.info.st_size;
    if (map.count > 0) {
        map.data = mmap(NULL, map.count, PROT_READ, MAP_PRIVATE, fd, 0);
        CHECK(map.data != MAP_FAILED, NULL, "cannot map '%s': %s", path, strerror(errno));
        map.path = xstrdup(path);
        map.shortened = xprintf("%s: error: '%s' was shortened while it was read (hint: %s)\n",
                                base_program(), path, hint);
        add_map(map);
    }
    close(fd);
    return map.data;
}

void file_check_unchanged(const void *data) {
    const Map *m = map_at(data);
    struct stat now;
    /* the name may be that of another file by now: the one that is mapped stays as it was */
    if (!m || stat(m->path, &now) != 0 || now.st_ino != m->info.st_ino || now.st_dev != m->info.st_dev)
        return;
    CHECK(now.st_size == m->info.st_size && now.st_mtim.tv_sec == m->info.st_mtim.tv_sec &&
              now.st_mtim.tv_nsec == m->info.st_mtim.tv_nsec,
          hint, "'%s' was changed while it was read", m->path);
}

void file_unmap(const void *data, size_t count) {
    Map *m = map_at(data);
    if (!m) return;
    m->data = NULL;
    munmap((void *)(uintptr_t)data, count);
}
