#define _GNU_SOURCE
#include "common/run/progress.h"

#include "common/base/platform.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static const double REDRAW_SECONDS = 0.1;
enum { PIPE_COLUMNS = 80, TEXT_COLUMNS_MAX = 100, BAR_COLUMNS_MIN = 8, BAR_COLUMNS_MAX = 30 };

struct Progress {
    FILE *out;
    bool terminal;
    bool on_line;  /* the cursor stands at the end of the progress line */
    bool has_step; /* row holds a step */
    int64_t first, last, log_interval;
    double step_started, drawn;
    double val_loss; /* the last one measured */
    MetricsRow row;
    Pace pace;
};

/* ---- time ---- */

void pace_add(Pace *pace, double seconds) {
    if (++pace->steps <= 2) {
        pace->seconds = seconds;
        return;
    }
    double weight = fmax(1.0 / (double)(pace->steps - 1), 1.0 / 200);
    pace->seconds += weight * (fmin(seconds, 20 * pace->seconds) - pace->seconds);
}

void progress_duration(double seconds, char *text, size_t capacity) {
    long long s = seconds > 0 && seconds < 1e15 ? llround(seconds) : 0;
    if (s < 60)
        snprintf(text, capacity, "%lld s", s);
    else if (s < 3600)
        snprintf(text, capacity, "%lld min %02lld s", s / 60, s % 60);
    else if (s < 48 * 3600)
        snprintf(text, capacity, "%lld h %02lld min", s / 3600, s / 60 % 60);
    else
        snprintf(text, capacity, "%lld days %lld h", s / 86400, s / 3600 % 24);
}

/* ---- the line ---- */

