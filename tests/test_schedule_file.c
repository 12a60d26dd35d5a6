/* Schedules in CSV files: written and read again they are the same; comments, blanks, other ends of lines and small letters
 * do not matter. What has not the form of one is refused with status 2, by line. Random damage: each file is read, or refused
 * in one line, and what was read is planned or refused as well.
 *
 * TEST variants: float asan
 * TEST tier: more */
#define _DEFAULT_SOURCE /* fileno in expect_exit.h */
#include "tests/expect_exit.h"
#include "tests/schedules.h"
#include "tests/tap.h"

static char *folder, *path;

/* Without waiting for the disk. */
static void write_bytes(const char *bytes, size_t count) {
    FILE *f = file_open(path, "wb");
    CHECK(fwrite(bytes, 1, count, f) == count, NULL, "cannot write '%s'", path);
    file_close(f, path);
}

static void write_text(const char *text) { write_bytes(text, strlen(text)); }

static bool same(const Schedule *a, const Schedule *b) {
    if (a->stages != b->stages || a->chunks != b->chunks || a->microbatches != b->microbatches) return false;
    for (int chunk = 0; chunk < a->chunks; chunk++)
        if (a->stage_of[chunk] != b->stage_of[chunk]) return false;
    for (int stage = 0; stage < a->stages; stage++) {
        if (a->counts[stage] != b->counts[stage]) return false;
        for (int64_t k = 0; k < a->counts[stage]; k++) {
            const Action *x = &a->actions[stage][k], *y = &b->actions[stage][k];
            if (x->kind != y->kind || x->chunk != y->chunk || x->microbatch != y->microbatch ||
                x->inputs_only != y->inputs_only)
                return false;
        }
    }
    return true;
}

/* Written, read, written: the same schedule and the same file; lines count from the header on. */
static bool goes_round(const Schedule *s) {
    schedule_write(s, path);
    char *first = file_read(path, NULL);
    Schedule *read = schedule_read(path);
    bool right = same(s, read);
    int line = 2;
    for (int stage = 0; stage < read->stages; stage++)
        for (int64_t k = 0; k < read->counts[stage]; k++) right &= read->actions[stage][k].line == line++;
    schedule_write(read, path);
    char *second = file_read(path, NULL);
    right &= strcmp(first, second) == 0;
    free(first);
    free(second);
    schedule_delete(read);
    return right;
}

static void test_round(void) {
    bool right = true;
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++)
        for (int p = 1; p <= 4; p++) {
            Schedule *s = schedule_new(kind, p, 2, 2 * p);
            right &= goes_round(s);
            schedule_delete(s);
        }
    ok(right, "written and read: every built-in schedule");
    Rng rng = {3, rng_stream("files"), 0};
    right = true;
    for (int i = 0; i < 12; i++) {
        Schedule *s = random_schedule(1 + i % 4, 4 + i % 3, 1 + i % 5, &rng);
        right &= goes_round(s);
        schedule_delete(s);
    }
    ok(right, "written and read: random ones, some W apart");
}

static void test_tolerant(void) {
    write_text("\xef\xbb\xbf# mine\r\n\r\n  stage,action,micro_batch,chunk \r\n0,F,0,0\r\n 1 , f , 0 , 1 # "
               "down\n\t\n"
               "1,B,0,1\n0,b,0,0\n0,W,0,0");
    Schedule *s = schedule_read(path);
    bool right = s->stages == 2 && s->chunks == 2 && s->microbatches == 1 && s->counts[0] == 3 &&
                 s->counts[1] == 2 && s->actions[1][0].line == 5 && s->actions[0][2].kind == ACTION_WEIGHTS &&
                 s->actions[0][1].inputs_only && !s->actions[1][1].inputs_only;
    ok(right, "comments, blanks, CRLF, a mark in front, small letters, no end of the last line");
    ok(strcmp(s->name, "zigzag") == 0, "its name: %s", s->name);
    Plan *plan = plan_of(s);
    ok(plan->in_flight[0] == 1 && plan->messages[0] == 1 && plan->messages[1] == 1, "it can be run");
    plan_delete(plan);
    schedule_delete(s);
}

/* ---- what is refused ---- */

static void read_and_plan(void *unused) {
    (void)unused;
    Schedule *s = schedule_read(path);
    char *problem = NULL, *hint = NULL;
    Plan *plan = plan_new(s, &problem, &hint);
    CHECK_USAGE(plan, hint, "%s: %s", path, problem);
    plan_delete(plan);
    schedule_delete(s);
}

static void test_refused(const char *text, const char *what) {
    write_text(text);
    Exit e = expect_exit(read_and_plan, NULL);
    ok(refused(&e, 2, what) && strstr(e.text, "zigzag.csv"), "%s%s", e.text,
       strstr(e.text, what) ? "" : what);
}

#define COLUMNS "stage,action,micro_batch,chunk\n"

