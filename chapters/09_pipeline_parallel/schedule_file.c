#include "chapters/09_pipeline_parallel/schedule.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char header[] = "stage,action,micro_batch,chunk";

/* ---- words ---- */

/* A part of the file: [at, end). */
typedef struct {
    const char *at, *end;
} Span;

static Span trimmed(Span s) {
    while (s.at < s.end && isspace((unsigned char)*s.at)) s.at++;
    while (s.at < s.end && isspace((unsigned char)s.end[-1])) s.end--;
    return s;
}

/* Up to the first of a kind of bytes, which is left out; the rest stays in *s. */
static Span cut(Span *s, char at) {
    const char *found = memchr(s->at, at, (size_t)(s->end - s->at));
    Span part = {s->at, found ? found : s->end};
    s->at = found ? found + 1 : s->end;
    return part;
}

static bool is_word(Span s, const char *word) {
    return (size_t)(s.end - s.at) == strlen(word) && memcmp(s.at, word, strlen(word)) == 0;
}

typedef struct {
    char text[48];
} Quote;

/* What is wrong, for an error message of one line. */
static Quote quote(Span s) {
    Quote q = {{0}};
    size_t count = (size_t)min64(s.end - s.at, (int64_t)sizeof q.text - 4);
    for (size_t i = 0; i < count; i++) q.text[i] = isprint((unsigned char)s.at[i]) ? s.at[i] : '?';
    if ((size_t)(s.end - s.at) > count) memcpy(q.text + count, "...", 4);
    return q;
}

/* ---- lines ---- */

typedef struct {
    const char *path;
    int line;
    const char *what; /* of the columns it is in */
} Where;

static int64_t number(Span field, Where where) {
    int64_t value = 0;
    bool fine = field.at < field.end;
    for (const char *c = field.at; c < field.end && fine; c++) {
        fine = *c >= '0' && *c <= '9';
        value = 10 * value + (*c - '0');
        fine = fine && value < INT_MAX;
    }
    CHECK_USAGE(fine, "a whole number from 0 on", "%s, line %d: %s is '%s'", where.path, where.line,
                where.what, quote(field).text);
    return value;
}

static ActionKind action_kind(Span field, Where where) {
    for (ActionKind kind = 0; kind < ACTION_KINDS; kind++)
        if (field.end - field.at == 1 && toupper((unsigned char)*field.at) == action_letters[kind])
            return kind;
    fail(2, "F, B or W", "%s, line %d: %s is '%s'", where.path, where.line, where.what, quote(field).text);
}

typedef struct {
    int stage;
    Action action;
} Row;

static Row parse_row(Span line, const char *path, int number_of_line) {
    static const char *const columns[] = {"stage", "action", "micro_batch", "chunk"};
    Span fields[COUNT_OF(columns)] = {{0}}, rest = line;
    int commas = 0;
    for (const char *c = line.at; c < line.end; c++) commas += *c == ',';
    CHECK_USAGE(commas == COUNT_OF(columns) - 1, "four fields: stage,action,micro_batch,chunk",
                "%s, line %d: '%s'", path, number_of_line, quote(line).text);
    for (int i = 0; i < COUNT_OF(columns); i++) fields[i] = trimmed(cut(&rest, ','));
    Where where = {path, number_of_line, NULL};
    int64_t values[COUNT_OF(columns)] = {0};
    for (int i = 0; i < COUNT_OF(columns); i++) {
        where.what = columns[i];
        values[i] = i == 1 ? (int64_t)action_kind(fields[i], where) : number(fields[i], where);
    }
    return (Row){(int)values[0], {(ActionKind)values[1], false, (int)values[3], values[2], number_of_line}};
}

/* ---- all lines: the caller frees them ---- */

static Row *parse(Span file, const char *path, int64_t *count) {
    Row *rows = NULL;
    bool begun = false;
    *count = 0;
    for (int line = 1; file.at < file.end; line++) {
        CHECK_USAGE(line < INT_MAX - 1, NULL, "%s: too many lines", path);
        Span whole = cut(&file, '\n');
        Span text = trimmed(cut(&whole, '#'));
        if (text.at == text.end) continue;
        if (!begun) {
            CHECK_USAGE(is_word(text, header),
                        "the first line names the columns: stage,action,micro_batch,chunk",
                        "%s, line %d: '%s'", path, line, quote(text).text);
            begun = true;
            continue;
        }
        if ((*count & (*count - 1)) == 0) rows = xrealloc(rows, (size_t)max64(2 * *count, 1) * sizeof *rows);
        rows[(*count)++] = parse_row(text, path, line);
        CHECK_USAGE(*count <= ACTIONS_MOST, NULL, "%s, line %d: more than %d actions", path, line,
                    ACTIONS_MOST);
    }
    CHECK_USAGE(*count > 0, "a header line, stage,action,micro_batch,chunk, and a line for each action",
                "%s: there is no action in it", path);
    return rows;
}

