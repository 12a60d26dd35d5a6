/* TEST variants: float asan
 * loss.csv: every number comes back with the same bits; a resumed run cuts back to its step and goes on;
 * nothing is lost by a kill; files that are damaged, missing or on a full disk. */
#define _GNU_SOURCE
#include "common/run/metrics.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <signal.h>

static char *folder, *csv;

static MetricsRow row_of(int64_t step) {
    double s = (double)step;
    return (MetricsRow){step, step * 8192, 7 / s, step % 5 ? NAN : 7.1 / s, 1e-3, sqrt(s), 33.25, 1e6 / 3};
}

static bool same_number(double a, double b) { return isnan(a) ? isnan(b) : a == b; }

static bool same_row(const MetricsRow *a, const MetricsRow *b) {
    return a->step == b->step && a->tokens == b->tokens && same_number(a->loss, b->loss) &&
           same_number(a->val_loss, b->val_loss) && same_number(a->lr, b->lr) &&
           same_number(a->grad_norm, b->grad_norm) && same_number(a->step_ms, b->step_ms) &&
           same_number(a->tokens_per_s, b->tokens_per_s);
}

static void write_rows(Metrics *metrics, int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; step++) {
        MetricsRow row = row_of(step);
        metrics_write(metrics, &row);
    }
}

/* The file holds the rows of steps 1 .. last and nothing else. */
static bool holds_rows(int64_t last) {
    MetricsTable table = metrics_read(csv);
    bool same = table.count == last && !*table.fault;
    for (int64_t i = 0; same && i < last; i++) {
        MetricsRow row = row_of(i + 1);
        same = same_row(&table.rows[i], &row);
    }
    metrics_free(&table);
    return same;
}

static void append(const char *text) {
    FILE *f = file_open(csv, "a");
    fputs(text, f);
    file_close(f, csv);
}

static void test_writing(void) {
    Metrics *metrics = metrics_create(folder);
    write_rows(metrics, 1, 20);
    ok(holds_rows(20), "rows can be read while the file is open, with the same bits");
    metrics_close(metrics);
    char *text = file_read(csv, NULL), *second = strchr(text, '\n') + 1;
    ok(!strncmp(text, "step,tokens,loss,val_loss,lr,grad_norm,step_ms,tokens_per_s\n", 60), "the header");
    ok(!strncmp(second, "1,8192,7,,0.001,1,33.25,333333.3333333333\n", 42), "the first row: %.*s",
       (int)strcspn(second, "\n"), second);
    free(text);

    metrics = metrics_create(folder);
    MetricsRow odd[] = {{1, 0, INFINITY, -INFINITY, 0x1p-1074, -0.0, 1.7976931348623157e308, 0.1},
                        {2, INT64_MAX, NAN, NAN, NAN, NAN, NAN, NAN}};
    metrics_write(metrics, &odd[0]);
    metrics_write(metrics, &odd[1]);
    metrics_close(metrics);
    MetricsTable table = metrics_read(csv);
    ok(table.count == 2 && same_row(&table.rows[0], &odd[0]) && same_row(&table.rows[1], &odd[1]),
       "odd numbers, empty fields");
    metrics_free(&table);
}

static void resume(void *step) {
    Metrics *metrics = metrics_resume(folder, *(int64_t *)step);
    write_rows(metrics, *(int64_t *)step + 1, 30);
    metrics_close(metrics);
}

static void test_resuming(void) {
    Metrics *metrics = metrics_create(folder);
    write_rows(metrics, 1, 20);
    metrics_close(metrics);
    Exit e = expect_exit(resume, &(int64_t){10});
    ok(e.status == 0 && !*e.text && holds_rows(30), "cut back to step 10 and gone on to 30");
    e = expect_exit(resume, &(int64_t){30});
    ok(!*e.text && holds_rows(30), "cut back to the last step");
    append("31,25395");
    ok(holds_rows(30), "a last line without its end is not read");
    e = expect_exit(resume, &(int64_t){20});
    ok(!*e.text && holds_rows(30), "and does not stay when the run goes on");
    e = expect_exit(resume, &(int64_t){0});
    ok(!*e.text && holds_rows(30), "from the start");
    e = expect_exit(resume, &(int64_t){40});
    ok(e.status == 0 && strstr(e.text, "warning: ") && strstr(e.text, "no row of step 40"),
       "rows are missing: %s", e.text);
    remove(csv);
    e = expect_exit(resume, &(int64_t){40});
    MetricsTable table = metrics_read(csv);
    ok(strstr(e.text, "warning: ") && table.count == 0 && !*table.fault, "the file is missing: %s", e.text);
    metrics_free(&table);
}

static void write_until_killed(void *argument) {
    (void)argument;
    Metrics *metrics = metrics_create(folder);
    write_rows(metrics, 1, 17);
    kill(getpid(), SIGKILL);
}

static void test_kill(void) {
    Exit e = expect_exit(write_until_killed, NULL);
    ok(e.status == 128 + SIGKILL && holds_rows(17), "all 17 rows that were written before a kill are there");
}

static void test_damaged(void) {
    static const char *const lines[] = {"3,4,5",
                                        "3,4,1,2,3,4,5,6,7",
                                        "x,4,1,2,3,4,5,6",
                                        "3,y,1,2,3,4,5,6",
                                        "-3,4,1,,,,,",
                                        "3,4,1,2,3,4,5,z",
                                        "3,4,1 ,2,3,4,5,6",
                                        "3, 4,1,2,3,4,5,6",
                                        "",
                                        ",,,,,,,",
                                        "3,4,1,2,3,4,5",
                                        "99999999999999999999,4,1,2,3,4,5,6"};
    for (int i = 0; i < COUNT_OF(lines); i++) {
        Str text = {0};
        str_printf(&text, METRICS_HEADER "\n1,2,3,,,,,\n%s\n4,5,6,,,,,\n", lines[i]);
        file_write(csv, text.data, text.count);
        MetricsTable table = metrics_read(csv);
        ok(table.count == 2 && table.rows[1].step == 4 &&
               !strcmp(table.fault, "line 3 is damaged and left out"),
           "'%s': %s, %d rows", lines[i], table.fault, (int)table.count);
        metrics_free(&table);
        str_free(&text);
    }
    static const char *const files[] = {"", "step,loss\n1,2\n", "\x89PNG\r\n", METRICS_HEADER};
    for (int i = 0; i < COUNT_OF(files); i++) {
        file_write(csv, files[i], strlen(files[i]));
        MetricsTable table = metrics_read(csv);
        ok(table.count == 0 && strstr(table.fault, "first line"), "another file: %s", table.fault);
        metrics_free(&table);
    }
    remove(csv);
    MetricsTable table = metrics_read(csv);
    ok(table.count == 0 && strstr(table.fault, "No such file"), "no file: %s", table.fault);
    metrics_free(&table);
}

static void write_to_full_disk(void *argument) {
    (void)argument;
    Metrics *metrics = metrics_create(folder);
    write_rows(metrics, 1, 20);
    metrics_close(metrics);
}

static void test_full_disk(void) {
    if (access("/dev/full", W_OK) || symlink("/dev/full", csv)) return;
    Exit e = expect_exit(write_to_full_disk, NULL);
    ok(refused(&e, 1, "loss.csv': No space left on device"), "a full disk: %s", e.text);
    remove(csv);
}

int main(void) {
    folder = file_temp_folder("shard-test");
    csv = xprintf("%s/loss.csv", folder);
    test_writing();
    test_resuming();
    test_kill();
    test_damaged();
    test_full_disk();
    file_remove(folder);
    free(csv);
    free(folder);
    return tap_done();
}