static void test_problems(void) {
    test_refused("", "there is no action in it");
    test_refused("# nothing\n\n", "there is no action in it");
    test_refused(COLUMNS, "there is no action in it");
    test_refused("0,F,0,0\n", "line 1: '0,F,0,0'");
    test_refused("# a\nstage,action,chunk,micro_batch\n0,F,0,0\n",
                 "line 2: 'stage,action,chunk,micro_batch'");
    test_refused(COLUMNS "0,F,0,0\n0,F,0\n", "line 3: '0,F,0'");
    test_refused(COLUMNS "0,F,0,0,0\n", "line 2: '0,F,0,0,0'");
    test_refused(COLUMNS "0,X,0,0\n", "line 2: action is 'X' (hint: F, B or W)");
    test_refused(COLUMNS "0,,0,0\n", "line 2: action is ''");
    test_refused(COLUMNS "0,FB,0,0\n", "line 2: action is 'FB'");
    test_refused(COLUMNS "-1,F,0,0\n", "line 2: stage is '-1'");
    test_refused(COLUMNS "0,F,1.5,0\n", "line 2: micro_batch is '1.5'");
    test_refused(COLUMNS "0,F,0, \n", "line 2: chunk is ''");
    test_refused(COLUMNS "0,F,99999999999999999999999,0\n",
                 "line 2: micro_batch is '99999999999999999999999'");
    test_refused(COLUMNS "0,F,0,0\n0,B,0,0\n2,F,0,1\n2,B,0,1\n",
                 "no line has stage 1, but line 4 has stage 2");
    test_refused(COLUMNS "0,F,0,0\n0,B,0,0\n0,F,0,9\n0,B,0,9\n",
                 "no line has chunk 1, but line 4 has chunk 9");
    test_refused(COLUMNS "0,F,1,0\n0,B,1,0\n", "no line has micro-batch 0, but line 2 has micro-batch 1");
    test_refused(COLUMNS "0,F,2147483646,0\n",
                 "no line has micro-batch 0, but line 2 has micro-batch 2147483646");
    test_refused(COLUMNS "0,F,0,0\n0,F,1,0\n0,B,1,0\n", "B of micro-batch 0 in chunk 0 is missing");
    test_refused(COLUMNS "0,F,0,0\n1,F,1,1\n0,B,0,0\n", "F of micro-batch 1 in chunk 0 is missing");
    test_refused(COLUMNS "0,F,0,0\n0,F,0,0\n0,B,0,0\n",
                 "line 3: F of micro-batch 0 in chunk 0 is there already, at line 2");
    test_refused(COLUMNS "0,F,0,0\n1,B,0,1\n1,F,0,1\n0,B,0,0\n",
                 "line 3: B of micro-batch 0 in chunk 1 waits for F of the same at line 4");
}

/* ---- random damage ---- */

static void insert(Str *s, size_t at, const char *bytes, size_t count) {
    Str longer = {0};
    str_add(&longer, s->data, at);
    str_add(&longer, bytes, count);
    str_add(&longer, s->data + at, s->count - at);
    str_free(s);
    *s = longer;
}

static void leave_out(Str *s, size_t at, size_t count) {
    memmove(s->data + at, s->data + at + count, s->count - at - count);
    s->count -= count;
}

/* A line goes behind the one behind it. */
static void swap_lines(Str *s, size_t at) {
    while (at > 0 && s->data[at - 1] != '\n') at--;
    const char *end = memchr(s->data + at, '\n', s->count - at);
    const char *behind = end ? memchr(end + 1, '\n', (size_t)(s->data + s->count - end) - 1) : NULL;
    if (!behind) return;
    size_t count = (size_t)(end + 1 - s->data) - at, to = (size_t)(behind + 1 - s->data) - count;
    char *line = xmalloc(count);
    memcpy(line, s->data + at, count);
    leave_out(s, at, count);
    insert(s, to, line, count);
    free(line);
}

static void mutate(Str *s, Rng *rng) {
    static const char *const parts[] = {",",         "\n",         "#",     "F",    "B",    "W",
                                        "0",         "9",          "-1",    "1e9",  "\xff", "0,F,0,0\n",
                                        "1,W,0,1\n", "2147483647", "\t \r", "\n\n", "# a\n"};
    uint32_t at = rng_below(rng, (uint32_t)s->count);
    const char *part = parts[rng_below(rng, COUNT_OF(parts))];
    switch (rng_below(rng, 8)) {
    case 0: s->data[at] = (char)rng_below(rng, 256); break; /* a zero as well */
    case 1: s->count = at; break;
    case 2: leave_out(s, at, (size_t)min64(1 + rng_below(rng, 9), (int64_t)(s->count - at))); break;
    case 3: insert(s, at, part, strlen(part)); break;
    default: swap_lines(s, at); break;
    }
}

static void test_damaged(void) {
    Rng rng = {5, rng_stream("files"), 0};
    int cases = random_cases(250), read = 0, right = 0;
    char *whole[SCHEDULE_KINDS];
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        Schedule *s = schedule_new(kind, 1 + (int)kind % 3, 2, 6);
        schedule_write(s, path);
        schedule_delete(s);
        whole[kind] = file_read(path, NULL);
    }
    for (int i = 0; i < cases; i++) {
        const char *undamaged = whole[i % SCHEDULE_KINDS];
        Str text = {0};
        str_add(&text, undamaged, strlen(undamaged));
        for (uint32_t times = 1 + rng_below(&rng, 3); times > 0 && text.count > 0; times--)
            mutate(&text, &rng);
        write_bytes(text.data, text.count);
        str_free(&text);
        Exit e = expect_exit(read_and_plan, NULL);
        bool fine = e.status == 0 || (refused(&e, 2, path) && strlen(e.text) < 1000);
        if (!fine) printf("# case %d: status %d, '%s'\n", i, e.status, e.text);
        right += fine;
        read += e.status == 0;
    }
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) free(whole[kind]);
    ok(right == cases && read > cases / 10 && read < cases / 2,
       "%d of %d damaged files: %d could be read, the others are refused", right, cases, read);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    folder = file_temp_folder("schedule");
    path = xprintf("%s/zigzag.csv", folder);
    test_round();
    test_tolerant();
    test_problems();
    test_damaged();
    file_remove(folder);
    free(folder);
    free(path);
    return tap_done();
}
