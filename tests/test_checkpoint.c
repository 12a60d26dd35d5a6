/* TEST variants: float asan
 * Checkpoints: what is saved comes back; a set with a damaged, missing, short or foreign file is refused by
 * that file's name, and the one before is offered; a full disk costs nothing. */
#define _GNU_SOURCE
#include "tests/checkpoint_run.h"

#include <stdlib.h>
#include <signal.h>
#include <sys/resource.h>

static bool set_exists(int64_t step, const char *suffix) {
    char *path = set(step, suffix);
    bool there = file_exists(path);
    free(path);
    return there;
}

/* ---- in order ---- */

static void test_round_trip(void) {
    ok(!checkpoint_open_latest(folder), "a run without checkpoints has none");
    save(100);
    Exit e = expect_exit(load_newest, NULL);
    ok(e.status == 11, "step 100 is saved and comes back (%d) %s", e.status, e.text);
    save(200);
    save(300);
    e = expect_exit(load_newest, NULL);
    ok(e.status == 13 && set_exists(200, "") && !set_exists(100, "") && !set_exists(300, ".tmp"),
       "the last two sets stay, the newest is loaded (%d) %s", e.status, e.text);
    save(300);
    e = expect_exit(load_newest, NULL);
    ok(e.status == 13 && set_exists(200, "") && !set_exists(300, ".replaced"), "the same step once more");
    Checkpoint *checkpoint = checkpoint_open_latest(folder);
    ok(checkpoint_has(checkpoint, "model.safetensors") && !checkpoint_has(checkpoint, "manifest.json"),
       "what it has");
    checkpoint_close(checkpoint);

    checkpoint_set_aside(folder);
    ok(!checkpoint_open_latest(folder), "set aside");
    save(50);
    checkpoint_set_aside(folder);
    char *old = xprintf("%s/checkpoint.old/step-000050", folder);
    checkpoint = checkpoint_open(old);
    ok(checkpoint->step == 50, "what was set aside last is still there");
    checkpoint_close(checkpoint);
    checkpoint_set_aside(folder);
    ok(file_exists(old), "nothing to set aside leaves what was set aside");
    free(old);
}

static void load_other_file(void *argument) {
    (void)argument;
    checkpoint_path(checkpoint_open_latest(folder), "scheduler.json");
}

static void test_other_file(void) {
    save(100);
    Exit e = expect_exit(load_other_file, NULL);
    ok(refused(&e, 1, "step-000100' has no file 'scheduler.json'"), "%s", e.text);
}

/* ---- damage ---- */

static void copy_file(const char *from, const char *to) {
    size_t bytes;
    char *data = file_read(from, &bytes);
    file_write(to, data, bytes);
    free(data);
}

/* What loading says after `damage` was done to one file of the newest of two sets. */
static Exit after(const char *file, void (*damage)(const char *path)) {
    start_anew();
    save(100);
    save(200);
    char *name = xprintf("/%s", file), *path = set(200, name);
    damage(path);
    free(name);
    free(path);
    return expect_exit(load_newest, NULL);
}

/* where: 0 is the first byte, 1 the last one */
static void flip(const char *path, double where) {
    size_t bytes;
    char *data = file_read(path, &bytes);
    data[(size_t)(where * (double)(bytes - 1))] ^= 1;
    file_write(path, data, bytes);
    free(data);
}
static void flip_first(const char *path) { flip(path, 0); }
static void flip_middle(const char *path) { flip(path, 0.5); }
static void flip_last(const char *path) { flip(path, 1); }

static void cut(const char *path) {
    size_t bytes;
    char *data = file_read(path, &bytes);
    file_write(path, data, bytes - 1);
    free(data);
}

static void empty(const char *path) { file_write(path, "", 0); }

static void lengthen(const char *path) {
    size_t bytes;
    char *data = file_read(path, &bytes);
    file_write(path, data, bytes + 1); /* file_read puts a zero behind */
    free(data);
}

static void mix(const char *path) { /* the same file of the other set */
    char *other = xstrdup(path), *digits = strstr(other, "step-000200");
    digits[strlen("step-000")] = '1';
    copy_file(other, path);
    free(other);
}

