#include "common/config/args_words.h"

#include "common/base/platform.h"

#include "common/config/device_model.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

/* What the last args_parse was told by. */
static Program told;
static const char *told_command;
static Words words;
static bool from_file;

_Noreturn static void fail_unknown(const Program *program, const char *word, const char *name) {
    const char *nearest = words_nearest(program, name);
    const char *hint = nearest ? xprintf("did you mean --%s?", nearest) : "--help lists all flags";
    fail(2, hint, "%s is not a flag", words_shown(word));
}

/* The flag that `word` names, without its =value. Never returns one that the program does not use. */
static Found find_used(const Program *program, const char *word) {
    size_t dashes = strspn(word, "-");
    CHECK_USAGE(dashes > 0 && word[dashes],
                "flags start with --, and a value with spaces needs quotes; --help lists all flags",
                "'%s' is not a flag", words_shown(word));
    char *name = xprintf("%.*s", (int)strcspn(word + dashes, "="), word + dashes);
    Found found = words_find(program, name);
    if (dashes == 2 && strcmp(name, words_config.name) == 0) found = (Found){.flag = &words_config};
    if (!found.flag || dashes != 2) fail_unknown(program, word, name);
    CHECK_USAGE(found.own || found.flag == &words_config || found.flag->group & program->groups,
                "--help lists the flags that it uses", "%s is a flag of other programs, %s does not use it",
                words_shown(word), base_program());
    free(name);
    return found;
}

/* The value of the flag argv[*i]; moves *i on when it is a word of its own. */
static const char *value_of(int argc, char **argv, int *i, const Found *found) {
    const char *word = argv[*i], *equals = strchr(word, '='), *name = found->flag->name;
    if (found->flag->kind == FLAG_BOOL) {
        CHECK_USAGE(!equals, xprintf("write --%s or --no-%s", name, name), "%s: this flag takes no value",
                    words_shown(word));
        return found->negated ? "false" : "true";
    }
    if (equals) return equals + 1;
    bool has_value = *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0;
    CHECK_USAGE(has_value, flag_usage(found->flag), "%s has no value", word);
    return argv[++*i];
}

/* Config files come first, in their order, then the command line, wherever --config stands on it. Returns the layer of
 * the command line; *help: is it asked for? */
static int read_words(int argc, char **argv, const Program *program, bool *help) {
    Words line = {0};
    int layer = 1;
    free(words.items);
    words = (Words){0};
    config_file_forget();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
            continue;
        }
        Found found = find_used(program, argv[i]);
        const char *value = value_of(argc, argv, &i, &found);
        if (found.flag == &words_config)
            config_file_read(value, program, layer++, &words);
        else
            words_add(&line, (Given){found.flag, value, NULL, 0, found.own});
    }
    for (int i = 0; i < line.count; i++) {
        line.items[i].layer = layer;
        words_add(&words, line.items[i]);
    }
    free(line.items);
    from_file = layer > 1;
    return layer;
}

bool args_given(int argc, char **argv, const char *name) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++) /* a value that is a word of its own does not begin with dashes */
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, length) == 0 &&
            strchr("=", argv[i][2 + length]))
            return true;
    for (int i = 0; i < words.count; i++)
        if (words.items[i].where && strcmp(words.items[i].flag->name, name) == 0) return true;
    return false;
}

/* ---- setting ---- */

static void set(const Given *given, void *base) {
    const Flag *flag = given->flag;
    char *problem = flag_set(flag, base, given->value);
    if (!problem) return;
    const char *shown = words_shown(given->value);
    if (given->where)
        fail(2, flag_usage(flag), "%s: %s is '%s', %s", given->where, flag->name, shown, problem);
    fail(2, flag_usage(flag), "--%s is '%s', %s", flag->name, shown, problem);
}

