#include "common/config/args_words.h"

#include <stdlib.h>
#include <string.h>

enum { WIDTH = 100, TEXT_COLUMN = 34 };

const char *args_group_title(unsigned group) {
    switch (group) {
    case ARGS_MODEL: return "model";
    case ARGS_BATCH: return "batch";
    case ARGS_TRAIN: return "training";
    case ARGS_DATA: return "data";
    case ARGS_SAMPLE: return "sampling";
    case ARGS_PROGRESS: return "progress";
    case ARGS_RUN: return "run";
    case ARGS_DEVICES: return "several devices";
    case ARGS_MESH: return "mesh of devices";
    case ARGS_OVERLAP: return "gradients";
    case ARGS_SHARDING: return "what each device keeps";
    case ARGS_TENSOR: return "layers on several devices";
    case ARGS_PIPELINE: return "pipeline";
    case ARGS_AHEAD: return "before a run";
    case ARGS_DTYPE: return "type of numbers";
    default: return "this program";
    }
}

/* Words from TEXT_COLUMN on, going on in the next line where the width ends. */
static void print_wrapped(const char *text) {
    size_t column = TEXT_COLUMN;
    while (*text) {
        size_t count = strcspn(text, " ");
        if (column > TEXT_COLUMN && column + count > WIDTH) {
            printf("\n%*s", TEXT_COLUMN, "");
            column = TEXT_COLUMN;
        }
        printf("%.*s", (int)count, text);
        column += count + 1;
        text += count;
        text += strspn(text, " ");
        if (*text && column + strcspn(text, " ") <= WIDTH) putchar(' ');
    }
    putchar('\n');
}

static void print_flag(const char *synopsis, const char *text) {
    printf("  %-*s", TEXT_COLUMN - 2, synopsis);
    if (strlen(synopsis) > TEXT_COLUMN - 4) printf("\n%*s", TEXT_COLUMN, "");
    print_wrapped(text);
}

static void print_flags(const Flag *flags, int count, unsigned groups, const void *base) {
    char *presets = config_preset_names(", ");
    for (int i = 0; i < count; i++) {
        const Flag *flag = &flags[i];
        if (flag->group & ~groups) continue;
        if (i == 0 || flag->group != flags[i - 1].group) printf("\n%s:\n", args_group_title(flag->group));
        Str synopsis = {0}, value = {0}, text = {0};
        flag_print_synopsis(flag, &synopsis);
        flag_print(flag, base, &value);
        if (flag->kind == FLAG_BOOL)
            str_printf(&text, "%s [%s]", flag->help, *value.data == 't' ? "on" : "off");
        else if (flag->kind == FLAG_PRESET)
            str_printf(&text, "%s: %s [%s]", presets, flag->help, value.data);
        else if (value.data)
            str_printf(&text, "%s [%s]", flag->help, value.data);
        else
            str_printf(&text, "%s", flag->help);
        print_flag(synopsis.data, text.data);
        str_free(&synopsis);
        str_free(&value);
        str_free(&text);
    }
    free(presets);
}

void args_help(const char *argv0, const Program *program, const Config *config) {
    printf("%s: %s\nexample: %s %s\n", base_program(), program->about, argv0, program->example);
    print_flags(program->own, program->own_count, 0, program->values);
    print_flags(config_flags, config_flag_count, program->groups, config);
    printf("\n");
    char *text = xprintf("%s; every training run leaves its own, OUTPUT_DIR/" ARGS_SAVED, words_config.help);
    print_flag("--config FILE", text);
    free(text);
    print_flag("--help", "this list; with --preset or --config, their defaults");
}
