#include "common/run/stored.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const NamedArray *array; /* its elements, in a file */
    const char *file;        /* for messages: "model.safetensors" */
    Param part;              /* of which only the slice and the shape count */
} Piece;

typedef struct {
    char *name;
    Shape whole;
    ArrayType type;
    Piece *pieces;
    int count;
    bool read;
} PieceTensor;

struct Stored {
    char *where; /* the folder, or the file */
    Safetensors **files;
    int file_count;
    PieceTensor *tensors;
    int64_t count, found; /* how many; the one that was looked for last */
};

static const char *const DAMAGED = "the file is damaged or of another program: take another checkpoint";

/* ---- what a piece is ---- */

bool piece_has_elements(const Param *p) {
    for (int64_t at = 0, run; at < tensor_count(&p->data); at += run)
        if (param_whole_index(p, at, &run) >= 0) return true;
    return false;
}

char *piece_text(const Param *p) {
    const Slice *s = &p->slice;
    Str text = {0};
    for (int i = 0; i < s->whole.rank; i++)
        str_printf(&text, "%s%lld", i ? "," : "[[", (long long)s->whole.size[i]);
    str_printf(&text, "],%d,[", s->axis);
    for (int r = 0; r < s->runs; r++)
        str_printf(&text, "%s[%lld,%lld]", r ? "," : "", (long long)s->first[r], (long long)s->count[r]);
    str_printf(&text, "],%lld,%lld]", (long long)s->size, (long long)s->from);
    return text.data;
}

/* A whole number from 0 to `most`; -1: something else. */
static int64_t number(const json_t *value, int64_t most) {
    int64_t n = json_integer_value(value);
    return json_is_integer(value) && n >= 0 && n <= most ? n : -1;
}

/* The product of sizes, each from 1 on; -1: too large, or one of them is less. */
static int64_t product(Shape shape) {
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++)
        if (shape.size[i] < 1 || __builtin_mul_overflow(count, shape.size[i], &count)) return -1;
    return count;
}

/* False: it does not say which elements `count` elements are. */
static bool parse_slice(const json_t *value, int64_t count, Slice *s) {
    const json_t *whole = json_array_get(value, 0), *runs = json_array_get(value, 2);
    size_t rank = json_array_size(whole), run_count = json_array_size(runs);
    if (json_array_size(value) != 5 || rank < 1 || rank > TENSOR_MAX_RANK || run_count < 1 ||
        run_count > SLICE_RUNS)
        return false;
    *s = (Slice){.whole.rank = (int)rank, .runs = (int)run_count};
    for (size_t i = 0; i < rank; i++) s->whole.size[i] = number(json_array_get(whole, i), INT64_MAX);
    int64_t axis = number(json_array_get(value, 1), (int64_t)rank - 1), used = 0;
    if (product(s->whole) < 0 || axis < 0) return false;
    s->axis = (int)axis;
    int64_t size = s->whole.size[axis];
    for (size_t r = 0; r < run_count; r++) {
        const json_t *run = json_array_get(runs, r);
        s->first[r] = number(json_array_get(run, 0), size);
        s->count[r] = number(json_array_get(run, 1), size - s->first[r]);
        if (json_array_size(run) != 2 || s->first[r] < 0 || s->count[r] < 0) return false;
        used += s->count[r];
    }
    s->size = number(json_array_get(value, 3), INT64_MAX);
    s->from = number(json_array_get(value, 4), INT64_MAX);
    Shape slice = s->whole;
    slice.size[axis] = s->size;
    return used <= s->size && s->from >= 0 && product(slice) - s->from >= count;
}

/* The piece that an array of a file is. A scalar counts as one row. */
static Piece piece_of(const Stored *stored, const Safetensors *file, const NamedArray *array, bool parts) {
    const char *slash = strrchr(file->path, '/'), *short_name = slash ? slash + 1 : file->path;
    Piece piece = {.array = array, .file = short_name};
    Slice *s = &piece.part.slice;
    piece.part.data.shape = SHAPE(array_count(array));
    if (parts) {
        const char *text = safetensors_metadata(file, array->name);
        json_t *value = text ? json_loads(text, 0, NULL) : NULL;
        CHECK(parse_slice(value, array_count(array), s), DAMAGED,
              "'%s': file '%s' does not say which elements of the whole its tensor '%s' has", stored->where,
              short_name, array->name);
        json_decref(value);
        return piece;
    }
    *s = (Slice){.whole = {.rank = array->rank}, .runs = 1};
    memcpy(s->whole.size, array->shape, sizeof s->whole.size);
    if (array->rank == 0) s->whole = SHAPE(1);
    s->count[0] = s->size = s->whole.size[0];
    return piece;
}

/* ---- the files ---- */

/* "name" of "name#1". */
static size_t name_length(const char *name, bool parts) {
    const char *mark = parts ? strrchr(name, '#') : NULL;
    return mark ? (size_t)(mark - name) : strlen(name);
}