static int64_t in_column(const Row *row, int column) {
    return column == 0 ? row->stage : column == 1 ? row->action.chunk : row->action.microbatch;
}

/* How many there are: the largest number + 1, and all below it must be there. There are at most as many as rows. */
static int64_t size_of(const Row *rows, int64_t count, int column, const char *path) {
    static const char *const names[] = {"stage", "chunk", "micro-batch"};
    bool *there = xcalloc((size_t)count, sizeof *there);
    const Row *largest = rows;
    for (int64_t i = 0; i < count; i++) {
        if (in_column(&rows[i], column) > in_column(largest, column)) largest = &rows[i];
        if (in_column(&rows[i], column) < count) there[in_column(&rows[i], column)] = true;
    }
    int64_t missing = 0, size = in_column(largest, column) + 1;
    while (missing < count && there[missing]) missing++;
    free(there);
    CHECK_USAGE(missing >= size, "they are numbered from 0 on, without a gap",
                "%s: no line has %s %" PRId64 ", but line %d has %s %" PRId64, path, names[column], missing,
                largest->action.line, names[column], size - 1);
    return size;
}

/* Refuses what is too short to be complete, which is all that could take more memory than the file does. Where a chunk has
 * fewer F, or B, than there are micro-batches, one has none. */
static void check_count(const Row *rows, int64_t count, int64_t chunks, int64_t microbatches,
                        const char *path) {
    int64_t *have = xcalloc((size_t)chunks * ACTION_KINDS, sizeof *have);
    for (int64_t i = 0; i < count; i++)
        have[rows[i].action.chunk * ACTION_KINDS + (int)rows[i].action.kind]++;
    int64_t few = 0;
    while (few < chunks * ACTION_KINDS && (few % ACTION_KINDS == ACTION_WEIGHTS || have[few] >= microbatches))
        few++;
    free(have);
    if (few == chunks * ACTION_KINDS) return;
    int64_t chunk = few / ACTION_KINDS, missing = 0;
    ActionKind kind = (ActionKind)(few % ACTION_KINDS);
    bool *there = xcalloc((size_t)microbatches, sizeof *there);
    for (int64_t i = 0; i < count; i++)
        if (rows[i].action.chunk == chunk && rows[i].action.kind == kind)
            there[rows[i].action.microbatch] = true;
    while (there[missing]) missing++;
    fail(2, "each micro-batch goes forward and backward through each chunk",
         "%s: %c of micro-batch %" PRId64 " in chunk %" PRId64 " is missing", path, action_letters[kind],
         missing, chunk);
}

/* "zigzag" of "my/zigzag.csv" */
static char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *name = xstrdup(slash ? slash + 1 : path), *dot = strrchr(name, '.');
    if (dot && dot > name) *dot = 0;
    return name;
}

Schedule *schedule_read(const char *path) {
    size_t bytes;
    char *text = file_read(path, &bytes);
    static const char mark[] = "\xef\xbb\xbf"; /* that some programs put in front of UTF-8 */
    size_t skip = bytes >= 3 && memcmp(text, mark, 3) == 0 ? 3 : 0;
    int64_t count;
    Row *rows = parse((Span){text + skip, text + bytes}, path, &count);
    char *name = name_of(path);
    int64_t sizes[3];
    for (int column = 0; column < 3; column++) sizes[column] = size_of(rows, count, column, path);
    check_count(rows, count, sizes[1], sizes[2], path);
    Schedule *s = schedule_empty(name, (int)sizes[0], (int)sizes[1], sizes[2]);
    for (int64_t i = count; i-- > 0;)
        s->stage_of[rows[i].action.chunk] = rows[i].stage; /* its first line's */
    for (int64_t i = 0; i < count; i++) schedule_add(s, rows[i].stage, rows[i].action);
    schedule_finish(s);
    free(name);
    free(rows);
    free(text);
    return s;
}

void schedule_write(const Schedule *s, const char *path) {
    Str text = {0};
    str_printf(&text, "%s\n", header);
    for (int stage = 0; stage < s->stages; stage++)
        for (int64_t k = 0; k < s->counts[stage]; k++) {
            const Action *a = &s->actions[stage][k];
            str_printf(&text, "%d,%c,%" PRId64 ",%d\n", stage, action_letters[a->kind], a->microbatch,
                       a->chunk);
        }
    file_write(path, text.data, text.count);
    str_free(&text);
}
