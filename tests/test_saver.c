/* Saving while training goes on: a save returns before its files are on the disk, which cannot change them any more; the set
 * has its name when every rank's file is there, and not before; one rank that cannot write loses nothing, and is named. So many
 * sets stay as are asked for.
 *
 * The disk of a rank can be held, or can fail, here: fopen and fsync go through this file.
 *
 * TEST np: 3, all: 1 2 8
 * TEST variants: float, all: asan */
#define _GNU_SOURCE
#include "common/cpu/device_cpu.h"
#include "common/run/saver.h"
#include "common/run/stored.h"
#include "tests/ranks.h"
#include "tests/saved.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static atomic_bool disk_held, disk_fails;

/* Does this path lead to what a rank writes of a set, and not to its record? */
static bool is_part(const char *path) { return strstr(path, "/part-") && !strstr(path, ".done"); }

/* A rank whose disk is held has not even begun to write. */
FILE *fopen(const char *path, const char *mode) {
    FILE *(*real_call)(const char *, const char *);
    void *symbol = dlsym(RTLD_NEXT, "fopen");
    memcpy(&real_call, &symbol, sizeof symbol);
    while (is_part(path) && atomic_load(&disk_held)) usleep(1000);
    return real_call(path, mode);
}

int fsync(int fd) { /* a test's files need not survive the machine */
    char *link = xprintf("/proc/self/fd/%d", fd), path[1024] = "";
    if (readlink(link, path, sizeof path - 1) < 0) path[0] = 0;
    free(link);
    if (!is_part(path) || !atomic_load(&disk_fails)) return 0;
    errno = EIO;
    return -1;
}

enum { COUNT = 5000 };
static Comm *world;
static Tokenizer *tokenizer;
static char *folder;
static Config config;

/* ---- a model of one parameter, of which each rank has a shard ---- */

typedef struct {
    Device *device;
    Params params;
    Optimizer *optimizer;
    Parts parts;
} Holder;

static Holder *holder_new(void) {
    Holder *h = xcalloc(1, sizeof *h);
    h->device = device_new_cpu(0);
    Params whole = {.device = h->device, .planned = true};
    Param *p = params_add(&whole, "weight", SHAPE(COUNT / 50, 50));
    int64_t share = ceil_div(COUNT, world->size), from = world->rank * share;
    h->params = (Params){.device = h->device, .planned = true};
    Param *piece = params_add_piece(&h->params, p, from, min64(share, COUNT - from));
    Tensor memory = tensor_new(h->device, MEMORY_PARAMETERS, "shard", TYPE_REAL, piece->data.shape);
    param_place_data(piece, &memory, 0);
    h->optimizer = optimizer_new(&h->params, &config);
    h->parts = (Parts){world, h->optimizer, false};
    params_free(&whole);
    return h;
}

static void holder_delete(Holder *h) {
    optimizer_delete(h->optimizer);
    Tensor memory = h->params.items[0]->data;
    params_free(&h->params);
    tensor_free(&memory);
    device_delete(h->device);
    free(h);
}

static real value(int64_t step, int kind, int64_t index) {
    return (real)(step * 100 + kind) + (real)index / COUNT;
}

/* What it holds after so many steps. */
static void set_step(Holder *h, int64_t step) {
    const Param *p = h->params.items[0];
    int64_t count = tensor_count(&p->data), run;
    real elements[COUNT];
    for (int kind = 0; kind < 3; kind++) {
        int64_t first = param_whole_index(p, 0, &run);
        for (int64_t i = 0; i < count; i++) elements[i] = value(step, kind, first + i);
        tensor_write(kind == 0   ? &h->params.items[0]->data
                     : kind == 1 ? h->optimizer->m
                                 : h->optimizer->v,
                     0, count, elements);
    }
    h->optimizer->step = (int32_t)step;
}

/* ---- what lies in the folder ---- */

static bool there(int64_t step, const char *suffix) {
    char *path = xprintf("%s/checkpoint/step-%06lld%s", folder, (long long)step, suffix);
    bool exists = file_exists(path);
    free(path);
    return exists;
}

/* The newest set is of this step, and every number in it. Rank 0 looks. */
static bool newest_is(int64_t step) {
    if (world->rank > 0) return true;
    Checkpoint *checkpoint = checkpoint_open_latest(folder);
    if (!checkpoint) return step < 0;
    bool right = checkpoint->step == step;
    Stored *stored = stored_open(checkpoint);
    static const char *const names[] = {"weight", "m.weight", "v.weight"};
    for (int kind = 0; kind < 3; kind++) {
        real all[COUNT];
        stored_read_whole(stored, stored_find(stored, names[kind]), all);
        for (int64_t i = 0; i < COUNT; i++) right &= all[i] == value(step, kind, i);
    }
    stored_close(stored);
    checkpoint_close(checkpoint);
    return right;
}

static void start_anew(void) {
    char *sets = xprintf("%s/checkpoint", folder);
    if (world->rank == 0) file_remove(sets);
    comm_barrier(world, NULL);
    free(sets);
}

/* What rank 0 says on stderr from here on, until said. */
static int errors = -1;
static char *errors_path;
static void listen(void) {
    fflush(stderr);
    errors = dup(STDERR_FILENO);
    if (world->rank == 0 && !freopen(errors_path, "w", stderr)) exit(9);
}
static char *said(void) {
    fflush(stderr);
    dup2(errors, STDERR_FILENO);
    close(errors);
    return world->rank == 0 ? file_read(errors_path, NULL) : xstrdup("");
}

/* ---- in order ---- */

