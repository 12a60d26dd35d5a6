#include "common/run/checkpoint_sets.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define STEP_FOLDER "step-%06lld"

/* ---- checksums ---- */

/* The 32 hexadecimal digits that xxh128sum prints. */
static Checksum checksum(const void *data, size_t bytes) {
    XXH128_hash_t hash = XXH3_128bits(data, bytes);
    Checksum sum = {.bytes = (int64_t)bytes};
    snprintf(sum.text, sizeof sum.text, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    return sum;
}

Checksum file_checksum(const char *path) {
    size_t bytes;
    const void *data = file_map(path, &bytes);
    Checksum sum = checksum(data, bytes);
    file_unmap(data, bytes);
    return sum;
}

Checksum manifest_checksum(const json_t *manifest) {
    json_t *rest = json_copy((json_t *)(uintptr_t)manifest);
    json_object_del(rest, "xxh3_128");
    char *dump = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(dump);
    Checksum sum = checksum(dump, strlen(dump));
    free(dump);
    json_decref(rest);
    return sum;
}

/* ---- the sets of a run ---- */

int64_t sets_parse_step(const char *name, const char *suffix) {
    char *end;
    if (strncmp(name, "step-", 5) || name[5] < '0' || name[5] > '9') return -1;
    errno = 0;
    long long step = strtoll(name + 5, &end, 10);
    return errno || strcmp(end, suffix) ? -1 : step;
}

char *sets_folder(const char *sets, int64_t step, const char *suffix) {
    return xprintf("%s/" STEP_FOLDER "%s", sets, (long long)step, suffix);
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t *sets_list(const char *sets, const char *suffix, int64_t *count) {
    int64_t *steps = NULL;
    *count = 0;
    DIR *folder = opendir(sets);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int64_t step = sets_parse_step(entry->d_name, suffix);
        if (step < 0) continue;
        steps = xrealloc(steps, (size_t)(*count + 1) * sizeof *steps);
        steps[(*count)++] = step;
    }
    if (folder) closedir(folder);
    if (*count) qsort(steps, (size_t)*count, sizeof *steps, newest_first);
    return steps;
}

void sets_recover(const char *sets) {
    int64_t count, *steps = sets_list(sets, ".replaced", &count);
    for (int64_t i = 0; i < count; i++) {
        char *aside = sets_folder(sets, steps[i], ".replaced"), *place = sets_folder(sets, steps[i], "");
        if (file_exists(place))
            file_remove(aside);
        else
            file_commit(aside, place);
        free(aside);
        free(place);
    }
    free(steps);
}
