/* mpiexec ends a job when a rank dies, but does not say which rank it was, or names another: when it looks, the others
 * that it has killed are as dead as the first. So each rank is connected to a watcher, which sees the connection end
 * the moment the rank dies. A rank also hands it a copy of the socket that mpiexec's helper listens to (PMI_FD), so
 * mpiexec mostly learns of the death when the watcher lets go of that, after the rank has been named. Where the helper
 * notices by itself and kills the others before the watcher has had a turn, several connections have ended; epoll gives
 * them in the order in which they did.
 *
 * The watcher is a process of its own session, which mpiexec does not know and so does not kill. It ends with the last
 * rank of its machine, and it is the one who removes the socket that they have met at: the ranks may be dead by then. */
#define _GNU_SOURCE
#include "common/comm/watch.h"

#include "common/base/base.h"
#include "common/base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { NO_FD = -1, GRACE_MS = 1000 };

typedef struct {
    int rank, ranks; /* ranks: of this machine */
    pid_t process;
} Hello;

/* What a rank says before it ends: all is well, or it has given its reason itself (exit was called). Nothing: it
 * died. */
static const char LEAVE_WELL = 'w', LEAVE_TOLD = 't';

/* ---- in the rank ---- */

static int connection = NO_FD;

static void leave(char how) {
    if (connection == NO_FD) return;
    ssize_t written = write(connection, &how, 1);
    (void)written; /* the watcher is gone: nobody to tell */
    connection = NO_FD;
}

void watch_leave(void) { leave(LEAVE_WELL); }

static void leave_at_exit(void) { leave(LEAVE_TOLD); }

/* An open file that a variable names by its number. */
static int fd_of(const char *variable) {
    const char *text = getenv(variable);
    int fd = text ? atoi(text) : NO_FD;
    return fd > STDERR_FILENO && fcntl(fd, F_GETFD) >= 0 ? fd : NO_FD;
}

void watch_join(const char *path, int rank, int ranks) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof address.sun_path) return;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    connection = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0, NULL,
          "rank %d cannot connect to the watcher at %s: %s", rank, path, strerror(errno));
    fcntl(connection, F_SETFD, FD_CLOEXEC); /* a child of the rank must not keep it open */
    Hello hello = {rank, ranks, getpid()};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&hello, sizeof hello};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int fd = fd_of("PMI_FD"); /* the socket to mpiexec's helper, where there is one */
    if (fd != NO_FD) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    CHECK(sendmsg(connection, &message, 0) == sizeof hello, NULL, "rank %d cannot speak to the watcher: %s",
          rank, strerror(errno));
    atexit(leave_at_exit);
    base_before_sudden_end(leave_at_exit);
}

/* ---- in the watcher ---- */

typedef struct {
    Hello hello;
    int connection, launcher; /* NO_FD: closed */
    char left;                /* what it said when it left; 0: nothing yet */
} Watched;

static Watched *watched;
static int watched_count;

/* Which of the watched an event is about. */
enum { LISTENER = -1 };
static void look_for(int events, int fd, int which) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = which};
    CHECK(epoll_ctl(events, EPOLL_CTL_ADD, fd, &event) == 0, NULL, "the watcher cannot wait for a rank: %s",
          strerror(errno));
}

static void watch_new(int events, int listener) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return;
    Watched w = {.connection = fd, .launcher = NO_FD};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {&w.hello, sizeof w.hello};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    if (recvmsg(fd, &message, MSG_WAITALL) != sizeof w.hello) {
        close(fd);
        return;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c && c->cmsg_type == SCM_RIGHTS) memcpy(&w.launcher, CMSG_DATA(c), sizeof w.launcher);
    watched = xrealloc(watched, (size_t)(watched_count + 1) * sizeof *watched);
    look_for(events, fd, watched_count);
    watched[watched_count++] = w;
}

static void let_go(int *fd) {
    if (*fd != NO_FD) close(*fd);
    *fd = NO_FD;
}

/* Is mpiexec taking the job down? Then its helper, which kills the ranks, closes its side as it ends. */
static bool launcher_leaves(const Watched *w) {
    if (w->launcher == NO_FD) return false;
    struct pollfd p = {.fd = w->launcher};
    return poll(&p, 1, 200) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void name_dead(const Watched *w) {
    char host[256] = "?";
    gethostname(host, sizeof host - 1);
    dprintf(STDERR_FILENO,
            "%s: error: rank %d died (process %d on %s) and ends the job (hint: it was killed, by a lack of "
            "memory perhaps, or it crashed)\n",
            base_program(), w->hello.rank, (int)w->hello.process, host);
}

/* Those that are still there some time after the job was to end. */
static void kill_rest(void) {
    for (int i = 0; i < watched_count; i++)
        if (watched[i].connection != NO_FD) kill(watched[i].hello.process, SIGKILL);
}

/* A connection has something to read, or has ended. true: the job is to end. */
static bool look_at(Watched *w, bool ending) {
    char how;
    ssize_t n = recv(w->connection, &how, 1, MSG_DONTWAIT);
    if (n == 1) {
        w->left = how;
        return false;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (!w->left && !ending && !launcher_leaves(w)) name_dead(w);
    let_go(&w->connection);
    let_go(&w->launcher);
    return w->left != LEAVE_WELL;
}

static void watch(int listener, const char *folder, pid_t parent) {
    int events = epoll_create1(EPOLL_CLOEXEC), open = 0;
    bool ending = false;
    look_for(events, listener, LISTENER);
    while (open > 0 || watched_count == 0 || watched_count < watched[0].hello.ranks) {
        struct epoll_event event;
        int ready = epoll_wait(events, &event, 1, GRACE_MS);
        if (ready == 0 && ending) kill_rest();
        if (ready == 0 && open == 0 && getppid() != parent) return; /* it never came to a job */
        if (ready > 0 && event.data.fd == LISTENER) {
            watch_new(events, listener);
            if (watched_count > 0 && watched_count == watched[0].hello.ranks) file_remove(folder);
        }
        if (ready > 0 && event.data.fd != LISTENER) ending |= look_at(&watched[event.data.fd], ending);
        open = 0;
        for (int i = 0; i < watched_count; i++) open += watched[i].connection != NO_FD;
    }
}

/* ---- the start ---- */

const char *watch_start(void) {
    static char path[108]; /* what a socket's address holds */
    if (platform_local_rank() != 0) return "";
    char *folder = file_temp_folder("shard");
    CHECK(snprintf(path, sizeof path, "%s/watch", folder) < (int)sizeof path,
          "set TMPDIR to a folder with a short name", "the name '%s' is too long for a socket", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
              listen(listener, 128) == 0,
          "set TMPDIR to a folder on a local disk", "cannot listen at '%s': %s", path, strerror(errno));
    fflush(stdout);
    pid_t self = getpid(), child = fork();
    CHECK(child >= 0, NULL, "cannot start the watcher: %s", strerror(errno));
    if (child == 0) {
        setsid();
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        base_set_program(xstrdup(base_program())); /* its name may lie where the new one goes */
        platform_rename_process("rank-watcher");
        /* above all the rank's own PMI_FD, and pipes that others wait to see closed. mpiexec's helper waits for stderr, and
         * so it is still there when the watcher looks; where that is a file (tools/launch), the pipe has another number */
        int mpiexec = fd_of("SHARD_MPIEXEC_FD");
        for (int fd = 0; fd < 1024; fd++)
            if (fd != STDERR_FILENO && fd != listener && fd != mpiexec) close(fd);
        watch(listener, folder, self);
        file_remove(folder);
        _exit(0);
    }
    close(listener);
    free(folder);
    return path;
}
