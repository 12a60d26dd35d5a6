/* compare: where two runs or checkpoints differ.
 *
 *   build/compare A B
 *
 * A and B are two runs (output folders: loss.csv row by row, then the newest checkpoints), two checkpoint
 * folders, or two safetensors files. Exit status 0: the same bits; 1: they differ, or one is damaged; 2: not
 * comparable, or nothing in them to compare. Not compared is what says where a run was kept, how long it took, whether it was interrupted or watched,
 * and how many devices shared it in which way: step_ms and tokens_per_s in loss.csv, and the flags --output-dir, --resume,
 * --stop-at-step, --trace, --num-microbatches, --overlap, --bucket-size, --clock, --device-model, --keep-checkpoints,
 * --async-save and --load-parameters-path. Tensors are compared as wholes, however many devices have written them. */
#include "common/run/metrics.h"
#include "common/run/stored.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_SHOWN = 10 };

typedef struct {
    int64_t compared, different;
} Tally;

/* ---- tensors ---- */

/* Stored alike, the bits count; otherwise the values do. */
static bool same_element(const NamedArray *a, const NamedArray *b, int64_t i) {
    if (a->type != b->type) return array_element(a, i) == array_element(b, i);
    size_t bytes = (size_t)(array_bytes(a) / array_count(a));
    return !memcmp((const char *)a->data + i * (int64_t)bytes, (const char *)b->data + i * (int64_t)bytes,
                   bytes);
}

static void compare_elements(const NamedArray *a, const NamedArray *b) {
    int64_t count = array_count(a), different = 0, first = -1;
    double largest = 0, scale = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = array_element(a, i), difference = fabs(x - array_element(b, i));
        if (!isnan(x)) scale = fmax(scale, fabs(x));
        if (same_element(a, b, i)) continue;
        if (first < 0) first = i;
        different++;
        largest = isnan(difference) || isnan(largest) ? NAN : fmax(largest, difference);
    }
    if (!different) {
        printf("equal values, stored as %s and %s\n", array_type_name(a->type), array_type_name(b->type));
        return;
    }
    printf(
        "%lld of %lld elements differ, by at most %.3g (%.3g of the largest, %.3g); the first is %lld: %.9g "
        "and %.9g\n",
        (long long)different, (long long)count, largest, largest / scale, scale, (long long)first,
        array_element(a, first), array_element(b, first));
}

static void compare_tensor(const char *file, const NamedArray *a, const NamedArray *b, Tally *tensors) {
    bool alike = a->type == b->type && array_same_shape(a, b);
    if (alike && !memcmp(a->data, b->data, (size_t)array_bytes(a))) return;
    tensors->different++;
    printf("%s: %s: ", file, a->name);
    if (array_same_shape(a, b))
        compare_elements(a, b);
    else
        printf("the shapes differ\n");
}

/* With its elements, which the caller frees. */
static NamedArray whole_tensor(Stored *stored, int64_t i) {
    NamedArray array = stored_tensor(stored, i);
    array.data = xmalloc((size_t)array_bytes(&array));
    stored_read_whole(stored, i, array.data);
    return array;
}

static void only_in(const char *which, const Stored *stored, int64_t i, Tally *tensors) {
    tensors->different++;
    printf("%s: %s: only in the %s\n", stored_file(stored, i), stored_tensor(stored, i).name, which);
}

/* file: what stands before a tensor's name; NULL: the file of `a` that it lies in. */
static void compare_stored(const char *file, Stored *a, Stored *b, Tally *tensors) {
    for (int64_t i = 0; i < stored_count(a); i++) {
        int64_t other = stored_find(b, stored_tensor(a, i).name);
        tensors->compared++;
        if (other < 0) {
            only_in("first", a, i, tensors);
            continue;
        }
        NamedArray x = whole_tensor(a, i), y = whole_tensor(b, other);
        compare_tensor(file ? file : stored_file(a, i), &x, &y, tensors);
        free(x.data);
        free(y.data);
    }
    for (int64_t i = 0; i < stored_count(b); i++) {
        if (stored_find(a, stored_tensor(b, i).name) >= 0) continue;
        tensors->compared++;
        only_in("second", b, i, tensors);
    }
    stored_close(a);
    stored_close(b);
}