static int columns(const Progress *progress) {
    struct winsize size;
    bool known =
        progress->terminal && ioctl(fileno(progress->out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : PIPE_COLUMNS;
}

static void add_bar(Str *line, double done, int width) {
    int filled = (int)(done * width);
    str_add(line, "  [", 3);
    for (int i = 0; i < width; i++) str_add(line, i < filled ? "=" : i == filled ? ">" : " ", 1);
    str_add(line, "]", 1);
}

/* Rows of ever fewer parts, until one fits; a bar where there is room to spare. */
static void draw(Progress *progress) {
    const MetricsRow *row = &progress->row;
    int width = columns(progress) - 1; /* the last column would wrap on some terminals */
    char left[64];
    Str line = {0};
    progress_duration(progress->pace.seconds * (double)(progress->last - row->step), left, sizeof left);
    for (int parts = 3; parts >= 0; parts--) {
        line.count = 0;
        str_printf(&line, "step %lld/%lld  loss %.4f", (long long)row->step, (long long)progress->last,
                   row->loss);
        if (parts >= 3 && !isnan(progress->val_loss)) str_printf(&line, "  val %.4f", progress->val_loss);
        if (parts >= 2 && !isnan(row->tokens_per_s)) str_printf(&line, "  %.0f tokens/s", row->tokens_per_s);
        if (parts >= 1) str_printf(&line, "  %s left", left);
        if ((int)line.count <= width) break;
    }
    int room = width - (int)line.count - 4;
    if (room >= BAR_COLUMNS_MIN)
        add_bar(&line, (double)row->step / (double)max64(1, progress->last),
                room < BAR_COLUMNS_MAX ? room : BAR_COLUMNS_MAX);
    /* Clears the rest of the line, and goes back to its start: an error that comes now overwrites it. */
    fprintf(progress->out, "\r%.*s\033[K\r", width, line.data);
    fflush(progress->out);
    str_free(&line);
    progress->on_line = true;
    progress->drawn = now_seconds();
}

static void print_plain(Progress *progress) {
    const MetricsRow *row = &progress->row;
    char left[64];
    fprintf(progress->out, "step %lld/%lld  loss %.4f", (long long)row->step, (long long)progress->last,
            row->loss);
    if (!isnan(row->val_loss)) fprintf(progress->out, "  val %.4f", row->val_loss);
    if (!isnan(row->lr)) fprintf(progress->out, "  lr %.3g", row->lr);
    if (!isnan(row->grad_norm)) fprintf(progress->out, "  norm %.3g", row->grad_norm);
    if (!isnan(row->tokens_per_s)) fprintf(progress->out, "  %.0f tokens/s", row->tokens_per_s);
    progress_duration(progress->pace.seconds * (double)(progress->last - row->step), left, sizeof left);
    fprintf(progress->out, "  %s left\n", left);
    fflush(progress->out);
}

static void clear_line(Progress *progress) {
    if (progress->on_line) fputs("\r\033[K", progress->out);
    progress->on_line = false;
}

Progress *progress_start(FILE *out, int64_t first, int64_t last, int64_t log_interval) {
    Progress *progress = xcalloc(1, sizeof *progress);
    *progress = (Progress){.out = out,
                           .terminal = platform_terminal(fileno(out)),
                           .first = first,
                           .last = last,
                           .log_interval = max64(1, log_interval),
                           .step_started = now_seconds(),
                           .drawn = -INFINITY,
                           .val_loss = NAN};
    return progress;
}

void progress_step(Progress *progress, const MetricsRow *row) {
    double now = now_seconds();
    bool is_last = row->step >= progress->last;
    pace_add(&progress->pace, now - progress->step_started);
    progress->step_started = now;
    progress->row = *row;
    progress->has_step = true;
    if (!isnan(row->val_loss)) progress->val_loss = row->val_loss;
    if (progress->terminal) {
        if (is_last || now - progress->drawn >= REDRAW_SECONDS) draw(progress);
    } else if (is_last || row->step % progress->log_interval == 0) {
        print_plain(progress);
    }
}

void progress_end(Progress *progress) {
    if (!progress) return;
    if (progress->terminal && progress->has_step) {
        draw(progress);
        fputc('\n', progress->out);
        fflush(progress->out);
    }
    free(progress);
}

/* ---- what is printed meanwhile ---- */

static void redraw(Progress *progress) {
    if (progress->terminal && progress->has_step)
        draw(progress);
    else
        fflush(progress->out);
}

void progress_note(Progress *progress, const char *format, ...) {
    va_list args;
    clear_line(progress);
    va_start(args, format);
    vfprintf(progress->out, format, args);
    va_end(args);
    fputc('\n', progress->out);
    redraw(progress);
}

/* Bytes of the character at s: 1 to 4 for one that may be printed, 0 for anything else (RFC
 * 3629, section 4). */
static int character(const unsigned char *s, size_t bytes) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    int count = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (count == 0 || (size_t)count > bytes) return 0;
    if (count == 1) return s[0] >= 0x20 && s[0] != 0x7f;
    uint32_t code = s[0] & (0x7fu >> count);
    for (int i = 1; i < count; i++) {
        if (s[i] >> 6 != 2) return 0;
        code = code << 6 | (s[i] & 63u);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000, control = code >= 0x80 && code < 0xa0;
    return code < smallest[count] || code > 0x10ffff || surrogate || control ? 0 : count;
}

void print_harmless(FILE *out, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes;) {
        int count = character((const unsigned char *)text + i, bytes - i);
        if (count || text[i] == '\n')
            fwrite(text + i, 1, (size_t)(count ? count : 1), out);
        else
            fputs(text[i] == '\t' ? " " : "\xef\xbf\xbd", out);
        i += (size_t)(count ? count : 1);
    }
}

/* One line of at most `width` characters, cut at a space where there is one; returns the bytes it used up. */
static size_t print_text_line(FILE *out, const char *text, size_t bytes, int width) {
    size_t at = 0, last_space = 0;
    int used = 0;
    bool newline = false;
    while (at < bytes && used < width && !newline) {
        if (text[at] == ' ') last_space = at;
        newline = text[at] == '\n';
        int count = character((const unsigned char *)text + at, bytes - at);
        at += (size_t)(count ? count : 1);
        used++;
    }
    bool fits = newline || at == bytes || text[at] == ' ' || text[at] == '\n';
    if (!fits && last_space > 0) at = last_space;
    size_t shown = newline ? at - 1 : at;
    fputs("  | ", out);
    print_harmless(out, text, shown);
    fputc('\n', out);
    if (!newline && at < bytes && (text[at] == ' ' || text[at] == '\n')) at++; /* the one it was cut at */
    return at;
}

void progress_text(Progress *progress, const char *title, const char *text, size_t bytes) {
    int width = columns(progress) < TEXT_COLUMNS_MAX ? columns(progress) : TEXT_COLUMNS_MAX;
    width = width > 20 ? width - 5 : 15; /* "  | " in front, one column free behind */
    clear_line(progress);
    fprintf(progress->out, "%s\n", title);
    for (size_t at = 0; at < bytes;) at += print_text_line(progress->out, text + at, bytes - at, width);
    redraw(progress);
}
