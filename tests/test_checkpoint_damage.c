/* TEST variants: float, all: asan
 * TEST tier: more
 * TEST seconds: 1200
 * A checkpoint of several devices, damaged at random, the same way in every run: bytes flipped, files cut, emptied, longer,
 * missing, exchanged with another of the set or with that of another step. Each is refused in one line that names a file of
 * the set; or what it holds is loaded, and is right to the bit. Damage that the checksums do not see, since the manifest was
 * made to agree, is refused as well, or does not change an element that is read. */
#define _GNU_SOURCE
#include "common/base/rng.h"
#include "common/run/checkpoint_sets.h"
#include "common/run/stored.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { FILES = 3, TENSORS = 5 };
static char *folder;

static const struct {
    const char *name;
    int rank;
    int64_t shape[2];
} tensors[TENSORS] = {{"token.weight", 2, {31, 12}},
                      {"head.bias", 1, {31}},
                      {"blocks.0.qkv.weight", 2, {12, 36}},
                      {"m.token.weight", 2, {31, 12}},
                      {"v.token.weight", 2, {31, 12}}};

static int64_t elements(int i) {
    return tensors[i].shape[0] * (tensors[i].rank > 1 ? tensors[i].shape[1] : 1);
}

static float value(int64_t step, int i, int64_t k) { return (float)(step * 100000 + i * 10000 + k); }

static char *set_of(int64_t step) {
    return xprintf("%s/run/checkpoint/step-%06lld", folder, (long long)step);
}

/* ---- sets of three files, each with a third of every tensor ---- */

static void put_part(CheckpointWriter *writer, int64_t step, int file) {
    static float data[TENSORS][1000];
    NamedArray arrays[TENSORS];
    json_t *metadata = json_pack("{s:s}", "part", "one of them");
    char *says = xprintf("%lld", (long long)step),
         *name = xprintf("part-%04d-of-%04d.safetensors", file, FILES);
    json_object_set_new(metadata, "step", json_string(says));
    for (int i = 0; i < TENSORS; i++) {
        int64_t from = elements(i) * file / FILES, to = elements(i) * (file + 1) / FILES;
        for (int64_t k = from; k < to; k++) data[i][k - from] = value(step, i, k);
        arrays[i] = (NamedArray){tensors[i].name, ARRAY_F32, 1, {to - from}, .data = data[i]};
        Shape shape = {tensors[i].rank, {tensors[i].shape[0], tensors[i].shape[1]}};
        Param p = {
            .slice = {
                .whole = shape, .runs = 1, .count = {shape.size[0]}, .size = shape.size[0], .from = from}};
        char *text = piece_text(&p);
        json_object_set_new(metadata, tensors[i].name, json_string(text));
        free(text);
    }
    safetensors_write(checkpoint_put_file(writer, name), arrays, TENSORS, metadata);
    json_decref(metadata);
    free(says);
    free(name);
}

static void write_set(int64_t step) {
    char *run = xprintf("%s/run", folder);
    CheckpointWriter *writer = checkpoint_begin(run, step);
    for (int file = 0; file < FILES; file++) put_part(writer, step, file);
    json_t *state = json_pack("{s:I}", "step", (json_int_t)step);
    checkpoint_put_json(writer, "state.json", state);
    json_decref(state);
    checkpoint_commit(writer, 2);
    free(run);
}

static char *part(int64_t step, int file) {
    return xprintf("%s/run/checkpoint/step-%06lld/part-%04d-of-%04d.safetensors", folder, (long long)step,
                   file, FILES);
}

/* ---- reading ---- */