/* ---- checkpoints ---- */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* The keys of two objects that differ, those of objects inside them too: " step config.seed". */
static void print_keys(const char *prefix, const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)a, key, value) {
        const json_t *other = json_object_get(b, key);
        if (json_equal(value, other)) continue;
        if (json_is_object(value) && json_is_object(other)) {
            char *inside = xprintf("%s%s.", prefix, key);
            print_keys(inside, value, other);
            free(inside);
        } else {
            printf(" %s%s", prefix, key);
        }
    }
    json_object_foreach((json_t *)(uintptr_t)b, key, value) if (!json_object_get(a, key))
        printf(" %s%s", prefix, key);
}

static void compare_json(const char *file, json_t *a, json_t *b, Tally *others) {
    static const char *const ignored[] = {
        "output_dir", "resume",           "stop_at_step", "num_microbatches",
        "overlap",    "bucket_size",      "clock",        "device_model",
        "trace",      "keep_checkpoints", "async_save",   "load_parameters_path"};
    for (int i = 0; i < COUNT_OF(ignored); i++) {
        json_object_del(json_object_get(a, "config"), ignored[i]);
        json_object_del(json_object_get(b, "config"), ignored[i]);
    }
    if (json_equal(a, b)) return;
    others->different++;
    printf("%s differs:", file);
    print_keys("", a, b);
    printf("\n");
}

static void compare_file(const Checkpoint *a, const Checkpoint *b, const char *file, const json_t *entry,
                         Tally *others) {
    if (!checkpoint_has(b, file)) {
        others->different++;
        printf("%s: only in the first\n", file);
        return;
    }
    others->compared++;
    if (ends_with(file, ".json")) {
        json_t *x = checkpoint_read_json(a, file), *y = checkpoint_read_json(b, file);
        compare_json(file, x, y, others);
        json_decref(x);
        json_decref(y);
    } else if (!json_equal(entry, json_object_get(json_object_get(b->manifest, "files"), file))) {
        others->different++;
        printf("%s differs\n", file);
    }
}

static void compare_checkpoints(const Checkpoint *a, const Checkpoint *b, Tally *tensors, Tally *others) {
    const char *file;
    json_t *entry;
    compare_stored(NULL, stored_open(a), stored_open(b), tensors);
    json_object_foreach(json_object_get(a->manifest, "files"), file,
                        entry) if (!ends_with(file, ".safetensors")) compare_file(a, b, file, entry, others);
    json_object_foreach(json_object_get(b->manifest, "files"), file, entry) {
        if (ends_with(file, ".safetensors") || checkpoint_has(a, file)) continue;
        others->different++;
        printf("%s: only in the second\n", file);
    }
}

/* ---- loss.csv ---- */

static MetricsTable read_rows(const char *run) {
    char *path = xprintf("%s/loss.csv", run);
    MetricsTable table = metrics_read(path);
    CHECK(!*table.fault, "it is the record of a run, and should not be edited", "'%s': %s", path,
          table.fault);
    free(path);
    return table;
}

static bool same(double x, double y) { return x == y || (isnan(x) && isnan(y)); }

static bool compare_row(const MetricsRow *a, const MetricsRow *b, bool show) {
    const struct {
        const char *name;
        double a, b;
    } columns[] = {{"tokens", (double)a->tokens, (double)b->tokens},
                   {"loss", a->loss, b->loss},
                   {"val_loss", a->val_loss, b->val_loss},
                   {"lr", a->lr, b->lr},
                   {"grad_norm", a->grad_norm, b->grad_norm}};
    bool alike = true;
    for (int c = 0; c < COUNT_OF(columns); c++) {
        if (same(columns[c].a, columns[c].b)) continue;
        if (show && alike) printf("loss.csv: step %lld:", (long long)a->step);
        if (show)
            printf(" %s %.9g and %.9g (%.2g)", columns[c].name, columns[c].a, columns[c].b,
                   columns[c].b - columns[c].a);
        alike = false;
    }
    if (show && !alike) printf("\n");
    return alike;
}

