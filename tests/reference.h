/* reference: a case of tests/fixtures/NAME.json (tests/reference/make_fixtures.py says what is in it),
 * trained here. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "common/config/args.h"
#include "tests/tap.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline json_t *reference_load(const char *path) {
    json_error_t error;
    json_t *json = json_load_file(path, 0, &error);
    CHECK(json, "run the test from the root of the repository", "%s: %s", path, error.text);
    return json;
}

static inline double reference_number(const json_t *json, const char *key) {
    return json_number_value(json_object_get(json, key));
}

/* Element i of a list of numbers. */
static inline double reference_at(const json_t *list, size_t i) {
    return json_number_value(json_array_get(list, i));
}

/* The case's flags, through the parser that every program uses: {"norm_place": "pre", "bias": false} is
 * --norm-place pre --no-bias. The Config points into words that stay until the next call. */
static inline Config reference_config(json_t *json) {
    static const Program program = {.about = "a test", .groups = ARGS_ALL};
    static char name[] = "test_reference", *argv[128] = {name};
    int argc = 1;
    const char *key;
    json_t *value;
    for (int i = 1; i < 128; i++) free(argv[i]), argv[i] = NULL;
    json_object_foreach(json_object_get(json, "flags"), key, value) {
        bool off = json_is_false(value);
        char *word = argv[argc++] = xprintf("--%s%s", off ? "no-" : "", key);
        for (char *c = word; *c; c++)
            if (*c == '_') *c = '-';
        if (json_is_string(value)) argv[argc++] = xstrdup(json_string_value(value));
        if (json_is_number(value)) argv[argc++] = xprintf("%.17g", json_number_value(value));
        ASSERT(argc < 126);
    }
    return args_parse(argc, argv, &program);
}

static inline Training reference_training(json_t *json) {
    Config config = reference_config(json);
    return training_new(&config, (int64_t)reference_number(json, "window"),
                        (int)reference_number(json, "skew"), reference_number(json, "masked"));
}

/* The norm of a tensor and its projection: its dot product with uniform numbers in [-1, 1). */
typedef struct {
    double norm, projection;
} Summary;

static inline Summary reference_summary(const char *name, const Tensor *t) {
    Summary s = {0};
    uint64_t stream;
    char *purpose = xprintf("projection.%s", name);
    stream = rng_stream(purpose);
    free(purpose);
    for (int64_t i = 0; i < tensor_count(t); i += 4) {
        uint32_t words[4];
        rng_block(0, stream, (uint64_t)i / 4, words);
        for (int64_t j = i; j < min64(i + 4, tensor_count(t)); j++) {
            double value = (double)real_at(t, j);
            s.norm += value * value;
            s.projection += value * (2 * (words[j - i] * 0x1p-32) - 1);
        }
    }
    s.norm = sqrt(s.norm);
    return s;
}

/* How far a summary is from the fixture's [norm, projection], as a share of what is allowed: `relative` of
 * the norm plus `absolute`. When k numbers are each off by e, the norm of the difference is e sqrt(k) and its
 * projection about e sqrt(k / 3). */
static inline double reference_distance(Summary got, const json_t *want, double relative, double absolute) {
    double norm = reference_at(want, 0), allowed = relative * norm + absolute + DBL_MIN;
    double error = worse(fabs(got.norm - norm), fabs(got.projection - reference_at(want, 1)));
    return error / allowed;
}

/* Which columns of the lines in "parameters" are compared. */
typedef enum { REFERENCE_START = 2, REFERENCE_GRADIENT, REFERENCE_END } ReferenceColumn;
typedef struct {
    const char *name; /* the parameter that is furthest off */
    double distance;  /* in parts of what is allowed */
} Furthest;

/* All parameters now, each relative to its own norm.
 *
 * Without rotary positions the bias of a key adds the same to all scores of a query, so its gradient is
 * exactly 0 and what is left is rounding: `absolute` is for that. Adam divides by it, which makes steps of
 * it: the last values of these biases mean nothing and are left out. */
static inline Furthest reference_furthest(const Training *t, const json_t *json, ReferenceColumn column,
                                          double relative, double absolute) {
    const json_t *lines = json_object_get(json, "parameters");
    const Params *params = &t->model->params;
    bool rounding_only =
        t->config.optimizer == OPTIMIZER_ADAMW && t->config.model.positions == POSITIONS_LEARNED;
    Furthest worst = {"none", 0};
    for (int i = 0; i < params->count; i++) {
        const Param *p = params->items[i];
        if (column == REFERENCE_END && rounding_only && strstr(p->name, "qkv.bias")) continue;
        const Tensor *tensor = column == REFERENCE_GRADIENT ? &p->grad[0] : &p->data;
        const json_t *want = json_array_get(json_array_get(lines, (size_t)i), column);
        double distance = reference_distance(reference_summary(p->name, tensor), want, relative, absolute);
        if (is_worse(worst.distance, distance)) worst = (Furthest){p->name, distance};
    }
    return worst;
}

#endif
