#include "common/config/args_words.h"

#include <stdlib.h>
#include <string.h>

void words_add(Words *words, Given given) {
    words->items = xrealloc(words->items, (size_t)(words->count + 1) * sizeof given);
    words->items[words->count++] = given;
}

const char *words_shown(const char *text) {
    static char copy[64 + 4];
    size_t count = strlen(text);
    if (count <= 64) return text;
    for (count = 64; count > 0 && ((unsigned char)text[count] & 0xC0) == 0x80; count--) {
    }
    snprintf(copy, sizeof copy, "%.*s...", (int)count, text);
    return copy;
}

/* ---- finding a flag ---- */

const Flag words_config = {.name = "config",
                           .kind = FLAG_TEXT,
                           .values = "FILE",
                           .help =
                               "flags from a file, a line 'flag = value' for each; those of the command line "
                               "override it"};

/* Names that other programs have for the same. */
static const struct {
    const char *other, *name;
} other_names[] = {{"gradient-accumulation-steps", "num-microbatches"}};

static bool name_fits(const Flag *flag, const char *name, bool *negated) {
    *negated = flag->kind == FLAG_BOOL && strncmp(name, "no-", 3) == 0;
    return strcmp(flag->name, *negated ? name + 3 : name) == 0;
}

Found words_find(const Program *program, const char *name) {
    Found found = {.own = true};
    for (int i = 0; i < program->own_count; i++)
        if (name_fits(found.flag = &program->own[i], name, &found.negated)) return found;
    for (int i = 0; i < COUNT_OF(other_names); i++)
        if (strcmp(name, other_names[i].other) == 0) name = other_names[i].name;
    found.own = false;
    for (int i = 0; i < config_flag_count; i++)
        if (name_fits(found.flag = &config_flags[i], name, &found.negated)) return found;
    return (Found){0};
}

/* ---- the nearest name ---- */

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

const char *words_nearest(const Program *program, const char *name) {
    Guess best = {NULL, 1 + (int)strlen(name) / 3};
    guess_among(program->own, program->own_count, 0, name, &best);
    guess_among(&words_config, 1, 0, name, &best);
    guess_among(config_flags, config_flag_count, program->groups, name, &best);
    return best.name;
}
