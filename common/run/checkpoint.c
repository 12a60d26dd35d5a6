#include "common/run/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define FORMAT         "shard.c checkpoint 1"
#define MANIFEST       "manifest.json"
#define STEP_FOLDER    "step-%06lld"
#define CHECKSUM_CHARS (2 * (int)sizeof(XXH128_hash_t))

/* ---- checksums ---- */

/* The 32 hexadecimal digits that xxh128sum prints. */
static void checksum(const void *data, size_t bytes, char text[CHECKSUM_CHARS + 1]) {
    XXH128_hash_t hash = XXH3_128bits(data, bytes);
    snprintf(text, CHECKSUM_CHARS + 1, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

static void file_checksum(const char *path, size_t *bytes, char text[CHECKSUM_CHARS + 1]) {
    const void *data = file_map(path, bytes);
    checksum(data, *bytes, text);
    file_unmap(data, *bytes);
}

/* Of all the manifest says except its own checksum. */
static void manifest_checksum(const json_t *manifest, char text[CHECKSUM_CHARS + 1]) {
    json_t *rest = json_copy((json_t *)(uintptr_t)manifest);
    json_object_del(rest, "xxh3_128");
    char *dump = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(dump);
    checksum(dump, strlen(dump), text);
    free(dump);
    json_decref(rest);
}

/* ---- the sets of a run ---- */

/* NAME is step-N, perhaps with a suffix behind it; -1 where it is something else. */
static int64_t parse_step(const char *name, const char *suffix) {
    char *end;
    if (strncmp(name, "step-", 5) || name[5] < '0' || name[5] > '9') return -1;
    errno = 0;
    long long step = strtoll(name + 5, &end, 10);
    return errno || strcmp(end, suffix) ? -1 : step;
}

static char *set_folder(const char *sets, int64_t step, const char *suffix) {
    return xprintf("%s/" STEP_FOLDER "%s", sets, (long long)step, suffix);
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The steps of the folders step-N<suffix> in `sets`, newest first; the caller frees them. */
static int64_t *list_steps(const char *sets, const char *suffix, int64_t *count) {
    int64_t *steps = NULL;
    *count = 0;
    DIR *folder = opendir(sets);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int64_t step = parse_step(entry->d_name, suffix);
        if (step < 0) continue;
        steps = xrealloc(steps, (size_t)(*count + 1) * sizeof *steps);
        steps[(*count)++] = step;
    }
    if (folder) closedir(folder);
    if (*count) qsort(steps, (size_t)*count, sizeof *steps, newest_first);
    return steps;
}

/* A set that is replaced by one of the same step steps aside as step-N.replaced. When a kill came before the
 * new one took its place, it is put back. */
static void recover(const char *sets) {
    int64_t count, *steps = list_steps(sets, ".replaced", &count);
    for (int64_t i = 0; i < count; i++) {
        char *aside = set_folder(sets, steps[i], ".replaced"), *place = set_folder(sets, steps[i], "");
        if (file_exists(place))
            file_remove(aside);
        else
            file_commit(aside, place);
        free(aside);
        free(place);
    }
    free(steps);
}

/* Removes a set so that a kill half-way leaves no half of it under its own name. */
static void remove_set(const char *sets, int64_t step) {
    char *place = set_folder(sets, step, ""), *going = set_folder(sets, step, ".tmp");
    file_remove(going);
    file_commit(place, going);
    file_remove(going);
    free(place);
    free(going);
}

/* ---- saving ---- */

struct CheckpointWriter {
    char *sets, *folder; /* .../checkpoint and .../checkpoint/step-000100.tmp */
    int64_t step;
    char **files; /* names inside the folder */
    char **paths;
    int count;
};

CheckpointWriter *checkpoint_begin(const char *output_dir, int64_t step) {
    CheckpointWriter *writer = xcalloc(1, sizeof *writer);
    writer->sets = xprintf("%s/checkpoint", output_dir);
    writer->step = step;
    recover(writer->sets);
    int64_t count, *left_over = list_steps(writer->sets, ".tmp", &count);
    for (int64_t i = 0; i < count; i++) {
        char *folder = set_folder(writer->sets, left_over[i], ".tmp");
        file_remove(folder);
        free(folder);
    }
    free(left_over);
    writer->folder = set_folder(writer->sets, step, ".tmp");
    file_make_folder(writer->folder);
    return writer;
}

const char *checkpoint_put_file(CheckpointWriter *writer, const char *file) {
    ASSERT(!strchr(file, '/') && strcmp(file, MANIFEST));
    size_t bytes = (size_t)(writer->count + 1) * sizeof(char *);
    writer->files = xrealloc(writer->files, bytes);
    writer->paths = xrealloc(writer->paths, bytes);
    writer->files[writer->count] = xstrdup(file);
    writer->paths[writer->count] = xprintf("%s/%s", writer->folder, file);
    return writer->paths[writer->count++];
}

void checkpoint_put_arrays(CheckpointWriter *writer, const char *file, const NamedArray *arrays,
                           int64_t count) {
    safetensors_write(checkpoint_put_file(writer, file), arrays, count, NULL);
}

static void write_json(const char *path, const json_t *value) {
    char *text = json_dumps(value, JSON_INDENT(2));
    ASSERT(text);
    file_write(path, text, strlen(text));
    free(text);
}

void checkpoint_put_json(CheckpointWriter *writer, const char *file, const json_t *value) {
    write_json(checkpoint_put_file(writer, file), value);
}

static void write_manifest(const CheckpointWriter *writer) {
    char sum[CHECKSUM_CHARS + 1];
    json_t *files = json_object();
    for (int i = 0; i < writer->count; i++) {
        size_t bytes;
        file_sync(writer->paths[i]);
        file_checksum(writer->paths[i], &bytes, sum);
        json_object_set_new(files, writer->files[i],
                            json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3_128", sum));
    }
    json_t *manifest =
        json_pack("{s:s, s:I, s:o}", "format", FORMAT, "step", (json_int_t)writer->step, "files", files);
    manifest_checksum(manifest, sum);
    json_object_set_new(manifest, "xxh3_128", json_string(sum));
    char *path = xprintf("%s/" MANIFEST, writer->folder);
    write_json(path, manifest);
    free(path);
    json_decref(manifest);
}

void checkpoint_commit(CheckpointWriter *writer) {
    char *place = set_folder(writer->sets, writer->step, "");
    char *aside = set_folder(writer->sets, writer->step, ".replaced");
    write_manifest(writer);
    if (file_exists(place)) file_commit(place, aside);
    file_commit(writer->folder, place);
    file_remove(aside);

    int64_t count, kept = 0, *steps = list_steps(writer->sets, "", &count);
    for (int64_t i = 0; i < count; i++)
        if (steps[i] <= writer->step && ++kept > CHECKPOINTS_KEPT) remove_set(writer->sets, steps[i]);
    free(steps);
    for (int i = 0; i < writer->count; i++) free(writer->files[i]), free(writer->paths[i]);
    free(writer->files);
    free(writer->paths);
    free(writer->sets);
    free(writer->folder);
    free(writer);
    free(place);
    free(aside);
}

void checkpoint_set_aside(const char *output_dir) {
    char *sets = xprintf("%s/checkpoint", output_dir), *old = xprintf("%s/checkpoint.old", output_dir);
    if (file_exists(sets)) {
        file_remove(old);
        file_commit(sets, old);
    }
    free(sets);
    free(old);
}

/* ---- loading ---- */

/* What is wrong with one file of a set, NULL when it is as the manifest says; the caller frees it. */
static char *file_fault(const char *folder, const char *name, const json_t *entry) {
    const char *wanted_sum = json_string_value(json_object_get(entry, "xxh3_128"));
    int64_t wanted_bytes = json_integer_value(json_object_get(entry, "bytes"));
    if (strchr(name, '/') || !wanted_sum) return xprintf("file '" MANIFEST "' is damaged");
    char *path = xprintf("%s/%s", folder, name), *fault = NULL, sum[CHECKSUM_CHARS + 1];
    struct stat info;
    size_t bytes;
    if (stat(path, &info) || !S_ISREG(info.st_mode)) {
        fault = xprintf("file '%s' is missing", name);
    } else if (info.st_size != wanted_bytes) {
        fault = xprintf("file '%s' is %lld bytes long, expected %lld", name, (long long)info.st_size,
                        (long long)wanted_bytes);
    } else if (file_checksum(path, &bytes, sum), strcmp(sum, wanted_sum)) {
        fault = xprintf("file '%s' is damaged or from another set: its checksum is %s, expected %s", name,
                        sum, wanted_sum);
    }
    free(path);
    return fault;
}

/* What is wrong with a set, NULL when it is complete; then *manifest is the caller's. */
static char *set_fault(const char *folder, json_t **manifest) {
    char *path = xprintf("%s/" MANIFEST, folder), *fault = NULL, *copy = xstrdup(folder);
    struct stat info;
    bool missing = stat(path, &info) || !S_ISREG(info.st_mode);
    *manifest = missing ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const char *format = json_string_value(json_object_get(*manifest, "format"));
    const char *wanted = json_string_value(json_object_get(*manifest, "xxh3_128")), *name;
    int64_t step = json_integer_value(json_object_get(*manifest, "step"));
    json_t *files = json_object_get(*manifest, "files"), *entry;
    char sum[CHECKSUM_CHARS + 1] = "";
    if (wanted) manifest_checksum(*manifest, sum);

    if (missing)
        fault = xprintf("file '" MANIFEST "' is missing");
    else if (!wanted || strcmp(wanted, sum))
        fault = xprintf("file '" MANIFEST "' is damaged");
    else if (!format || strcmp(format, FORMAT))
        fault = xprintf("file '" MANIFEST "' does not say \"" FORMAT "\"");
    else if (step != parse_step(basename(copy), ""))
        fault = xprintf("file '" MANIFEST "' belongs to step %lld", (long long)step);
    else
        json_object_foreach(files, name, entry) if (!fault) fault = file_fault(folder, name, entry);

    if (fault) {
        json_decref(*manifest);
        *manifest = NULL;
    }
    free(copy);
    free(path);
    return fault;
}

/* What to do instead of a set that is not complete; the caller frees it. */
static char *offer_previous(const char *folder) {
    char *copy = xstrdup(folder), *sets = xstrdup(dirname(copy)), *hint = NULL;
    char *name = xstrdup(folder);
    int64_t count, *steps = list_steps(sets, "", &count), broken = parse_step(basename(name), "");
    for (int64_t i = 0; i < count && !hint; i++) {
        if (steps[i] >= broken) continue;
        char *candidate = set_folder(sets, steps[i], "");
        json_t *manifest;
        char *fault = set_fault(candidate, &manifest);
        if (!fault)
            hint = xprintf("'%s' is complete: remove '%s' to go on from step %lld", candidate, folder,
                           (long long)steps[i]);
        free(fault);
        json_decref(manifest);
        free(candidate);
    }
    free(steps);
    free(copy);
    free(name);
    free(sets);
    return hint ? hint : xstrdup("there is no earlier complete checkpoint: start anew, without --resume");
}

Checkpoint *checkpoint_open(const char *folder) {
    Checkpoint *checkpoint = xcalloc(1, sizeof *checkpoint);
    char *fault = set_fault(folder, &checkpoint->manifest);
    if (fault) fail(1, offer_previous(folder), "checkpoint '%s': %s", folder, fault);
    checkpoint->folder = xstrdup(folder);
    checkpoint->step = json_integer_value(json_object_get(checkpoint->manifest, "step"));
    return checkpoint;
}

Checkpoint *checkpoint_open_latest(const char *output_dir) {
    char *sets = xprintf("%s/checkpoint", output_dir);
    recover(sets);
    int64_t count, *steps = list_steps(sets, "", &count);
    Checkpoint *checkpoint = NULL;
    if (count) {
        char *folder = set_folder(sets, steps[0], "");
        checkpoint = checkpoint_open(folder);
        free(folder);
    }
    free(steps);
    free(sets);
    return checkpoint;
}

void checkpoint_close(Checkpoint *checkpoint) {
    if (!checkpoint) return;
    json_decref(checkpoint->manifest);
    free(checkpoint->folder);
    free(checkpoint);
}

bool checkpoint_has(const Checkpoint *checkpoint, const char *file) {
    return json_object_get(json_object_get(checkpoint->manifest, "files"), file) != NULL;
}

char *checkpoint_path(const Checkpoint *checkpoint, const char *file) {
    CHECK(checkpoint_has(checkpoint, file), "it was made by another program: choose another --output-dir",
          "checkpoint '%s' has no file '%s'", checkpoint->folder, file);
    return xprintf("%s/%s", checkpoint->folder, file);
}

void checkpoint_read_arrays(const Checkpoint *checkpoint, const char *file, const NamedArray *wants,
                            int64_t count) {
    char *path = checkpoint_path(checkpoint, file);
    Safetensors *arrays = safetensors_open(path);
    safetensors_read_all(arrays, wants, count);
    safetensors_close(arrays);
    free(path);
}

json_t *checkpoint_read_json(const Checkpoint *checkpoint, const char *file) {
    char *path = checkpoint_path(checkpoint, file);
    json_t *value = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    CHECK(value, NULL, "'%s' is not JSON", path);
    free(path);
    return value;
}
