/* Config files: read into the words that args.c sets, and written as a run's resolved configuration. */
#include "common/config/args_words.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 22 }; /* a prompt may be 1M, and as many escapes */

/* ---- reading ---- */

/* What values and places point into: one for each file and line, until the next args_parse. */
static char **kept;
static int kept_count;

static char *keep(char *text) {
    kept = xrealloc(kept, (size_t)(kept_count + 1) * sizeof *kept);
    return kept[kept_count++] = text;
}

void config_file_forget(void) {
    for (int i = 0; i < kept_count; i++) free(kept[i]);
    free(kept);
    kept = NULL;
    kept_count = 0;
}

/* The text of a file of the user's. */
static char *text_of(const char *path) {
    const char *hint =
        "a file with a line 'flag = value' for each flag; every training run writes one, run.conf";
    FILE *f = fopen(path, "rb");
    CHECK_USAGE(f, hint, "--config: cannot open '%s': %s", words_shown(path), strerror(errno));
    Str text = {0};
    char buffer[1 << 12];
    str_add(&text, "", 0);
    for (size_t n; text.count <= MOST_BYTES && (n = fread(buffer, 1, sizeof buffer, f)) > 0;)
        str_add(&text, buffer, n);
    CHECK_USAGE(!ferror(f), hint, "--config: cannot read '%s': %s", words_shown(path), strerror(errno));
    fclose(f);
    CHECK_USAGE(text.count <= MOST_BYTES, hint, "--config: '%s' is longer than %d bytes", words_shown(path),
                MOST_BYTES);
    CHECK_USAGE(strlen(text.data) == text.count, hint, "--config: '%s' is no text, it holds a zero byte",
                words_shown(path));
    return keep(text.data);
}

typedef struct {
    const char *where; /* "'run.conf' line 3" */
    const char *rest;  /* of the line, as far as it is not read yet */
} Line;

static void skip_blanks(Line *line) { line->rest += strspn(line->rest, " \t\r\v\f"); }

/* A comment begins with # at the start of a line or behind a blank; it may hold anything. */
static bool at_end(const Line *line) { return !*line->rest || *line->rest == '#'; }

/* "...", with \" \\ \n and \t inside. */
static char *quoted_value(Line *line) {
    Str value = {0};
    str_add(&value, "", 0);
    const char *at = line->rest + 1;
    for (; *at && *at != '"'; at++) {
        char c = *at;
        if (c == '\\') {
            const char *found = at[1] ? strchr("\"\\nt", at[1]) : NULL;
            CHECK_USAGE(found, "in quotes \\\" \\\\ \\n and \\t stand for a quote, \\, a new line and a tab",
                        "%s: \\%.1s in the value is not known", line->where, at + 1);
            c = "\"\\\n\t"[found - "\"\\nt"];
            at++;
        }
        str_add(&value, &c, 1);
    }
    CHECK_USAGE(*at, "a value that begins with a quote ends with one; \\\" is a quote inside",
                "%s: the quote is never closed", line->where);
    line->rest = at + 1;
    skip_blanks(line);
    CHECK_USAGE(at_end(line), "only a comment may follow a value in quotes",
                "%s: '%s' stands behind the value", line->where, words_shown(line->rest));
    return keep(value.data);
}

/* Up to the comment or the end, without the blanks around. */
static char *plain_value(Line *line) {
    size_t count = 0, end = 0;
    for (const char *at = line->rest; *at; at++, count++) {
        if (*at == '#' && (count == 0 || isblank((unsigned char)at[-1]))) break;
        if (!isspace((unsigned char)*at)) end = count + 1;
    }
    return keep(xprintf("%.*s", (int)end, line->rest));
}

/* The flag of this name; never returns one that may not stand here. */
static Found flag_of(const Program *program, const Line *line, const char *name) {
    CHECK_USAGE(strcmp(name, "config") != 0,
                "give it on the command line: --config may stand there several times",
                "%s: a config file cannot name another", line->where);
    Found found = words_find(program, name);
    if (!found.flag) {
        const char *nearest = words_nearest(program, name);
        const char *hint = nearest ? xprintf("did you mean %s?", nearest)
                                   : "--help lists all flags; here they have no dashes";
        fail(2, hint, "%s: %s is not a flag", line->where, words_shown(name));
    }
    CHECK_USAGE(!found.negated, xprintf("write %s = false", found.flag->name), "%s: %s is not a flag here",
                line->where, name);
    CHECK_USAGE(found.own || found.flag->group & program->groups, "--help lists the flags that it uses",
                "%s: %s is a flag of other programs, %s does not use it", line->where, name, base_program());
    return found;
}