/* Exit 0 when every element is that of this step; 5 when one is another. */
static void load(void *context) {
    int64_t step = *(const int64_t *)context;
    char *path = set_of(step);
    Checkpoint *checkpoint = checkpoint_open(path);
    Stored *stored = stored_open(checkpoint);
    for (int i = 0; i < TENSORS; i++) {
        int64_t at = stored_find(stored, tensors[i].name);
        CHECK(at >= 0, NULL, "'%s' has no tensor '%s'", path, tensors[i].name);
        NamedArray array = stored_tensor(stored, at);
        CHECK(array.type == ARRAY_F32 && array_count(&array) == elements(i), NULL,
              "'%s': tensor '%s' is another one", path, tensors[i].name);
        float *data = xmalloc((size_t)array_bytes(&array));
        stored_read_whole(stored, at, data);
        for (int64_t k = 0; k < elements(i); k++)
            if (data[k] != value(step, i, k)) exit(5);
        free(data);
    }
    CHECK(stored_count(stored) == TENSORS, NULL, "'%s' has a tensor too many", path);
    exit(0);
}

/* ---- damage ---- */

static void copy_file(const char *from, const char *to) {
    size_t bytes;
    char *data = file_read(from, &bytes);
    FILE *f = file_open(to, "wb");
    fwrite(data, 1, bytes, f);
    file_close(f, to);
    free(data);
}

static void rewrite(const char *path, const char *data, size_t bytes) {
    FILE *f = file_open(path, "wb");
    fwrite(data, 1, bytes, f);
    file_close(f, path);
}

static char *file_name(int64_t step, int which) {
    if (which < FILES) return part(step, which);
    char *set = set_of(step), *path = xprintf("%s/%s", set, which == FILES ? "state.json" : MANIFEST);
    free(set);
    return path;
}

/* One damage to the set of step 200; false: it has changed nothing. */
static bool damage(Rng *rng) {
    int which = (int)rng_below(rng, FILES + 2);
    char *path = file_name(200, which), *other = NULL;
    size_t bytes;
    char *data = file_read(path, &bytes), *before = file_read(path, NULL);
    size_t at = rng_below(rng, (uint32_t)bytes);
    switch (rng_below(rng, 8)) {
    case 0:
    case 1:
    case 2: /* a bit, twice as often in the header */
        if (rng_below(rng, 2)) at = rng_below(rng, (uint32_t)min64((int64_t)bytes, 600));
        data[at] ^= (char)(1 << rng_below(rng, 8));
        rewrite(path, data, bytes);
        break;
    case 3: rewrite(path, data, at); break;
    case 4: /* longer: a zero stands behind */ rewrite(path, data, bytes + 1); break;
    case 5: file_remove(path); break;
    case 6: /* of the other step */
        other = file_name(100, which);
        copy_file(other, path);
        break;
    default: /* another file of the set */
        other = file_name(200, (which + 1 + (int)rng_below(rng, FILES + 1)) % (FILES + 2));
        copy_file(other, path);
    }
    bool changed = true;
    if (file_exists(path)) {
        size_t now_bytes;
        char *now = file_read(path, &now_bytes);
        changed = now_bytes != bytes || memcmp(now, before, bytes) != 0;
        free(now);
    }
    free(data);
    free(before);
    free(path);
    free(other);
    return changed;
}

/* The manifest agrees with whatever lies there now. */
static void make_agree(void) {
    char *set = set_of(200), *path = xprintf("%s/" MANIFEST, set);
    json_t *files = json_object();
    for (int which = 0; which <= FILES; which++) {
        char *file = file_name(200, which);
        if (file_exists(file)) {
            Checksum sum = file_checksum(file);
            json_object_set_new(
                files, strrchr(file, '/') + 1,
                json_pack("{s:I, s:s}", "bytes", (json_int_t)sum.bytes, "xxh3_128", sum.text));
        }
        free(file);
    }
    json_t *manifest = json_pack("{s:s, s:i, s:o}", "format", CHECKPOINT_FORMAT, "step", 200, "files", files);
    json_object_set_new(manifest, "xxh3_128", json_string(manifest_checksum(manifest).text));
    char *text = json_dumps(manifest, 0);
    rewrite(path, text, strlen(text));
    free(text);
    free(path);
    free(set);
    json_decref(manifest);
}

/* A line that names a file of the set. */
static bool names_file(const Exit *e) {
    return refused(e, 1, "step-000200") &&
           (strstr(e->text, "part-000") || strstr(e->text, "state.json") || strstr(e->text, "manifest.json"));
}