static void test_while_training(Holder *h) {
    start_anew();
    Saver *saver = saver_new(&config, &h->parts, tokenizer);
    set_step(h, 1);
    saver_save(saver, 10);
    ok_on_all(world, saver_wait(saver) && newest_is(1), "a set of all ranks' files");
    comm_barrier(world, NULL);

    int last = world->size - 1;
    atomic_store(&disk_held, world->rank == last);
    set_step(h, 2);
    saver_save(saver, 20);
    for (int64_t step = 3; step < 6; step++) set_step(h, step); /* training goes on */
    ok_on_all(world, newest_is(1) && !there(2, "") && there(2, ".tmp"),
              "a save returns while a disk is held, and its set has no name yet");
    comm_barrier(world, NULL);
    atomic_store(&disk_held, false);
    ok_on_all(world, saver_wait(saver) && newest_is(2) && !there(2, ".tmp"),
              "it holds what there was when it was called");
    comm_barrier(world, NULL);

    for (int64_t step = 3; step < 7; step++) {
        set_step(h, step);
        saver_save(saver, 10 * step); /* waits for the one before */
        set_step(h, step + 1);
    }
    ok_on_all(world, saver_wait(saver) && newest_is(6) && there(5, "") && there(4, "") && !there(3, ""),
              "one after the other; three stay");
    comm_barrier(world, NULL);
    saver_close(saver);
}

static void test_at_once(Holder *h) {
    start_anew();
    Config at_once = config;
    at_once.async_save = false;
    Saver *saver = saver_new(&at_once, &h->parts, tokenizer);
    set_step(h, 1);
    saver_save(saver, 10);
    ok_on_all(world, newest_is(1), "--no-async-save: it is there when the call returns");
    comm_barrier(world, NULL);
    saver_close(saver);
}

/* ---- what fails ---- */

/* Step 3 cannot be saved; step 2 stays, and step 4 is saved again. */
static void around_failure(Holder *h, void (*break_disk)(bool broken), const char *names, const char *what) {
    start_anew();
    Saver *saver = saver_new(&config, &h->parts, tokenizer);
    set_step(h, 2);
    saver_save(saver, 20);
    bool saved = saver_wait(saver);
    comm_barrier(world, NULL);
    break_disk(true);
    listen();
    set_step(h, 3);
    saver_save(saver, 30);
    bool failed = !saver_wait(saver);
    char *text = said();
    break_disk(false);
    ok_on_all(world, saved && failed && newest_is(2) && !there(3, "") && !there(3, ".tmp"),
              "%s: every rank knows, and the set before it stays", what);
    bool named = world->rank > 0 ||
                 (strstr(text, "warning: the checkpoint of step 3 was not saved: ") && strstr(text, names) &&
                  !strstr(text, ".done") && strchr(text, '\n') == strrchr(text, '\n'));
    ok_on_all(world, named, "%s: %s", what, world->rank == 0 ? text : "");
    comm_barrier(world, NULL);
    set_step(h, 4);
    saver_save(saver, 40);
    ok_on_all(world, saver_wait(saver) && newest_is(4), "%s: the next one is saved", what);
    comm_barrier(world, NULL);
    saver_close(saver);
    free(text);
}

static bool last_rank(void) { return world->rank == world->size - 1; }

static void fill_disk(bool broken) {
    struct rlimit limit = {broken && last_rank() ? 1000 : RLIM_INFINITY, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}
static void fail_sync(bool broken) { atomic_store(&disk_fails, broken && last_rank()); }
/* The folder of the set to come cannot be made. */
static void block_folder(bool broken) {
    char *aside = xprintf("%s/aside", folder), *sets = xprintf("%s/checkpoint", folder);
    if (world->rank == 0 && broken) {
        file_commit(sets, aside);
        file_write(sets, "", 0);
    } else if (world->rank == 0) {
        file_remove(sets);
        file_commit(aside, sets);
    }
    comm_barrier(world, NULL);
    free(aside);
    free(sets);
}

static void test_blocked_folder(Holder *h) {
    start_anew();
    Saver *saver = saver_new(&config, &h->parts, tokenizer);
    set_step(h, 2);
    saver_save(saver, 20);
    bool saved = saver_wait(saver);
    block_folder(true);
    listen();
    set_step(h, 3);
    saver_save(saver, 30);
    bool failed = !saver_wait(saver);
    char *text = said();
    block_folder(false);
    ok_on_all(world, saved && failed && newest_is(2),
              "no folder: every rank knows, and the set before it stays");
    ok_on_all(world, world->rank > 0 || strstr(text, "rank 0: cannot make the folder"), "no folder: %s",
              world->rank == 0 ? text : "");
    set_step(h, 4);
    saver_save(saver, 40);
    saver_close(saver);
    ok_on_all(world, newest_is(4), "no folder: saver_close waits for the next one");
    comm_barrier(world, NULL);
    free(text);
}

int main(void) {
    world = ranks_world();
    folder = ranks_folder(world);
    errors_path = xprintf("%s/errors", folder);
    tokenizer = small_tokenizer();
    config = *config_preset("tiny");
    config.output_dir = folder;
    config.keep_checkpoints = 3;

    Holder *h = holder_new();
    char name[64];
    snprintf(name, sizeof name, "rank %d: cannot write '", world->size - 1);
    test_while_training(h);
    test_at_once(h);
    around_failure(h, fill_disk, name, "a full disk on one rank");
    snprintf(name, sizeof name, "rank %d: cannot sync '", world->size - 1);
    around_failure(h, fail_sync, name, "a disk that fails on one rank");
    test_blocked_folder(h);
    holder_delete(h);
    ranks_folder_remove(world, folder);
    free(errors_path);
    tokenizer_free(tokenizer);
    comm_close(world);
    return tap_done();
}
