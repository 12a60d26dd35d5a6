#include "common/config/args.h"

#include "common/base/platform.h"

#include "common/config/device_model.h"

#include <stdlib.h>
#include <string.h>

/* ---- showing what was typed ---- */

/* A value as messages show it: long ones cut between characters. The result lives until the next call. */
static const char *shown(const char *text) {
    static char copy[64 + 4];
    size_t count = strlen(text);
    if (count <= 64) return text;
    for (count = 64; count > 0 && ((unsigned char)text[count] & 0xC0) == 0x80; count--) {
    }
    snprintf(copy, sizeof copy, "%.*s...", (int)count, text);
    return copy;
}

/* ---- finding a flag ---- */

typedef struct {
    const Flag *flag;
    bool negated; /* --no-bias */
    bool own;
} Found;

typedef struct {
    Found found;
    const char *value;
} Given;

static bool name_fits(const Flag *flag, const char *name, bool *negated) {
    *negated = flag->kind == FLAG_BOOL && strncmp(name, "no-", 3) == 0;
    return strcmp(flag->name, *negated ? name + 3 : name) == 0;
}

/* A flag of the program or, failing that, any flag of the table. */
static Found find(const Program *program, const char *name) {
    Found found = {.own = true};
    for (int i = 0; i < program->own_count; i++)
        if (name_fits(found.flag = &program->own[i], name, &found.negated)) return found;
    found.own = false;
    for (int i = 0; i < config_flag_count; i++)
        if (name_fits(found.flag = &config_flags[i], name, &found.negated)) return found;
    return (Found){0};
}

/* Edit distance (Levenshtein 1966): insertions, deletions and replacements that make one word the other. */
static int distance(const char *a, const char *b) {
    enum { LONGEST = 64 };
    int row[LONGEST + 1], columns = (int)strlen(b);
    if (strlen(a) > LONGEST || columns > LONGEST) return LONGEST;
    for (int j = 0; j <= columns; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= columns; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]),
                edited = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = replaced < edited ? replaced : edited;
        }
    }
    return row[columns];
}

typedef struct {
    const char *name;
    int distance;
} Guess;

static void guess_among(const Flag *flags, int count, unsigned groups, const char *name, Guess *best) {
    for (int i = 0; i < count; i++) {
        if (flags[i].group & ~groups) continue;
        /* a part of a name, such as batch-size, is as near as it gets */
        int d = strlen(name) > 2 && strstr(flags[i].name, name) ? 1 : distance(name, flags[i].name);
        if (d < best->distance) *best = (Guess){flags[i].name, d};
    }
}

_Noreturn static void fail_unknown(const Program *program, const char *word, const char *name) {
    Guess best = {NULL, 1 + (int)strlen(name) / 3};
    guess_among(program->own, program->own_count, 0, name, &best);
    guess_among(config_flags, config_flag_count, program->groups, name, &best);
    const char *hint = best.name ? xprintf("did you mean --%s?", best.name) : "--help lists all flags";
    fail(2, hint, "%s is not a flag", shown(word));
}

/* ---- reading ---- */

/* The flag that `word` names, without its =value. Never returns one that the program does not use. */
static Found find_used(const Program *program, const char *word) {
    size_t dashes = strspn(word, "-");
    CHECK_USAGE(dashes > 0 && word[dashes],
                "flags start with --, and a value with spaces needs quotes; --help lists all flags",
                "'%s' is not a flag", shown(word));
    char *name = xprintf("%.*s", (int)strcspn(word + dashes, "="), word + dashes);
    Found found = find(program, name);
    if (!found.flag || dashes != 2) fail_unknown(program, word, name);
    CHECK_USAGE(found.own || found.flag->group & program->groups, "--help lists the flags that it uses",
                "%s is a flag of other programs, %s does not use it", shown(word), base_program());
    free(name);
    return found;
}

