/* TEST variants: float asan
 * The progress line: plain lines in a pipe; on a terminal of any width one line that fits; text of the
 * model's that cannot break the terminal; times. */
#define _GNU_SOURCE
#include "common/run/progress.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static MetricsRow row_of(int64_t step) {
    return (MetricsRow){step, step * 8192, 3.14159, step == 20 ? 3.25 : NAN, 1e-3, 1.5, 40, 204800};
}

/* ---- a pipe ---- */

/* What `act` prints into a file. */
static char *printed(void (*act)(FILE *out)) {
    static char text[20000];
    FILE *out = tmpfile();
    act(out);
    rewind(out);
    text[fread(text, 1, sizeof text - 1, out)] = 0;
    fclose(out);
    return text;
}

static void run_30_of_35(FILE *out) {
    Progress *progress = progress_start(out, 0, 35, 10);
    for (int64_t step = 1; step <= 35; step++) {
        MetricsRow row = row_of(step);
        progress_step(progress, &row);
        if (step == 12) progress_note(progress, "saved %d", 12);
    }
    progress_end(progress);
}

static void print_texts(FILE *out) {
    static const char hostile[] =
        "tab\there \x1b[31mred\x07 \xc3\xa9 \xff \xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xc2\x9b end";
    Progress *progress = progress_start(out, 0, 10, 1);
    progress_text(progress, "a title", "Once upon a time.\n\nThe end.", 27);
    progress_text(progress, "hostile", hostile, sizeof hostile - 1);
    progress_text(progress, "cut inside a character", "caf\xc3", 4);
    progress_text(progress, "nothing", "", 0);
    progress_end(progress);
}

static void print_long(FILE *out) {
    Str words = {0}, block = {0};
    for (int i = 0; i < 60; i++) str_printf(&words, "wor%02d\xc3\xa9 ", i);
    for (int i = 0; i < 200; i++) str_add(&block, "x", 1);
    Progress *progress = progress_start(out, 0, 10, 1);
    progress_text(progress, "words", words.data, words.count);
    progress_text(progress, "a block", block.data, block.count);
    progress_end(progress);
    str_free(&words);
    str_free(&block);
}

/* Characters, not bytes, of the longest line. */
static int longest_line(const char *text) {
    int longest = 0, now = 0;
    for (; *text; text++) {
        now = *text == '\n' ? 0 : now + ((*text & 0xc0) != 0x80);
        longest = now > longest ? now : longest;
    }
    return longest;
}

static int count_of(const char *text, const char *part) {
    int count = 0;
    for (; (text = strstr(text, part)); text++) count++;
    return count;
}

static void test_pipe(void) {
    const char *text = printed(run_30_of_35);
    ok(count_of(text, "\n") == 5 && !strchr(text, '\r') && !strchr(text, '\x1b'),
       "a line per log interval, nothing else");
    static const char first[] = "step 10/35  loss 3.1416  lr 0.001  norm 1.5  204800 tokens/s  ";
    ok(!strncmp(text, first, sizeof first - 1), "%.70s ...", text);
    ok(strstr(text, " left\nsaved 12\nstep 20/35  loss 3.1416  val 3.2500  lr") &&
           strstr(text, "\nstep 35/35 "),
       "a note between, the validation loss where there is one, the last step");

    text = printed(print_texts);
    ok(strstr(text, "a title\n  | Once upon a time.\n  | \n  | The end.\n"),
       "a sample, indented, paragraphs kept");
    ok(strstr(text,
              "  | tab here \xef\xbf\xbd[31mred\xef\xbf\xbd \xc3\xa9 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd "),
       "controls and stray bytes are replaced");
    ok(!strpbrk(text, "\x1b\x07\t\xff\xc0\xed\xf4") && !strstr(text, "\xc2\x9b") && strstr(text, "end\n"),
       "and none is left");
    ok(strstr(text, "caf\xef\xbf\xbd\nnothing\n"), "a text that ends inside a character; an empty one");

    text = printed(print_long);
    ok(longest_line(text) <= 79 && longest_line(text) > 70, "long texts are broken: %d columns",
       longest_line(text));
    ok(count_of(text, "x") == 200 && strstr(text, "wor00\xc3\xa9 wor01") &&
           count_of(text, "\xc3\xa9") == 60 && !strstr(text, "| wor00\xc3\xa9\n"),
       "at spaces where there are some, and nothing is lost");
    int broken = 0;
    for (const char *line = text; (line = strstr(line, "  | ")) && line[4] != 'x'; line += 4)
        broken += line[4] != 'w';
    ok(broken == 0, "no word that fits is cut in two");
}

/* ---- a terminal ---- */

