/* TEST variants: float asan
 * The last line of a program promises the pictures that were drawn, and names the others. */
#define _GNU_SOURCE
#include "common/draw/pictures.h"
#include "common/draw/plots.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

static char *folder, *png;

/* What is said last: with every picture drawn, then without one, then without any. */
static void say_last_lines(void *argument) {
    (void)argument;
    Plot plot = {.title = "nothing in it"};
    dup2(STDERR_FILENO, STDOUT_FILENO);
    setvbuf(stdout, NULL, _IOLBF, 0);
    pictures_print_place(folder, NULL, "a.png"); /* no picture was asked for: not a word */
    pictures_print_place(folder, "report.json", NULL);
    plot_draw(&plot, png);
    pictures_print_place(folder, "checkpoints", "a.png");
    plot_draw(&plot, "/nowhere/c.png");
    pictures_print_place(folder, "checkpoints", "a.png");
    setenv("PATH", "/nowhere", 1);
    plot_draw(&plot, png); /* the older picture is still there, and shows something else */
    pictures_print_place(folder, "checkpoints", "a.png");
    pictures_print_place(folder, NULL, "a.png");
    exit(0);
}

int main(void) {
    folder = file_temp_folder("shard-test");
    png = xprintf("%s/a.png", folder);
    Exit e = expect_exit(say_last_lines, NULL);
    char *want[] = {
        xprintf("in %s: report.json", folder),
        xprintf("pictures and checkpoints are in %s: look at %s", folder, png),
        xprintf("shard.c: warning: no picture '/nowhere/c.png': No such file or directory"),
        xprintf("pictures and checkpoints are in %s: look at %s; not drawn, as a warning says: c.png", folder,
                png),
        xprintf("in %s: checkpoints; not drawn, as a warning says: a.png, c.png", folder),
        xprintf("in %s: nothing; not drawn, as a warning says: a.png, c.png", folder),
    };
    char *line = strtok(e.text, "\n");
    for (int i = 0; i < COUNT_OF(want); i++, line = strtok(NULL, "\n")) {
        ok(line && !strcmp(line, want[i]), "%s", line ? line : "nothing more is said");
        free(want[i]);
    }
    ok(e.status == 0 && !line, "nothing else");
    file_remove(folder);
    free(png);
    free(folder);
    return tap_done();
}
