#include "datasets/stories.h"

#include "common/base/rng.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* ---- templates ---- */

/* {role}, {role.column}, {^role.column} */
typedef struct {
    int role, column;
    bool capital;
    const char *end; /* behind the } */
} Mention;

static bool is_word(const char *word, const char *p, size_t length) {
    return strlen(word) == length && !strncmp(word, p, length);
}

/* Reads the mention at p, a `{`. */
static Mention read_mention(const char *p) {
    Mention m = {.capital = p[1] == '^'};
    p += 1 + m.capital;
    size_t length = strcspn(p, ".}");
    while (m.role < STORY_ROLES && !is_word(story_roles[m.role].name, p, length)) m.role++;
    ASSERT(m.role < STORY_ROLES);
    p += length;
    if (*p == '.') {
        const StoryTable *table = story_roles[m.role].table;
        length = strcspn(++p, "}");
        while (m.column < table->columns && !is_word(table->cells[m.column], p, length)) m.column++;
        ASSERT(m.column < table->columns);
        p += length;
    }
    m.end = p + 1;
    return m;
}

/* From just inside a `[`, or inside one of its alternatives: the next `|` or `]` of this choice. */
static const char *alternative_end(const char *p) {
    for (int level = 0; level > 0 || (*p != '|' && *p != ']'); p++) level += (*p == '[') - (*p == ']');
    return p;
}

static bool row_is_free(const StoryWalk *walk, const StoryTable *table, int row) {
    for (int role = 0; role < STORY_ROLES; role++)
        if (story_roles[role].table == table && walk->row[role] == row) return false;
    return true;
}

/* ---- the walk ---- */

StoryWalk story_begin(Str *text) {
    StoryWalk walk = {.at = {story_root}, .depth = 1, .text = text};
    for (int role = 0; role < STORY_ROLES; role++) walk.row[role] = -1;
    return walk;
}

static void say(StoryWalk *walk, char c) {
    if (walk->capital) c = (char)toupper((unsigned char)c);
    walk->capital = false;
    str_add(walk->text, &c, 1);
}

int story_next(StoryWalk *walk) {
    while (walk->depth > 0) {
        const char **at = &walk->at[walk->depth - 1];
        if (**at == 0) {
            walk->depth--;
        } else if (**at == '[') {
            int options = 1;
            for (const char *p = alternative_end(*at + 1); *p == '|'; p = alternative_end(p + 1)) options++;
            return options;
        } else if (**at == '|') { /* the alternative taken is at its end: skip those behind it */
            while (**at == '|') *at = alternative_end(*at + 1);
        } else if (**at == ']') {
            ++*at;
        } else if (**at == '{') {
            Mention m = read_mention(*at);
            const StoryTable *table = story_roles[m.role].table;
            if (walk->row[m.role] < 0) {
                int options = 0;
                for (int row = 0; row < table->rows; row++) options += row_is_free(walk, table, row);
                return options;
            }
            ASSERT(walk->depth < STORY_DEPTH);
            *at = m.end;
            walk->capital |= m.capital;
            walk->at[walk->depth++] = table->cells[(walk->row[m.role] + 1) * table->columns + m.column];
        } else {
            say(walk, *(*at)++);
        }
    }
    return 0;
}

void story_take(StoryWalk *walk, int option) {
    const char **at = &walk->at[walk->depth - 1];
    if (**at == '[') {
        for (++*at; option > 0; option--) *at = alternative_end(*at) + 1;
    } else {
        int role = read_mention(*at).role, row = 0;
        for (;; row++)
            if (row_is_free(walk, story_roles[role].table, row) && option-- == 0) break;
        walk->row[role] = row;
    }
}

void story_option(const StoryWalk *walk, int option, Str *text) {
    StoryWalk fork = *walk;
    fork.text = text;
    story_take(&fork, option);
    story_next(&fork);
}

/* ---- making and parsing ---- */

double story_make(uint64_t seed, uint64_t index, Str *text) {
    /* a story draws fewer than 1024 numbers: each has a stretch of the stream of its own */
    Rng rng = {seed, rng_stream("datasets.stories"), index * 1024};
    StoryWalk walk = story_begin(text);
    double minus_log_p = 0;
    for (int options; (options = story_next(&walk)) > 0;) {
        story_take(&walk, (int)rng_below(&rng, (uint32_t)options));
        minus_log_p += log(options);
    }
    return minus_log_p;
}

bool story_parse(const char *text, size_t bytes, double *minus_log_p) {
    Str said = {0}, next = {0};
    StoryWalk walk = story_begin(&said);
    *minus_log_p = 0;
    int options;
    while ((options = story_next(&walk)) > 0 && said.count <= bytes) {
        size_t left = bytes - said.count;
        int matches = 0, match = 0;
        for (int option = 0; option < options; option++) {
            next.count = 0;
            story_option(&walk, option, &next);
            if (next.count > 0 && next.count <= left && !memcmp(next.data, text + said.count, next.count)) {
                matches++;
                match = option;
            }
        }
        if (matches != 1) break;
        story_take(&walk, match);
        *minus_log_p += log(options);
    }
    bool whole = options == 0 && said.count == bytes && !memcmp(said.data, text, bytes);
    str_free(&said);
    str_free(&next);
    return whole;
}