/* What progress prints on a terminal of that kind and width; *line is what the progress line shows at the end. */
static char *on_terminal(const char *kind, unsigned short columns, char *line) {
    static char text[20000];
    setenv("TERM", kind, 1);
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master < 0 || grantpt(master) || unlockpt(master)) return NULL;
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    struct termios mode;
    tcgetattr(slave, &mode);
    mode.c_oflag &= (tcflag_t)~OPOST; /* newlines as they are */
    tcsetattr(slave, TCSANOW, &mode);
    ioctl(slave, TIOCSWINSZ, &(struct winsize){.ws_row = 24, .ws_col = columns});
    FILE *out = fdopen(slave, "w");
    Progress *progress = progress_start(out, 0, 2000, 100);
    for (int64_t step = 19; step <= 21; step++) {
        MetricsRow row = row_of(step);
        progress_step(progress, &row);
    }
    progress_note(progress, "a note");
    progress_text(progress, "a sample", "Once", 4);
    progress_end(progress);
    fclose(out);
    ssize_t count, total = 0;
    while ((count = read(master, text + total, sizeof text - 1 - (size_t)total)) > 0) total += count;
    text[total] = 0;
    close(master);

    const char *last = text;
    for (const char *p = text; (p = strstr(p, "\rstep ")); p++) last = p + 1;
    snprintf(line, 256, "%.*s", (int)strcspn(last, "\x1b"), last);
    return text;
}

static void test_terminal(void) {
    char line[256];
    const char *text = on_terminal("xterm", 80, line);
    if (!text) return (void)ok(true, "# SKIP there are no pseudo-terminals here");
    ok(!strncmp(line, "step 21/2000  loss 3.1416  val 3.2500  204800 tokens/s  ", 55) &&
           strstr(line, " s left"),
       "'%s'", line);
    ok(strstr(text, "\r\x1b[Ka note\n\rstep 21/"),
       "a note takes the place of the line, which comes back under it");
    ok(strstr(text, "\r\x1b[Ka sample\n  | Once\n\rstep 21/"), "so does a sample");
    ok(count_of(text, "\n") == 4 && text[strlen(text) - 1] == '\n', "only notes and the end make new lines");
    on_terminal("xterm", 120, line);
    ok(strlen(line) <= 119 && strstr(line, "  [>") && line[strlen(line) - 1] == ']', "wide, with a bar: '%s'",
       line);
    on_terminal("xterm", 60, line);
    ok(strlen(line) <= 59 && !strstr(line, "val") && strstr(line, "tokens/s") && strstr(line, "left"),
       "narrow: '%s'", line);
    on_terminal("xterm", 40, line);
    ok(strlen(line) <= 39 && !strstr(line, "tokens/s") && strstr(line, "left"), "narrower: '%s'", line);
    on_terminal("xterm", 12, line);
    ok(!strcmp(line, "step 21/200"), "cut: '%s'", line);
    on_terminal("xterm", 0, line);
    ok(strlen(line) > 50 && strlen(line) <= 79, "a terminal that does not know its width: '%s'", line);
    ok(!strpbrk(on_terminal("dumb", 80, line), "\r\x1b"), "a dumb terminal: plain lines");
}

/* ---- times ---- */

static void test_times(void) {
    static const struct {
        double seconds;
        const char *text;
    } times[] = {
        {0, "0 s"},           {59.4, "59 s"},          {59.6, "1 min 00 s"},      {200, "3 min 20 s"},
        {7500, "2 h 05 min"}, {172799, "47 h 59 min"}, {3 * 86400, "3 days 0 h"}, {-5, "0 s"},
        {NAN, "0 s"},         {INFINITY, "0 s"}};
    for (int i = 0; i < COUNT_OF(times); i++) {
        char text[64];
        progress_duration(times[i].seconds, text, sizeof text);
        ok(!strcmp(text, times[i].text), "%g s: %s", times[i].seconds, text);
    }
    Pace pace = {0};
    pace_add(&pace, 5);
    close_to(pace.seconds, 5, 0, "the first step is all there is");
    pace_add(&pace, 0.1);
    close_to(pace.seconds, 0.1, 0, "and is forgotten at the second");
    for (int i = 0; i < 99; i++) pace_add(&pace, i % 10 ? 0.1 : 0.5);
    close_to(pace.seconds, 0.1 + 0.4 * 0.1, 1e-12, "the mean, with an evaluation every ten steps");
    double before = pace.seconds;
    pace_add(&pace, 3600);
    ok(pace.seconds < 1.3 * before, "an hour's pause hardly matters: %.3f after %.3f", pace.seconds, before);
    for (int i = 0; i < 2000; i++) pace_add(&pace, 0.3);
    close_to(pace.seconds, 0.3, 1e-3, "it follows a machine that becomes slower");
}

int main(void) {
    test_pipe();
    test_terminal();
    test_times();
    return tap_done();
}