static void read_line(Line line, const Program *program, int layer, Words *words) {
    skip_blanks(&line);
    if (at_end(&line)) return;
    size_t count = strcspn(line.rest, "= \t\r");
    char *name = keep(xprintf("%.*s", (int)count, line.rest));
    line.rest += count;
    skip_blanks(&line);
    CHECK_USAGE(*line.rest == '=' && *name, "a line is flag = value, such as num-layers = 4 or bias = true",
                "%s: '%s' is no flag with a value", line.where, words_shown(name));
    line.rest++;
    skip_blanks(&line);
    Found found = flag_of(program, &line, name);
    for (int i = 0; i < words->count; i++)
        CHECK_USAGE(words->items[i].layer != layer || words->items[i].flag != found.flag,
                    "leave one of them out", "%s: %s is given twice, first in %s", line.where, name,
                    words->items[i].where);
    char *value = *line.rest == '"' ? quoted_value(&line) : plain_value(&line);
    words_add(words, (Given){found.flag, value, line.where, layer, found.own});
}

void config_file_read(const char *path, const Program *program, int layer, Words *words) {
    char *text = text_of(path);
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* what editors put before UTF-8 */
    int number = 1;
    for (char *at = text, *end; at; at = end, number++) {
        end = strchr(at, '\n');
        if (end) *end++ = 0;
        char *where = keep(xprintf("'%s' line %d", words_shown(path), number));
        read_line((Line){where, at}, program, layer, words);
    }
}

/* ---- writing ---- */

/* A text as read_line takes it back. */
static void print_value(const char *text, Str *out) {
    size_t count = strlen(text);
    bool plain = count > 0 && !strpbrk(text, "\"\\#\n\t\r\v\f") && text[0] != ' ' && text[count - 1] != ' ';
    if (plain) {
        str_add(out, text, count);
        return;
    }
    str_add(out, "\"", 1);
    for (const char *at = text; *at; at++) {
        const char *found = strchr("\"\\\n\t", *at);
        if (found)
            str_printf(out, "\\%c", "\"\\nt"[found - "\"\\\n\t"]);
        else
            str_add(out, at, 1);
    }
    str_add(out, "\"", 1);
}

/* What a run is asked for once, and is none of its properties. */
static bool is_request(const Flag *flag) {
    const size_t offsets[] = {offsetof(Config, resume), offsetof(Config, print_model),
                              offsetof(Config, print_memory), offsetof(Config, print_data),
                              offsetof(Config, prompt)};
    for (int i = 0; i < COUNT_OF(offsets); i++)
        if (flag->offset == offsets[i]) return true;
    return false;
}

static void print_flag(const Flag *flag, const void *base, bool follows, Str *out) {
    Str value = {0};
    flag_print(flag, base, &value);
    if (!value.data) {
        str_printf(out, "# %s =\n", flag->name); /* not given, and "" would be another thing */
        return;
    }
    str_printf(out, "%s%s = ", follows ? "# " : "", flag->name);
    print_value(value.data, out);
    str_printf(out, "%s\n", follows ? "   (follows from the two above and the number of devices)" : "");
    str_free(&value);
}

static bool shadowed(const Program *program, const Flag *flag) {
    for (int i = 0; i < program->own_count; i++)
        if (strcmp(program->own[i].name, flag->name) == 0) return true;
    return false;
}

void config_file_print(const Config *config, const Program *program, Str *out) {
    str_printf(out, "# %s:\n", args_group_title(0));
    for (int i = 0; i < program->own_count; i++) print_flag(&program->own[i], program->values, false, out);
    unsigned group = 0;
    for (int i = 0; i < config_flag_count; i++) {
        const Flag *flag = &config_flags[i];
        if (flag->group & ~program->groups || is_request(flag) || shadowed(program, flag)) continue;
        if (flag->group != group) str_printf(out, "\n# %s:\n", args_group_title(group = flag->group));
        print_flag(flag, config, flag->offset == offsetof(Config, num_microbatches), out);
    }
}