static void make_folder(const char *path) {
    file_remove(path);
    file_make_folder(path);
}

static void test_damage(void) {
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "state.json",
                                        "tokenizer.json", "manifest.json"};
    static const struct {
        const char *name;
        void (*act)(const char *path);
    } damages[] = {{"first byte flipped", flip_first},
                   {"middle byte flipped", flip_middle},
                   {"last byte flipped", flip_last},
                   {"cut by a byte", cut},
                   {"emptied", empty},
                   {"longer by a byte", lengthen},
                   {"from the other set", mix},
                   {"removed", file_remove},
                   {"a folder", make_folder}};
    for (int f = 0; f < COUNT_OF(files); f++)
        for (int d = 0; d < COUNT_OF(damages); d++) {
            if (damages[d].act == mix && !strcmp(files[f], "tokenizer.json")) continue; /* the same in both */
            bool resized = damages[d].act == cut || damages[d].act == empty || damages[d].act == lengthen;
            bool says_size = resized && strcmp(files[f], "manifest.json");
            char *named = xprintf("file '%s'", files[f]);
            Exit e = after(files[f], damages[d].act);
            ok(refused(&e, 1, named) && strstr(e.text, "step-000100' is complete") &&
                   !strstr(e.text, "bytes long") == !says_size,
               "%s, %s: %s", files[f], damages[d].name, e.text);
            free(named);
        }

    char *newest = set(200, ""), *previous = set(100, "/model.safetensors");
    after("state.json", cut);
    file_remove(newest);
    Exit e = expect_exit(load_newest, NULL);
    ok(e.status == 11, "doing as the hint says goes on from step 100: %s", e.text);
    after("state.json", cut);
    cut(previous);
    e = expect_exit(load_newest, NULL);
    ok(refused(&e, 1, "no earlier complete checkpoint"), "both damaged: %s", e.text);
    free(newest);
    free(previous);

    start_anew();
    save(100);
    char *place = set(100, ""), *elsewhere = set(700, "");
    file_commit(place, elsewhere);
    e = expect_exit(load_newest, NULL);
    ok(refused(&e, 1, "belongs to step 100"), "a renamed set: %s", e.text);
    free(place);
    free(elsewhere);
}

/* A manifest whose own checksum is right is still not believed. */
static void test_other_folders(void) {
    static const char *const strangers[] = {"step-", "step-12x", "step--5", "stepping",
                                            "step-99999999999999999999"};
    start_anew();
    save(100);
    for (int i = 0; i < COUNT_OF(strangers); i++) {
        char *path = xprintf("%s/checkpoint/%s", folder, strangers[i]);
        file_make_folder(path);
        free(path);
    }
    Exit e = expect_exit(load_newest, NULL);
    ok(e.status == 11, "folders of other names are left alone: %s", e.text);
}

/* ---- a full disk ---- */

static void save_on_full_disk(void *argument) {
    struct rlimit limit = {*(rlim_t *)argument, RLIM_INFINITY}; /* bytes a file may have */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    save(300);
}

static void test_full_disk(void) {
    static const struct {
        rlim_t room;
        const char *full; /* the file that does not fit */
    } disks[] = {{1000, "model.safetensors"}, {11000, "model.safetensors"}, {16000, "optimizer.safetensors"}};
    for (int i = 0; i < COUNT_OF(disks); i++) {
        start_anew();
        save(100);
        save(200);
        rlim_t room = disks[i].room;
        Exit full = expect_exit(save_on_full_disk, &room), e = expect_exit(load_newest, NULL);
        ok(refused(&full, 1, "cannot write '") && strstr(full.text, disks[i].full) && e.status == 12,
           "files of at most %d bytes: %s", (int)room, full.text);
        e = expect_exit(save_step, &(int64_t){400});
        ok(e.status == 0 && !set_exists(300, ".tmp") && set_exists(400, ""), "with room again it saves");
    }
}

int main(void) {
    folder = file_temp_folder("shard-test");
    test_round_trip();
    test_other_file();
    test_damage();
    test_other_folders();
    test_full_disk();
    file_remove(folder);
    free(folder);
    return tap_done();
}
