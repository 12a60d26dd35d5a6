#include "common/config/config_json.h"

#include <stdlib.h>
#include <string.h>

/* The key of a flag: hidden-size becomes hidden_size. The caller frees it. */
static char *key_of(const Flag *flag) {
    char *key = xstrdup(flag->name);
    for (char *c = key; *c; c++)
        if (*c == '-') *c = '_';
    return key;
}

static json_t *value_to_json(const Flag *flag, const void *base) {
    Str text = {0};
    flag_print(flag, base, &text);
    const char *field = (const char *)base + flag->offset;
    json_t *value = NULL;
    switch (flag->kind) {
    case FLAG_INT:
    case FLAG_BYTES: value = json_integer(*(const int64_t *)field); break;
    case FLAG_REAL: value = json_real(*(const double *)field); break;
    case FLAG_BOOL: value = json_boolean(*(const bool *)field); break;
    case FLAG_ENUM:
    case FLAG_TEXT:
    case FLAG_PRESET: value = text.data ? json_string(text.data) : json_null(); break;
    }
    str_free(&text);
    return value;
}

static void add_flags(json_t *object, const Flag *flags, int count, unsigned groups, const void *base) {
    for (int i = 0; i < count; i++) {
        if (flags[i].group & ~groups) continue;
        char *key = key_of(&flags[i]);
        ASSERT(json_object_set_new(object, key, value_to_json(&flags[i], base)) == 0);
        free(key);
    }
}

json_t *config_to_json(const Config *config) {
    json_t *object = json_object();
    add_flags(object, config_flags, config_flag_count, ARGS_ALL, config);
    return object;
}

/* ---- and back ---- */

/* A flag that describes the model itself: its field lies in Config.model. How it is computed does not. */
static bool of_model(const Flag *flag) {
    size_t begin = offsetof(Config, model);
    return flag->offset != offsetof(Config, model.dtype) && flag->offset >= begin &&
           flag->offset < begin + sizeof(ModelConfig);
}

/* What a value of the right JSON type would look like on the command line; NULL: the wrong type. */
static char *json_to_text(const Flag *flag, const json_t *value) {
    switch (flag->kind) {
    case FLAG_INT:
    case FLAG_BYTES:
        return json_is_integer(value) ? xprintf("%lld", (long long)json_integer_value(value)) : NULL;
    case FLAG_REAL: return json_is_number(value) ? xprintf("%.17g", json_number_value(value)) : NULL;
    case FLAG_BOOL: return json_is_boolean(value) ? xstrdup(json_is_true(value) ? "true" : "false") : NULL;
    case FLAG_ENUM:
    case FLAG_TEXT:
    case FLAG_PRESET: return json_is_string(value) ? xstrdup(json_string_value(value)) : NULL;
    }
    return NULL;
}

ModelConfig config_model_from_json(const json_t *json, const char *where) {
    static const char hint[] = "the file is damaged or not a checkpoint's; take another checkpoint";
    CHECK(json_is_object(json), hint, "'%s' holds no configuration", where);
    Config config = {0};
    for (int i = 0; i < config_flag_count; i++) {
        const Flag *flag = &config_flags[i];
        if (!of_model(flag)) continue;
        char *key = key_of(flag);
        const json_t *value = json_object_get(json, key);
        CHECK(value, hint, "'%s' has no %s", where, key);
        char *text = json_to_text(flag, value);
        if (!text) {
            char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
            fail(1, hint, "'%s': %s is %s, of the wrong type", where, key, dump);
        }
        char *problem = flag_set(flag, &config, text);
        CHECK(!problem, hint, "'%s': %s is '%s', %s", where, key, text, problem);
        free(text);
        free(key);
    }
    char *more, *problem = config_model_problem(&config.model, &more);
    CHECK(!problem, hint, "'%s': %s", where, problem);
    return config.model;
}

/* Ends the program: the flag is `here`, which does not go with a saved model or run (`what`) that has `there`. */
static _Noreturn void refuse(const Flag *flag, const char *here, const char *there, const char *what,
                             const char *where) {
    char *take = flag->kind != FLAG_BOOL      ? xprintf("--%s %s", flag->name, there)
                 : strcmp(there, "true") != 0 ? xprintf("--no-%s", flag->name)
                                              : xprintf("--%s", flag->name);
    fail(2, xprintf("use %s, or another --output-dir", take), "--%s is %s, but the %s saved in '%s' has %s",
         flag->name, here, what, where, there);
}

void config_check_same_model(const ModelConfig *flags, const ModelConfig *saved, const char *where) {
    Config ours = {.model = *flags}, theirs = {.model = *saved};
    for (int i = 0; i < config_flag_count; i++) {
        const Flag *flag = &config_flags[i];
        if (!of_model(flag)) continue;
        Str here = {0}, there = {0};
        flag_print(flag, &ours, &here);
        flag_print(flag, &theirs, &there);
        if (strcmp(here.data, there.data) != 0) refuse(flag, here.data, there.data, "model", where);
        str_free(&here);
        str_free(&there);
    }
}

Config config_with_saved(const Config *flags, const json_t *saved) {
    Config config = *flags;
    for (int i = 0; i < config_flag_count; i++) {
        const Flag *flag = &config_flags[i];
        if (!(flag->group & (ARGS_BATCH | ARGS_TRAIN))) continue;
        char *key = key_of(flag), *text = json_to_text(flag, json_object_get(saved, key));
        if (text) free(flag_set(flag, &config, text));
        free(text);
        free(key);
    }
    return config;
}

void config_check_same_optimizer(const Config *flags, const json_t *saved, const char *where) {
    Config theirs = config_with_saved(flags, saved);
    if (theirs.optimizer == flags->optimizer) return;
    for (int i = 0; i < config_flag_count; i++) {
        const Flag *flag = &config_flags[i];
        if (flag->offset != offsetof(Config, optimizer)) continue;
        Str here = {0}, there = {0};
        flag_print(flag, flags, &here);
        flag_print(flag, &theirs, &there);
        refuse(flag, here.data, there.data, "run", where);
    }
}

char *config_differences(const Config *flags, const json_t *saved) {
    Str text = {0};
    json_t *ours = config_to_json(flags);
    for (int i = 0; i < config_flag_count; i++) {
        const Flag *flag = &config_flags[i];
        bool shapes = flag->group & (ARGS_BATCH | ARGS_TRAIN | ARGS_DATA | ARGS_DTYPE) ||
                      flag->offset == offsetof(Config, seed);
        if (!shapes || flag->offset == offsetof(Config, stop_at_step)) continue;
        char *key = key_of(flag);
        const json_t *here = json_object_get(ours, key), *there = json_object_get(saved, key);
        if (!json_equal(here, there)) {
            char *was = there ? json_dumps(there, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
            char *is = json_dumps(here, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
            str_printf(&text, "%s--%s %s (was %s)", text.count ? ", " : "", flag->name, is,
                       was ? was : "not there");
            free(was);
            free(is);
        }
        free(key);
    }
    json_decref(ours);
    return text.data;
}
