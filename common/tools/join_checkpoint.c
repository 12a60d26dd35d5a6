/* join_checkpoint: makes one file of a checkpoint that several devices have written, or cuts one into parts.
 *
 *   build/join_checkpoint SET model.safetensors   the weights alone, in a file that Python's safetensors opens
 *   build/join_checkpoint SET RUN                 all of it, as one device writes it, to RUN/checkpoint/step-NNNNNN
 *   build/join_checkpoint --parts N SET RUN       ... in N parts, each with an N-th of every tensor's elements
 *
 * SET is a checkpoint's folder, or a run's, whose newest is taken; it is verified before anything is written. No program needs
 * this to go on from a checkpoint: each loads what any mesh has saved. The host must have room for weights and moments. */
#include "common/run/saver_parts.h"
#include "common/run/stored.h"

#include <stdlib.h>
#include <string.h>

static const char *const USAGE =
    "join_checkpoint [--parts N] SET OUT: a checkpoint's folder (or a run's), and a "
    ".safetensors file or a run's folder";

static const char END[] = ".safetensors";

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The tensors of a set, whole, in the host's memory: first the weights, then the moments. */
typedef struct {
    NamedArray *arrays;
    int64_t count, weights;
} Tensors;

static bool is_moment(const char *name) { return strncmp(name, "m.", 2) == 0 || strncmp(name, "v.", 2) == 0; }

static Tensors read_tensors(Stored *stored, bool weights_alone) {
    Tensors t = {.arrays = xcalloc((size_t)max64(stored_count(stored), 1), sizeof *t.arrays)};
    for (int moments = 0; moments < (weights_alone ? 1 : 2); moments++) {
        for (int64_t i = 0; i < stored_count(stored); i++) {
            NamedArray array = stored_tensor(stored, i);
            if (is_moment(array.name) != (moments == 1)) continue;
            array.data = xmalloc((size_t)array_bytes(&array));
            stored_read_whole(stored, i, array.data);
            t.arrays[t.count++] = array;
        }
        if (moments == 0) t.weights = t.count;
    }
    return t;
}

static void free_tensors(Tensors *t) {
    for (int64_t i = 0; i < t->count; i++) free(t->arrays[i].data);
    free(t->arrays);
}

/* ---- writing ---- */

static void put_whole(CheckpointWriter *writer, const Tensors *t) {
    checkpoint_put_arrays(writer, "model.safetensors", t->arrays, t->weights);
    checkpoint_put_arrays(writer, "optimizer.safetensors", t->arrays + t->weights, t->count - t->weights);
}

/* The part-th of `parts` shares of each tensor; of a small one it may be nothing. */
static void put_part(CheckpointWriter *writer, const Tensors *t, int64_t step, int part, int parts) {
    NamedArray *shares = xcalloc((size_t)max64(t->count, 1), sizeof *shares);
    json_t *metadata = json_object();
    int64_t count = 0;
    for (int64_t i = 0; i < t->count; i++) {
        const NamedArray *whole = &t->arrays[i];
        int64_t elements = array_count(whole), share = ceil_div(elements, parts),
                from = min64(part * share, elements), to = min64(from + share, elements);
        if (from == to) continue;
        Shape shape = {.rank = whole->rank};
        memcpy(shape.size, whole->shape, sizeof shape.size);
        Param p = {
            .slice = {
                .whole = shape, .runs = 1, .count = {shape.size[0]}, .size = shape.size[0], .from = from}};
        char *text = piece_text(&p);
        json_object_set_new(metadata, whole->name, json_string(text));
        free(text);
        shares[count++] = (NamedArray){whole->name,
                                       whole->type,
                                       1,
                                       {to - from},
                                       .data = (char *)whole->data + from * (array_bytes(whole) / elements)};
    }
    char *says = xprintf("%d of %d", part, parts), *at = xprintf("%lld", (long long)step),
         *name = part_file_name(part, parts);
    json_object_set_new(metadata, "part", json_string(says));
    json_object_set_new(metadata, "step", json_string(at));
    if (count) safetensors_write(checkpoint_put_file(writer, name), shares, count, metadata);
    json_decref(metadata);
    free(says);
    free(at);
    free(name);
    free(shares);
}

/* What is no tensor, as it is. */
static void put_others(CheckpointWriter *writer, const Checkpoint *checkpoint) {
    const char *file;
    json_t *entry;
    json_object_foreach(json_object_get(checkpoint->manifest, "files"), file, entry) {
        if (ends_with(file, END)) continue;
        char *path = checkpoint_path(checkpoint, file);
        size_t bytes;
        char *text = file_read(path, &bytes);
        file_write(checkpoint_put_file(writer, file), text, bytes);
        free(text);
        free(path);
    }
}

static void write_set(const char *run, const Checkpoint *checkpoint, Stored *stored, int parts) {
    Tensors t = read_tensors(stored, false);
    CheckpointWriter *writer = checkpoint_begin(run, checkpoint->step);
    if (parts == 0) put_whole(writer, &t);
    for (int part = 0; part < parts; part++) put_part(writer, &t, checkpoint->step, part, parts);
    put_others(writer, checkpoint);
    checkpoint_commit(writer, INT64_MAX);
    printf("%lld tensors to %s/checkpoint, of step %lld\n", (long long)t.count, run,
           (long long)checkpoint->step);
    free_tensors(&t);
}

static void write_weights(const char *path, Stored *stored) {
    Tensors t = read_tensors(stored, true);
    safetensors_write(path, t.arrays, t.count, NULL);
    printf("%lld tensors to %s\n", (long long)t.count, path);
    free_tensors(&t);
}

/* ---- the words ---- */

static Checkpoint *open_set(const char *path) {
    char *manifest = xprintf("%s/manifest.json", path);
    bool is_set = file_exists(manifest);
    free(manifest);
    CHECK_USAGE(file_exists(path), USAGE, "there is no '%s'", path);
    Checkpoint *checkpoint = is_set ? checkpoint_open(path) : checkpoint_open_latest(path);
    CHECK_USAGE(checkpoint, USAGE, "there is no checkpoint in '%s'", path);
    return checkpoint;
}

/* A whole number from 1 to 9999; 0: it is none. */
static int parse_parts(const char *text) {
    char *end;
    long parts = strtol(text, &end, 10);
    return *text >= '1' && *text <= '9' && !*end && parts <= 9999 ? (int)parts : 0;
}

int main(int argc, char **argv) {
    base_set_program(argv[0]);
    int parts = 0, words = 1;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return printf("%s\n", USAGE), 0;
    if (argc > 1 && strcmp(argv[1], "--parts") == 0) {
        parts = argc > 2 ? parse_parts(argv[2]) : 0;
        CHECK_USAGE(parts > 0, USAGE, "--parts is %s, must be from 1 to 9999",
                    argc > 2 ? argv[2] : "not given");
        words = 3;
    }
    CHECK_USAGE(argc != words + 2 || argv[words][0] != '-', USAGE, "'%s' is not a flag", argv[words]);
    CHECK_USAGE(argc == words + 2, USAGE, "a checkpoint and a place for it are needed, %d words given",
                argc - words);
    const char *out = argv[words + 1];
    CHECK_USAGE(parts == 0 || !ends_with(out, END), USAGE, "'%s' is one file, --parts makes %d", out, parts);
    Checkpoint *checkpoint = open_set(argv[words]);
    Stored *stored = stored_open(checkpoint);
    if (ends_with(out, END))
        write_weights(out, stored);
    else
        write_set(out, checkpoint, stored, parts);
    stored_close(stored);
    checkpoint_close(checkpoint);
    return 0;
}