/* The last layer up to `most` in which a flag of the shared table was given; 0: in none. */
static int layer_of(const char *name, int most) {
    int layer = 0;
    for (int i = 0; i < words.count; i++) {
        const Given *given = &words.items[i];
        if (!given->own && given->layer <= most && strcmp(given->flag->name, name) == 0) layer = given->layer;
    }
    return layer;
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

/* Sets what a layer gives. To it, what was set before is a preset: the lowest rate follows the highest in its ratio. */
static void set_layer(Config *config, const Program *program, int layer) {
    Config before = *config;
    for (int i = 0; i < words.count; i++)
        if (words.items[i].layer == layer)
            set(&words.items[i], words.items[i].own ? program->values : config);
    if (layer_of("learning-rate", layer) == layer && layer_of("min-lr", layer) < layer)
        config->min_lr =
            before.learning_rate > 0 ? config->learning_rate * (before.min_lr / before.learning_rate) : 0;
}

/* Of the three sizes of a batch one follows from the others: the one that was given first, or not at all. Which, where
 * several were: the number of micro-batches, then the global batch. Three that were given together must agree. */
static void let_batch_follow(Config *config, const Config *preset, int last) {
    int number = layer_of("num-microbatches", last), global = layer_of("global-batch-size", last),
        micro = layer_of("micro-batch-size", last);
    if (number == 0) { /* it is 0 in every preset */
        if (config->data_parallel > 1 && micro == 0)
            config->micro_batch =
                micro_batch_of(config->global_batch / config->data_parallel, preset->micro_batch);
    } else if (number != global || number != micro) {
        if (number <= global && number <= micro)
            config->num_microbatches = 0;
        else if (global <= micro)
            config->global_batch = 0;
        else
            config->micro_batch = 0;
    }
}

/* ---- the whole ---- */

Config args_parse(int argc, char **argv, const Program *program) {
    base_set_program(argc > 0 ? argv[0] : "shard.c");
    bool speaks = platform_rank() <= 0, help = false;
    base_usage_said_by(!speaks);
    told = *program;
    told_command = argc > 0 ? argv[0] : base_program();
    int last = read_words(argc, argv, program, &help);

    Config chosen = {.preset = "tiny"};
    for (int i = 0; i < words.count; i++)
        if (words.items[i].flag->kind == FLAG_PRESET) set(&words.items[i], &chosen);
    Config preset = *config_preset(chosen.preset);
    if (program->prefer) program->prefer(&preset);
    static char *output_dir; /* lives as long as the program */
    free(output_dir);
    output_dir = xprintf("runs/%s", base_program());
    Config config = preset;
    config.output_dir = output_dir;
    if (help) last--; /* the defaults: of the preset and of config files */
    for (int layer = 1; layer <= last; layer++) set_layer(&config, program, layer);
    config.preset = preset.preset; /* the last one, which may stand in a layer that is not set */
    if (!help && program->groups & ARGS_DEVICES && strcmp(config.device_model, "list") == 0) {
        if (speaks) device_model_print(stdout);
        exit(0);
    }
    config.data_parallel = data_parallel(&config, program->devices);
    let_batch_follow(&config, &preset, last);
    config_check(&config);
    if (help) {
        if (speaks) args_help(argv[0], program, &config);
        exit(0);
    }
    return config;
}

/* ---- the resolved configuration ---- */

void args_save(const Config *config) {
    int devices = told.devices > 1 ? told.devices : 1;
    char *start = devices > 1 ? xprintf("build/mpiexec -n %d ", devices) : xstrdup("");
    char *again = xprintf("%s%s --config %s/" ARGS_SAVED, start, told_command, config->output_dir);
    for (char *c = again; *c; c++) /* a name may hold the end of a line */
        if ((unsigned char)*c < ' ') *c = '?';
    Str text = {0};
    str_printf(&text,
               "# What %s was told on %d device%s, and what follows from it. The same run again:\n#   %s\n\n",
               base_program(), devices, devices > 1 ? "s" : "", again);
    config_file_print(config, &told, &text);
    char *path = xprintf("%s/" ARGS_SAVED, config->output_dir);
    file_write(path, text.data, text.count);
    str_free(&text);
    free(start);
    free(again);
    free(path);
}

uint64_t args_fingerprint(const Config *config) {
    Str text = {0};
    config_file_print(config, &told, &text);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *c = text.data; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    str_free(&text);
    return hash;
}

bool args_from_file(void) { return from_file; }
