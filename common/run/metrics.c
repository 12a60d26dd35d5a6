#include "common/run/metrics.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Metrics {
    FILE *file;
    char *path;
};

MetricsRow metrics_row(int64_t step, int64_t tokens) {
    return (MetricsRow){step, tokens, NAN, NAN, NAN, NAN, NAN, NAN};
}

/* ---- rows and lines ---- */

/* The shortest decimal that reads back as the same double. */
static void add_number(Str *line, double x) {
    char text[32] = "";
    for (int digits = 9; digits <= 17 && !isnan(x); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    str_printf(line, ",%s", text);
}

static void add_row(Str *line, const MetricsRow *row) {
    str_printf(line, "%lld,%lld", (long long)row->step, (long long)row->tokens);
    add_number(line, row->loss);
    add_number(line, row->val_loss);
    add_number(line, row->lr);
    add_number(line, row->grad_norm);
    add_number(line, row->step_ms);
    add_number(line, row->tokens_per_s);
    str_add(line, "\n", 1);
}

/* Reads the number before the next separator; an empty field is NAN. Moves *at past the separator. */
static bool parse_number(const char **at, char separator, double *x) {
    char *end = (char *)(uintptr_t)*at;
    *x = NAN;
    if (**at != separator) *x = strtod(*at, &end);
    bool fine = *end == separator && (**at == separator || !isspace((unsigned char)**at)); /* of this line */
    *at = end + 1;
    return fine;
}

static bool parse_integer(const char **at, int64_t *x) {
    char *end;
    errno = 0;
    *x = strtoll(*at, &end, 10);
    bool fine = isdigit((unsigned char)**at) && *end == ',' && !errno;
    *at = end + 1;
    return fine;
}

/* A line that ends in '\n'. */
static bool parse_row(const char *line, MetricsRow *row) {
    return parse_integer(&line, &row->step) && parse_integer(&line, &row->tokens) &&
           parse_number(&line, ',', &row->loss) && parse_number(&line, ',', &row->val_loss) &&
           parse_number(&line, ',', &row->lr) && parse_number(&line, ',', &row->grad_norm) &&
           parse_number(&line, ',', &row->step_ms) && parse_number(&line, '\n', &row->tokens_per_s);
}

/* ---- reading ---- */

MetricsTable metrics_read(const char *path) {
    MetricsTable table = {0};
    size_t header = strlen(METRICS_HEADER "\n");
    if (access(path, R_OK)) {
        snprintf(table.fault, sizeof table.fault, "%s", strerror(errno));
        return table;
    }
    char *text = file_read(path, NULL);
    if (strncmp(text, METRICS_HEADER "\n", header)) {
        snprintf(table.fault, sizeof table.fault, "its first line is not that of a loss.csv");
        free(text);
        return table;
    }
    int64_t line_number = 2;
    for (const char *line = text + header, *end; (end = strchr(line, '\n')); line = end + 1, line_number++) {
        MetricsRow row;
        if (parse_row(line, &row)) {
            if ((table.count & (table.count - 1)) == 0) /* grows at each power of two */
                table.rows = xrealloc(table.rows, (size_t)max64(1, 2 * table.count) * sizeof row);
            table.rows[table.count++] = row;
        } else if (!*table.fault) {
            snprintf(table.fault, sizeof table.fault, "line %lld is damaged and left out",
                     (long long)line_number);
        }
    }
    free(text);
    return table;
}

void metrics_free(MetricsTable *table) {
    free(table->rows);
    *table = (MetricsTable){0};
}

/* ---- writing ---- */

static Metrics *start(const char *output_dir, const char *mode) {
    Metrics *metrics = xcalloc(1, sizeof *metrics);
    metrics->path = xprintf("%s/loss.csv", output_dir);
    metrics->file = file_open(metrics->path, mode);
    setvbuf(metrics->file, NULL, _IOLBF, BUFSIZ); /* a whole line at a time, at once */
    return metrics;
}

Metrics *metrics_create(const char *output_dir) {
    file_make_folder(output_dir);
    Metrics *metrics = start(output_dir, "w");
    fputs(METRICS_HEADER "\n", metrics->file);
    return metrics;
}

Metrics *metrics_resume(const char *output_dir, int64_t step) {
    char *path = xprintf("%s/loss.csv", output_dir);
    int64_t last = 0;
    Str kept = {0};
    str_printf(&kept, METRICS_HEADER "\n");
    MetricsTable table = metrics_read(path);
    for (int64_t i = 0; i < table.count; i++) {
        if (table.rows[i].step > step) continue;
        add_row(&kept, &table.rows[i]);
        last = max64(last, table.rows[i].step);
    }
    if (*table.fault)
        warn("'%s': %s", path, table.fault);
    else if (last < step)
        warn("'%s' has no row of step %lld, where this run goes on: its curve will have a gap", path,
             (long long)step);
    metrics_free(&table);
    file_write(path, kept.data, kept.count);
    str_free(&kept);
    free(path);
    return start(output_dir, "a");
}

void metrics_write(Metrics *metrics, const MetricsRow *row) {
    Str line = {0};
    add_row(&line, row);
    bool written = fwrite(line.data, 1, line.count, metrics->file) == line.count;
    CHECK(written, "make room on the disk, or choose another --output-dir", "cannot write '%s': %s",
          metrics->path, strerror(errno));
    str_free(&line);
}

void metrics_close(Metrics *metrics) {
    if (!metrics) return;
    file_close(metrics->file, metrics->path);
    free(metrics->path);
    free(metrics);
}

bool metrics_same_step(const MetricsTable *a, const MetricsTable *b, int64_t *i, int64_t *j) {
    while (*i < a->count && *j < b->count && a->rows[*i].step != b->rows[*j].step)
        a->rows[*i].step < b->rows[*j].step ? ++*i : ++*j;
    return *i < a->count && *j < b->count;
}