static void compare_rows(const char *run_a, const char *run_b, Tally *rows) {
    MetricsTable a = read_rows(run_a), b = read_rows(run_b);
    for (int64_t i = 0, j = 0; i < a.count || j < b.count;) {
        bool show = rows->different < ROWS_SHOWN, alike = false;
        int64_t step_a = i < a.count ? a.rows[i].step : INT64_MAX,
                step_b = j < b.count ? b.rows[j].step : INT64_MAX;
        if (step_a == step_b)
            alike = compare_row(&a.rows[i], &b.rows[j], show);
        else if (show)
            printf("loss.csv: step %lld: only in the %s\n", (long long)min64(step_a, step_b),
                   step_a < step_b ? "first" : "second");
        i += step_a <= step_b;
        j += step_b <= step_a;
        rows->compared++;
        rows->different += !alike;
    }
    if (rows->different > ROWS_SHOWN)
        printf("loss.csv: and %lld more rows\n", (long long)(rows->different - ROWS_SHOWN));
    metrics_free(&a);
    metrics_free(&b);
}

/* ---- the two things ---- */

typedef enum { TENSOR_FILE, CHECKPOINT, RUN } Kind;

static Kind kind_of(const char *path) {
    CHECK_USAGE(file_exists(path), "compare A B: two runs, two checkpoints or two safetensors files",
                "there is no '%s'", path);
    if (ends_with(path, ".safetensors")) return TENSOR_FILE;
    if (file_exists_in(path, "manifest.json")) return CHECKPOINT;
    CHECK_USAGE(
        file_exists_in(path, "loss.csv"), "compare A B: two runs, two checkpoints or two safetensors files",
        "'%s' is not a run (no loss.csv), a checkpoint (no manifest.json) or a .safetensors file", path);
    return RUN;
}

static void compare_newest(const char *run_a, const char *run_b, Tally *tensors, Tally *others) {
    Checkpoint *a = checkpoint_open_latest(run_a), *b = checkpoint_open_latest(run_b);
    long long step_a = a ? a->step : -1, step_b = b ? b->step : -1;
    if (a && b && step_a == step_b) {
        compare_checkpoints(a, b, tensors, others);
    } else if (step_a != step_b) {
        others->different++;
        if (!a || !b)
            printf("only the %s has a checkpoint\n", a ? "first" : "second");
        else
            printf("the newest checkpoints are of steps %lld and %lld\n", step_a, step_b);
    }
    checkpoint_close(a);
    checkpoint_close(b);
}

int main(int argc, char **argv) {
    base_set_program(argv[0]);
    CHECK_USAGE(argc == 3, "compare A B: two runs, two checkpoints or two safetensors files",
                "two things to compare are needed, %d given", argc - 1);
    const char *a = argv[1], *b = argv[2];
    Tally rows = {0}, tensors = {0}, others = {0};
    Kind kind = kind_of(a);
    CHECK_USAGE(kind == kind_of(b), "compare like with like", "'%s' and '%s' are things of two kinds", a, b);
    if (kind == TENSOR_FILE) {
        compare_stored("tensor", stored_open_file(a), stored_open_file(b), &tensors);
    } else if (kind == CHECKPOINT) {
        Checkpoint *x = checkpoint_open(a), *y = checkpoint_open(b);
        compare_checkpoints(x, y, &tensors, &others);
        checkpoint_close(x);
        checkpoint_close(y);
    } else {
        compare_rows(a, b, &rows);
        compare_newest(a, b, &tensors, &others);
    }
    bool differ = rows.different || tensors.different || others.different;
    CHECK_USAGE(differ || rows.compared || tensors.compared,
                "a comparison of nothing proves nothing: name runs that have made a step",
                "there is nothing to compare in '%s' and '%s': no row of losses and no tensor", a, b);
    if (differ)
        printf("different: %lld of %lld rows, %lld of %lld tensors, %lld other files\n",
               (long long)rows.different, (long long)rows.compared, (long long)tensors.different,
               (long long)tensors.compared, (long long)others.different);
    else
        printf("the same bits: %lld rows, %lld tensors, %lld other files\n", (long long)rows.compared,
               (long long)tensors.compared, (long long)others.compared);
    return differ;
}
