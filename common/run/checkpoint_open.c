#include "common/run/checkpoint_sets.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What is wrong with one file of a set, NULL when it is as the manifest says; the caller frees it. */
static char *file_fault(const char *folder, const char *name, const json_t *entry) {
    const char *wanted_sum = json_string_value(json_object_get(entry, "xxh3_128"));
    int64_t wanted_bytes = json_integer_value(json_object_get(entry, "bytes"));
    if (strchr(name, '/') || !wanted_sum) return xprintf("file '" MANIFEST "' is damaged");
    char *path = xprintf("%s/%s", folder, name), *fault = NULL;
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode)) {
        fault = xprintf("file '%s' is missing", name);
    } else if (info.st_size != wanted_bytes) {
        fault = xprintf("file '%s' is %lld bytes long, expected %lld", name, (long long)info.st_size,
                        (long long)wanted_bytes);
    } else {
        Checksum sum = file_checksum(path);
        if (strcmp(sum.text, wanted_sum) != 0)
            fault = xprintf("file '%s' is damaged or from another set: its checksum is %s, expected %s", name,
                            sum.text, wanted_sum);
    }
    free(path);
    return fault;
}

static bool holds_tensors(const char *name) {
    static const char end[] = ".safetensors";
    size_t length = strlen(name);
    return length >= sizeof end && strcmp(name + length + 1 - sizeof end, end) == 0;
}

/* What is wrong with a set, NULL when it is complete; then *manifest is the caller's. tensors: their files are looked at too. */
static char *set_fault(const char *folder, bool tensors, json_t **manifest) {
    char *path = xprintf("%s/" MANIFEST, folder), *fault = NULL, *copy = xstrdup(folder);
    struct stat info;
    bool missing = stat(path, &info) || !S_ISREG(info.st_mode);
    *manifest = missing ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const char *format = json_string_value(json_object_get(*manifest, "format"));
    const char *wanted = json_string_value(json_object_get(*manifest, "xxh3_128")), *name;
    int64_t step = json_integer_value(json_object_get(*manifest, "step"));
    json_t *files = json_object_get(*manifest, "files"), *entry;

    if (missing)
        fault = xprintf("file '" MANIFEST "' is missing");
    else if (!wanted || strcmp(wanted, manifest_checksum(*manifest).text) != 0)
        fault = xprintf("file '" MANIFEST "' is damaged");
    else if (!format || strcmp(format, CHECKPOINT_FORMAT))
        fault = xprintf("file '" MANIFEST "' does not say \"" CHECKPOINT_FORMAT "\"");
    else if (step != sets_parse_step(basename(copy), ""))
        fault = xprintf("file '" MANIFEST "' belongs to step %lld", (long long)step);
    else
        json_object_foreach(files, name, entry) {
            if (!fault && (tensors || !holds_tensors(name))) fault = file_fault(folder, name, entry);
        }

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
    int64_t count, *steps = sets_list(sets, "", &count), broken = sets_parse_step(basename(name), "");
    for (int64_t i = 0; i < count && !hint; i++) {
        if (steps[i] >= broken) continue;
        char *candidate = sets_folder(sets, steps[i], "");
        json_t *manifest;
        char *fault = set_fault(candidate, true, &manifest);
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

static Checkpoint *open_set(const char *folder, bool tensors) {
    Checkpoint *checkpoint = xcalloc(1, sizeof *checkpoint);
    char *fault = set_fault(folder, tensors, &checkpoint->manifest);
    if (fault) fail(1, offer_previous(folder), "checkpoint '%s': %s", folder, fault);
    checkpoint->folder = xstrdup(folder);
    checkpoint->step = json_integer_value(json_object_get(checkpoint->manifest, "step"));
    return checkpoint;
}

static Checkpoint *open_latest(const char *output_dir, bool tensors) {
    char *sets = xprintf("%s/checkpoint", output_dir);
    sets_recover(sets);
    int64_t count, *steps = sets_list(sets, "", &count);
    Checkpoint *checkpoint = NULL;
    if (count) {
        char *folder = sets_folder(sets, steps[0], "");
        checkpoint = open_set(folder, tensors);
        free(folder);
    }
    free(steps);
    free(sets);
    return checkpoint;
}

Checkpoint *checkpoint_open(const char *folder) { return open_set(folder, true); }
Checkpoint *checkpoint_open_latest(const char *output_dir) { return open_latest(output_dir, true); }
Checkpoint *checkpoint_find(const char *folder) { return open_set(folder, false); }
Checkpoint *checkpoint_find_latest(const char *output_dir) { return open_latest(output_dir, false); }

void checkpoint_verify_share(const Checkpoint *checkpoint, int rank, int ranks) {
    const char *name;
    json_t *entry;
    int turn = 0;
    json_object_foreach(json_object_get(checkpoint->manifest, "files"), name, entry) {
        if (!holds_tensors(name) || turn++ % ranks != rank) continue;
        char *fault = file_fault(checkpoint->folder, name, entry);
        if (fault)
            fail(1, offer_previous(checkpoint->folder), "checkpoint '%s': %s", checkpoint->folder, fault);
    }
}

Checkpoint *checkpoint_find_again(const char *folder) {
    char *path = xprintf("%s/" MANIFEST, folder);
    CHECK(file_exists(path), "every machine must see the folder: choose an --output-dir that they share",
          "rank 0 has opened the checkpoint '%s', which is not to be seen here", folder);
    Checkpoint *checkpoint = xcalloc(1, sizeof *checkpoint);
    checkpoint->manifest = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    CHECK(checkpoint->manifest, NULL, "'%s' is not JSON", path);
    checkpoint->folder = xstrdup(folder);
    checkpoint->step = json_integer_value(json_object_get(checkpoint->manifest, "step"));
    free(path);
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

json_t *checkpoint_read_json(const Checkpoint *checkpoint, const char *file) {
    char *path = checkpoint_path(checkpoint, file);
    json_t *value = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    CHECK(value, NULL, "'%s' is not JSON", path);
    free(path);
    return value;
}
