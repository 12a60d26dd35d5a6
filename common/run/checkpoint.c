#include "common/run/checkpoint_sets.h"

#include <stdlib.h>
#include <string.h>

/* Removes a set so that a kill half-way leaves no half of it under its own name. */
static void remove_set(const char *sets, int64_t step) {
    char *place = sets_folder(sets, step, ""), *going = sets_folder(sets, step, ".tmp");
    file_remove(going);
    file_commit(place, going);
    file_remove(going);
    free(place);
    free(going);
}

/* ---- saving ---- */

typedef struct {
    char *name, *path; /* inside the folder */
    Checksum sum;      /* empty: it is read when all is there */
} WrittenFile;

struct CheckpointWriter {
    char *sets, *folder; /* .../checkpoint and .../checkpoint/step-000100.tmp */
    int64_t step;
    WrittenFile *files;
    int count;
};

char *checkpoint_writing_folder(const char *output_dir, int64_t step) {
    char *sets = xprintf("%s/checkpoint", output_dir), *folder = sets_folder(sets, step, ".tmp");
    free(sets);
    return folder;
}

CheckpointWriter *checkpoint_begin(const char *output_dir, int64_t step) {
    CheckpointWriter *writer = xcalloc(1, sizeof *writer);
    writer->sets = xprintf("%s/checkpoint", output_dir);
    writer->step = step;
    sets_recover(writer->sets);
    int64_t count, *left_over = sets_list(writer->sets, ".tmp", &count);
    for (int64_t i = 0; i < count; i++) {
        char *folder = sets_folder(writer->sets, left_over[i], ".tmp");
        file_remove(folder);
        free(folder);
    }
    free(left_over);
    writer->folder = checkpoint_writing_folder(output_dir, step);
    file_make_folder(writer->folder);
    return writer;
}

static WrittenFile *put(CheckpointWriter *writer, const char *file) {
    ASSERT(!strchr(file, '/') && strcmp(file, MANIFEST) != 0);
    writer->files = xrealloc(writer->files, (size_t)(writer->count + 1) * sizeof *writer->files);
    WrittenFile *put = &writer->files[writer->count++];
    *put = (WrittenFile){.name = xstrdup(file), .path = xprintf("%s/%s", writer->folder, file)};
    return put;
}

const char *checkpoint_put_file(CheckpointWriter *writer, const char *file) {
    return put(writer, file)->path;
}

void checkpoint_put_written(CheckpointWriter *writer, const char *file, Checksum sum) {
    put(writer, file)->sum = sum;
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
    json_t *files = json_object();
    for (int i = 0; i < writer->count; i++) {
        WrittenFile *file = &writer->files[i];
        if (!*file->sum.text) {
            file_sync(file->path);
            file->sum = file_checksum(file->path);
        }
        json_object_set_new(
            files, file->name,
            json_pack("{s:I, s:s}", "bytes", (json_int_t)file->sum.bytes, "xxh3_128", file->sum.text));
    }
    json_t *manifest = json_pack("{s:s, s:I, s:o}", "format", CHECKPOINT_FORMAT, "step",
                                 (json_int_t)writer->step, "files", files);
    json_object_set_new(manifest, "xxh3_128", json_string(manifest_checksum(manifest).text));
    char *path = xprintf("%s/" MANIFEST, writer->folder);
    write_json(path, manifest);
    free(path);
    json_decref(manifest);
}

static void writer_free(CheckpointWriter *writer) {
    for (int i = 0; i < writer->count; i++) free(writer->files[i].name), free(writer->files[i].path);
    free(writer->files);
    free(writer->sets);
    free(writer->folder);
    free(writer);
}

void checkpoint_abandon(CheckpointWriter *writer) {
    file_remove(writer->folder);
    writer_free(writer);
}

void checkpoint_commit(CheckpointWriter *writer, int64_t keep) {
    char *place = sets_folder(writer->sets, writer->step, "");
    char *aside = sets_folder(writer->sets, writer->step, ".replaced");
    write_manifest(writer);
    if (file_exists(place)) file_commit(place, aside);
    file_commit(writer->folder, place);
    file_remove(aside);

    int64_t count, kept = 0, *steps = sets_list(writer->sets, "", &count);
    for (int64_t i = 0; i < count; i++)
        if (steps[i] <= writer->step && ++kept > keep) remove_set(writer->sets, steps[i]);
    free(steps);
    free(place);
    free(aside);
    writer_free(writer);
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