static void add_piece(Stored *stored, const char *name, size_t length, Piece piece) {
    PieceTensor *t = NULL;
    for (int64_t k = 1; k <= stored->count && !t; k++) { /* files have them in the same order, mostly */
        PieceTensor *next = &stored->tensors[(stored->found + k) % stored->count];
        if (strlen(next->name) == length && memcmp(next->name, name, length) == 0) t = next;
    }
    if (!t) {
        stored->tensors = xrealloc(stored->tensors, (size_t)(stored->count + 1) * sizeof *stored->tensors);
        t = &stored->tensors[stored->count++];
        *t = (PieceTensor){.name = xprintf("%.*s", (int)length, name),
                           .whole = piece.part.slice.whole,
                           .type = piece.array->type};
    }
    bool alike = shape_equal(t->whole, piece.part.slice.whole) && t->type == piece.array->type;
    CHECK(alike || !t->pieces, DAMAGED, "'%s': tensor '%s' has another shape or type in '%s' than in '%s'",
          stored->where, t->name, piece.file, t->pieces->file);
    stored->found = t - stored->tensors;
    t->pieces = xrealloc(t->pieces, (size_t)(t->count + 1) * sizeof *t->pieces);
    t->pieces[t->count++] = piece;
}

/* step -1: any. */
static void add_file(Stored *stored, const char *path, int64_t step) {
    Safetensors *file = safetensors_open(path);
    stored->files = xrealloc(stored->files, (size_t)(stored->file_count + 1) * sizeof(Safetensors *));
    stored->files[stored->file_count++] = file;
    bool parts = safetensors_metadata(file, "part") != NULL;
    const char *says = safetensors_metadata(file, "step");
    CHECK(!parts || step < 0 || (says && strtoll(says, NULL, 10) == step),
          "files of two checkpoints are mixed: take another one", "'%s' is of step %s, not %lld", path,
          says ? says : "?", (long long)step);
    for (int64_t i = 0; i < file->count; i++) {
        const NamedArray *array = &file->arrays[i];
        add_piece(stored, array->name, name_length(array->name, parts), piece_of(stored, file, array, parts));
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const PieceTensor *)a)->name, ((const PieceTensor *)b)->name);
}

static Stored *sorted(Stored *stored) {
    if (stored->count) qsort(stored->tensors, (size_t)stored->count, sizeof *stored->tensors, by_name);
    return stored;
}

Stored *stored_open(const Checkpoint *checkpoint) {
    static const char end[] = ".safetensors";
    Stored *stored = xcalloc(1, sizeof *stored);
    stored->where = xstrdup(checkpoint->folder);
    const char *name;
    json_t *entry;
    json_object_foreach(json_object_get(checkpoint->manifest, "files"), name, entry) {
        if (strlen(name) < sizeof end || strcmp(name + strlen(name) + 1 - sizeof end, end) != 0) continue;
        char *path = checkpoint_path(checkpoint, name);
        add_file(stored, path, checkpoint->step);
        free(path);
    }
    return sorted(stored);
}

Stored *stored_open_file(const char *path) {
    Stored *stored = xcalloc(1, sizeof *stored);
    stored->where = xstrdup(path);
    add_file(stored, path, -1);
    return sorted(stored);
}

void stored_close(Stored *stored) {
    for (int64_t i = 0; i < stored->count; i++) {
        free(stored->tensors[i].name);
        free(stored->tensors[i].pieces);
    }
    for (int i = 0; i < stored->file_count; i++) safetensors_close(stored->files[i]);
    free(stored->files);
    free(stored->tensors);
    free(stored->where);
    free(stored);
}

/* ---- what there is ---- */

int64_t stored_count(const Stored *stored) { return stored->count; }

NamedArray stored_tensor(const Stored *stored, int64_t i) {
    const PieceTensor *t = &stored->tensors[i];
    NamedArray array = {.name = t->name, .type = t->type, .rank = t->whole.rank};
    memcpy(array.shape, t->whole.size, sizeof array.shape);
    return array;
}

int64_t stored_find(const Stored *stored, const char *name) {
    PieceTensor key = {.name = (char *)(uintptr_t)name};
    const PieceTensor *t =
        stored->count ? bsearch(&key, stored->tensors, (size_t)stored->count, sizeof key, by_name) : NULL;
    return t ? t - stored->tensors : -1;
}

const char *stored_file(const Stored *stored, int64_t i) { return stored->tensors[i].pieces[0].file; }

bool stored_was_read(const Stored *stored, int64_t i) { return stored->tensors[i].read; }

/* ---- elements ---- */

/* Elements that lie one behind the other, in the whole and in a piece. */
typedef struct {
    int64_t whole, count;
    const Piece *piece;
    int64_t at; /* in the piece */
} Run;