/* The value of the flag argv[*i]; moves *i on when it is a word of its own. */
static const char *value_of(int argc, char **argv, int *i, const Found *found) {
    const char *word = argv[*i], *equals = strchr(word, '='), *name = found->flag->name;
    if (found->flag->kind == FLAG_BOOL) {
        CHECK_USAGE(!equals, xprintf("write --%s or --no-%s", name, name), "%s: this flag takes no value",
                    shown(word));
        return found->negated ? "false" : "true";
    }
    if (equals) return equals + 1;
    bool has_value = *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0;
    CHECK_USAGE(has_value, flag_usage(found->flag), "%s has no value", word);
    return argv[++*i];
}

bool args_given(int argc, char **argv, const char *name) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++) /* a value that is a word of its own does not begin with dashes */
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, length) == 0 &&
            strchr("=", argv[i][2 + length]))
            return true;
    return false;
}

static void set(const Given *given, void *base) {
    const Flag *flag = given->found.flag;
    char *problem = flag_set(flag, base, given->value);
    CHECK_USAGE(!problem, flag_usage(flag), "--%s is '%s', %s", flag->name, shown(given->value), problem);
}

static bool was_given(const Given *given, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (!given[i].found.own && strcmp(given[i].found.flag->name, name) == 0) return true;
    return false;
}

/* How many devices have a slice of the batch; where the mesh does not fit, which mesh_new refuses, one. */
static int data_parallel(const Config *c, int devices) {
    int64_t others = c->tensor_parallel * c->pipeline_parallel;
    return devices % others == 0 ? (int)max64(devices / others, 1) : 1;
}

/* The largest micro-batch up to `most` that divides a device's share of the global batch. */
static int64_t micro_batch_of(int64_t share, int64_t most) {
    int64_t size = max64(min64(share, most), 1);
    while (share % size) size--;
    return size;
}

/* What a preset says gives way to what follows from the flags. */
static void let_follow(Config *config, const Config *preset, const Given *given, int count) {
    if (was_given(given, count, "learning-rate") && !was_given(given, count, "min-lr"))
        config->min_lr = config->learning_rate * (preset->min_lr / preset->learning_rate);
    if (was_given(given, count, "num-microbatches")) {
        if (!was_given(given, count, "global-batch-size"))
            config->global_batch = 0;
        else if (!was_given(given, count, "micro-batch-size"))
            config->micro_batch = 0;
    } else if (config->data_parallel > 1 && !was_given(given, count, "micro-batch-size")) {
        config->micro_batch =
            micro_batch_of(config->global_batch / config->data_parallel, preset->micro_batch);
    }
}

Config args_parse(int argc, char **argv, const Program *program) {
    base_set_program(argc > 0 ? argv[0] : "shard.c");
    bool speaks = platform_rank() <= 0;
    base_usage_said_by(!speaks);
    Given *given = xcalloc((size_t)argc + 1, sizeof *given);
    int count = 0;
    bool help = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help = true;
            continue;
        }
        Found found = find_used(program, argv[i]);
        given[count++] = (Given){found, value_of(argc, argv, &i, &found)};
    }

    Config chosen = {.preset = "tiny"};
    for (int i = 0; i < count; i++)
        if (given[i].found.flag->kind == FLAG_PRESET) set(&given[i], &chosen);
    Config preset = *config_preset(chosen.preset);
    if (program->prefer) program->prefer(&preset);
    static char *output_dir; /* lives as long as the program */
    free(output_dir);
    output_dir = xprintf("runs/%s", base_program());
    Config config = preset;
    config.output_dir = output_dir;
    config.data_parallel = data_parallel(&config, program->devices);
    if (help) {
        let_follow(&config, &preset, NULL, 0);
        config_check(&config);
        if (speaks) args_help(argv[0], program, &config);
        exit(0);
    }

    for (int i = 0; i < count; i++) set(&given[i], given[i].found.own ? program->values : &config);
    if (program->groups & ARGS_CLOCK && strcmp(config.device_model, "list") == 0) {
        if (speaks) device_model_print(stdout);
        exit(0);
    }
    config.data_parallel = data_parallel(&config, program->devices);
    let_follow(&config, &preset, given, count);
    config_check(&config);
    free(given);
    return config;
}
