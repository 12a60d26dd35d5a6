#define _GNU_SOURCE
#include "common/draw/gnuplot.h"

#include "common/draw/pictures.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const double PATIENCE_SECONDS = 60; /* a picture takes well under one */

/* ---- what all scripts have in common ---- */

const char *gnuplot_color(int number) {
    static const char *const colors[] = {"0072b2", "d55e00", "009e73", "cc79a7",
                                         "e69f00", "56b4e9", "444444", "f0e442"};
    return colors[(number - 1) % COUNT_OF(colors)];
}

/* Red, green and blue, 0 to 255. */
static void components(const char *color, unsigned rgb[3]) {
    ASSERT(sscanf(color, "%2x%2x%2x", &rgb[0], &rgb[1], &rgb[2]) == 3);
}

GnuplotShade gnuplot_shade(const char *color, double part) {
    unsigned rgb[3];
    GnuplotShade shade;
    components(color, rgb);
    for (int i = 0; i < 3; i++) rgb[i] = (unsigned)(255.5 + part * ((double)rgb[i] - 255)) & 255;
    snprintf(shade.text, sizeof shade.text, "%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
    return shade;
}

const char *gnuplot_ink_on(const char *color) {
    unsigned rgb[3];
    components(color, rgb);
    return 0.3 * rgb[0] + 0.6 * rgb[1] + 0.1 * rgb[2] > 128 ? "222222" : "ffffff";
}

void gnuplot_quoted(Str *script, const char *text) {
    str_add(script, "'", 1);
    for (; *text; text++) {
        if (*text == '\'')
            str_printf(script, "'.\"'\".'");
        else
            str_add(script, (unsigned char)*text < 0x20 ? " " : text, 1);
    }
    str_add(script, "'", 1);
}

void gnuplot_terminal(Str *script, const char *path, int width, int height) {
    size_t length = strlen(path);
    bool svg = length > 4 && !strcmp(path + length - 4, ".svg");
    str_printf(
        script,
        "set encoding utf8\nset terminal %s noenhanced size %d,%d font 'Sans,12' background '#ffffff'\n",
        svg ? "svg" : "pngcairo", width, height);
}

/* ---- running gnuplot ---- */

/* Says it once: a run redraws its picture many times. */
static void complain(const char *path, const char *why) {
    static bool said;
    pictures_note(path, false);
    if (!said) warn("no picture '%s': %s", path, why);
    said = true;
}

static void forget(GnuplotJob *job) {
    free(job->temporary);
    free(job->path);
    *job = (GnuplotJob){0};
}

/* The child reads `script` and writes to `out`; it has a process group of its own, so that Ctrl-C, which asks
 * a run to finish, does not end the picture. */
static int spawn_gnuplot(pid_t *child, int script, int out) {
    static const char *const argv[] = {"gnuplot", "--default-settings", "-", NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, script, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    int error = posix_spawnp(child, argv[0], &files, &attributes, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error;
}

bool gnuplot_start(GnuplotJob *job, const Str *text, const char *path) {
    *job = (GnuplotJob){.temporary = xprintf("%s.tmp", path), .path = xstrdup(path)};

    FILE *script = tmpfile();
    int out = open(job->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), error = 0;
    bool ready = script && out >= 0 && fwrite(text->data, 1, text->count, script) == text->count &&
                 fseek(script, 0, SEEK_SET) == 0;
    if (!ready)
        complain(path, strerror(errno));
    else if ((error = spawn_gnuplot(&job->child, fileno(script), out)))
        complain(path, error == ENOENT ? "there is no gnuplot (hint: install it, make deps does)"
                                       : strerror(error));
    bool started = ready && !error;
    if (!started) {
        unlink(job->temporary);
        forget(job);
    }
    if (script) fclose(script);
    if (out >= 0) close(out);
    return started;
}

/* Does the file end as a picture of its kind does? gnuplot takes it for a success when the disk is full. */
static bool whole(const GnuplotJob *job) {
    size_t length = strlen(job->path), bytes;
    bool svg = length > 4 && !strcmp(job->path + length - 4, ".svg");
    const char *end = svg ? "</svg>" : "IEND\xae\x42\x60\x82";
    char *data = file_read(job->temporary, &bytes);
    while (bytes && data[bytes - 1] == '\n') bytes--;
    bool ends = bytes >= strlen(end) && !memcmp(data + bytes - strlen(end), end, strlen(end));
    free(data);
    return ends;
}

bool gnuplot_collect(GnuplotJob *job, bool *drawn) {
    int status = 0;
    struct stat info;
    pid_t ended = waitpid(job->child, &status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR)) return false;
    /* ended < 0: somebody else waited for it, and the file must speak for itself */
    bool fine = (ended < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) &&
                stat(job->temporary, &info) == 0 && info.st_size > 0;
    bool cut = fine && !whole(job);
    *drawn = fine && !cut && rename(job->temporary, job->path) == 0;
    if (*drawn) {
        pictures_note(job->path, true);
    } else {
        unlink(job->temporary);
        complain(job->path,
                 cut ? "gnuplot left half of it (hint: is the disk full?)"
                     : "gnuplot failed (hint: it must be version 5 or later, with the pngcairo and svg "
                       "terminals)");
    }
    forget(job);
    return true;
}

bool gnuplot_wait(GnuplotJob *job) {
    bool drawn = false;
    double start_time = now_seconds();
    while (!gnuplot_collect(job, &drawn)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        if (now_seconds() - start_time > PATIENCE_SECONDS) kill(job->child, SIGKILL);
    }
    return drawn;
}