static int by_place(const void *a, const void *b) {
    int64_t x = ((const Run *)a)->whole, y = ((const Run *)b)->whole;
    return (x > y) - (x < y);
}

/* Each of the tensor's elements is in one of the runs. */
static void check_complete(const Stored *stored, const PieceTensor *t, const Run *runs, int64_t count) {
    int64_t expected = 0;
    for (int64_t i = 0; i <= count; i++) {
        int64_t next = i < count ? runs[i].whole : shape_count(t->whole);
        CHECK(next <= expected, "a file of the set is not there: take another checkpoint",
              "'%s': elements %lld to %lld of tensor '%s' are in none of its files", stored->where,
              (long long)expected, (long long)next - 1, t->name);
        CHECK(next >= expected || i == 0 || i == count,
              "files of two checkpoints are mixed: take another one",
              "'%s': element %lld of tensor '%s' is in '%s' and in '%s'", stored->where, (long long)next,
              t->name, runs[i - 1].piece->file, runs[i].piece->file);
        if (i < count) expected += runs[i].count;
    }
}

/* The runs of a tensor by their place in the whole; the caller frees them. */
static Run *runs_of(const Stored *stored, const PieceTensor *t, int64_t *count) {
    Run *runs = NULL;
    int64_t room = 0;
    *count = 0;
    for (int i = 0; i < t->count; i++) {
        const Param *part = &t->pieces[i].part;
        for (int64_t at = 0, run; at < tensor_count(&part->data); at += run) {
            int64_t whole = param_whole_index(part, at, &run);
            if (whole < 0) continue;
            if (*count == room) runs = xrealloc(runs, (size_t)(room = 2 * room + 8) * sizeof *runs);
            runs[(*count)++] = (Run){whole, run, &t->pieces[i], at};
        }
    }
    if (*count) qsort(runs, (size_t)*count, sizeof *runs, by_place);
    check_complete(stored, t, runs, *count);
    return runs;
}

/* The run that has an element of the whole. */
static const Run *run_with(const Run *runs, int64_t count, int64_t whole) {
    int64_t low = 0, high = count; /* it is from low on, and before high */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (runs[middle].whole <= whole)
            low = middle;
        else
            high = middle;
    }
    return &runs[low];
}

static PieceTensor *wanted(Stored *stored, const char *name, const Param *p) {
    static const char *const other = "the file belongs to another model: give the flags it was made with";
    int64_t i = stored_find(stored, name);
    CHECK(i >= 0, other, "'%s' has no tensor '%s'", stored->where, name);
    NamedArray have = stored_tensor(stored, i), want = {.rank = p->slice.whole.rank};
    memcpy(want.shape, p->slice.whole.size, sizeof want.shape);
    if (!array_same_shape(&have, &want))
        fail(1, other, "'%s': tensor '%s' has shape %s, expected %s", stored->where, name,
             array_shape_text(&have), array_shape_text(&want));
    CHECK(array_is_floating(&have), "the file belongs to another program",
          "'%s': tensor '%s' holds %s, expected %s", stored->where, name, array_type_name(have.type),
          array_type_name(ARRAY_REAL));
    stored->tensors[i].read = true;
    return &stored->tensors[i];
}

/* What goes to a device goes through the host's memory, so much at a time. */
enum { BUFFER = 1 << 14 };

void stored_read(Stored *stored, const char *name, const Param *p, Tensor *to) {
    const PieceTensor *t = wanted(stored, name, p);
    int64_t count, total = tensor_count(&p->data);
    Run *runs = runs_of(stored, t, &count);
    real buffer[BUFFER];
    for (int64_t first = 0, filled; first < total; first += filled) {
        filled = min64(BUFFER, total - first);
        for (int64_t at = 0, left; at < filled; at += left) {
            int64_t whole = param_whole_index(p, first + at, &left);
            left = min64(left, filled - at);
            if (whole < 0) {
                memset(buffer + at, 0, (size_t)left * sizeof *buffer);
                continue;
            }
            const Run *r = run_with(runs, count, whole);
            left = min64(left, r->whole + r->count - whole);
            array_convert(r->piece->array, r->at + whole - r->whole, left, ARRAY_REAL, buffer + at);
        }
        tensor_write(to, first, filled, buffer);
    }
    free(runs);
}

void stored_read_whole(Stored *stored, int64_t i, void *to) {
    PieceTensor *t = &stored->tensors[i];
    int64_t count;
    Run *runs = runs_of(stored, t, &count);
    for (int64_t k = 0; k < count; k++) {
        const NamedArray *array = runs[k].piece->array;
        int64_t bytes = array_bytes(array) / array_count(array);
        memcpy((char *)to + runs[k].whole * bytes, (const char *)array->data + runs[k].at * bytes,
               (size_t)(runs[k].count * bytes));
    }
    t->read = true;
    free(runs);
}