static void test_random(const char *saved) {
    int cases = random_cases(100), named = 0, harmless = 0, wrong = 0;
    Rng rng = {.seed = 12, .stream = rng_stream("damage")};
    char *run = xprintf("%s/run", folder), *restore = xprintf("rm -rf %s && cp -r %s %s", run, saved, run);
    for (int i = 0; i < cases; i++) {
        if (system(restore) != 0) break;
        bool changed = damage(&rng);
        Exit e = expect_exit(load, &(int64_t){200});
        bool fine = changed ? names_file(&e) : e.status == 0;
        named += changed && fine;
        harmless += !changed && fine;
        wrong += !fine;
        if (!fine) printf("# case %d: status %d: %s\n", i, e.status, e.text);
    }
    ok(wrong == 0 && named + harmless == cases,
       "%d random damages: %d refused by the name of a file, %d that changed nothing loaded", cases, named,
       harmless);
    free(run);
    free(restore);
}

/* Nothing is believed for a checksum's sake. What no check can find is a number that is another number: those alone may be
 * loaded, and then the elements that were not hit are right. */
static void test_agreeing(const char *saved) {
    int cases = random_cases(100), found = 0, numbers = 0, harmless = 0, wrong = 0;
    Rng rng = {.seed = 13, .stream = rng_stream("damage")};
    char *run = xprintf("%s/run", folder), *restore = xprintf("rm -rf %s && cp -r %s %s", run, saved, run);
    for (int i = 0; i < cases; i++) {
        if (system(restore) != 0) break;
        damage(&rng);
        make_agree();
        Exit e = expect_exit(load, &(int64_t){200});
        found += refused(&e, 1, "step-000200");
        numbers += e.status == 5;
        harmless += e.status == 0;
        bool fine = e.status == 0 || e.status == 5 || refused(&e, 1, "step-000200");
        wrong += !fine;
        if (!fine) printf("# case %d: status %d: %s\n", i, e.status, e.text);
    }
    ok(wrong == 0 && found + numbers + harmless == cases,
       "%d behind a manifest that agrees: %d refused, %d changed a number, %d harmless", cases, found,
       numbers, harmless);
    free(run);
    free(restore);
}

/* ---- what a set must not be, though every file of it is whole ---- */

static void exchange(int file, int64_t step, int with) {
    char *to = part(200, file), *from = part(step, with);
    copy_file(from, to);
    free(to);
    free(from);
}

static void test_mixed(const char *saved) {
    char *run = xprintf("%s/run", folder), *restore = xprintf("rm -rf %s && cp -r %s %s", run, saved, run);
    bool restored = system(restore) == 0;
    exchange(1, 100, 1);
    make_agree();
    Exit e = expect_exit(load, &(int64_t){200});
    ok(restored && refused(&e, 1, "part-0001-of-0003.safetensors' is of step 100, not 200"), "%s", e.text);
    restored = system(restore) == 0;
    exchange(1, 200, 0);
    make_agree();
    e = expect_exit(load, &(int64_t){200});
    ok(restored &&
           refused(&e, 1, "is in 'part-0000-of-0003.safetensors' and in 'part-0001-of-0003.safetensors'"),
       "%s", e.text);
    restored = system(restore) == 0;
    char *gone = part(200, 2);
    file_remove(gone);
    make_agree();
    e = expect_exit(load, &(int64_t){200});
    ok(restored && refused(&e, 1, "are in none of its files"), "%s", e.text);
    free(gone);
    free(run);
    free(restore);
}

int main(void) {
    folder = file_temp_folder("shard-test");
    char *saved = xprintf("%s/saved", folder), *run = xprintf("%s/run", folder);
    write_set(100);
    write_set(200);
    Exit e = expect_exit(load, &(int64_t){200});
    ok(e.status == 0, "what is whole is loaded: %s", e.text);
    file_commit(run, saved);
    test_random(saved);
    test_agreeing(saved);
    test_mixed(saved);
    file_remove(folder);
    free(saved);
    free(run);
    free(folder);
    return tap_done();
}
