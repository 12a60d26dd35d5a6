/* TEST variants: float, all: asan
 * TEST starts: compare plot_runs
 * build/compare on runs, checkpoints and tensor files that are alike and that differ in each way there is;
 * and build/plot_runs. Both are run as programs: their output and their exit status. */
#define _GNU_SOURCE
#include "common/run/checkpoint.h"
#include "common/run/metrics.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char *folder, *programs;

typedef struct {
    int status;
    char text[8192]; /* stdout and stderr */
    char line[8192]; /* the same in one line, for the test's own output */
} Output;

/* `program arguments`, run in the test's folder. */
static Output run(const char *program_and_arguments) {
    Output output = {.status = -1};
    char *command = xprintf("cd '%s' && %s/%s 2>&1", folder, programs, program_and_arguments);
    fflush(stdout);
    FILE *f = popen(command, "r");
    output.text[fread(output.text, 1, sizeof output.text - 1, f)] = 0;
    int status = pclose(f);
    for (size_t i = 0; i <= strlen(output.text); i++)
        output.line[i] = output.text[i] == '\n' ? '|' : output.text[i];
    output.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    free(command);
    return output;
}

static bool says(const Output *output, int status, const char *part) {
    return output->status == status && strstr(output->text, part);
}

/* ---- runs ---- */

typedef struct {
    int64_t rows, step; /* step 0: no checkpoint */
    int odd_row;        /* its loss is off by one bit; 0: none */
    int odd_element;    /* of the weight; -1: none */
    bool extra_tensor, extra_file, other_shape, other_type;
    int seed; /* in state.json */
} Variant;

static const Variant PLAIN = {.rows = 30, .step = 30, .odd_element = -1};

static void write_checkpoint(const char *path, const Variant *v) {
    float weight[200], bias[4] = {1, 2, 3, 4};
    double wide[4] = {1, 2, 3, 4};
    for (int i = 0; i < 200; i++) weight[i] = (float)i / 8;
    if (v->odd_element >= 0) weight[v->odd_element] += 0.5f;
    NamedArray model[] = {
        {"head.weight", ARRAY_F32, 2, {v->other_shape ? 10 : 20, v->other_shape ? 20 : 10}, .data = weight},
        {"head.bias",
         v->other_type ? ARRAY_F64 : ARRAY_F32,
         1,
         {4},
         .data = v->other_type ? (void *)wide : bias},
        {"extra", ARRAY_F32, 1, {4}, .data = bias}};
    CheckpointWriter *writer = checkpoint_begin(path, v->step);
    checkpoint_put_arrays(writer, "model.safetensors", model, v->extra_tensor ? 3 : 2);
    json_t *state = json_pack("{s:I, s:{s:i, s:s}}", "step", (json_int_t)v->step, "config", "seed", v->seed,
                              "output_dir", path); /* which differs from run to run */
    checkpoint_put_json(writer, "state.json", state);
    if (v->extra_file) checkpoint_put_json(writer, "tokenizer.json", state);
    json_decref(state);
    checkpoint_commit(writer, 2);
}

static void write_run(const char *name, Variant v) {
    char *path = xprintf("%s/%s", folder, name);
    file_remove(path);
    Metrics *metrics = metrics_create(path);
    for (int64_t s = 1; s <= v.rows; s++) {
        double loss = 1 + 5.0 / (double)s, time = strcmp(name, "a") ? 10 : 20; /* times always differ */
        metrics_write(metrics, &(MetricsRow){s, 32 * s, s == v.odd_row ? nextafter(loss, 9) : loss,
                                             s % 10 ? NAN : loss, 1e-3, 2, time, 1 / time});
    }
    metrics_close(metrics);
    if (v.step) write_checkpoint(path, &v);
    free(path);
}

static Output compare_with(Variant v) {
    write_run("b", v);
    return run("compare a b");
}

static void test_compare_runs(void) {
    write_run("a", PLAIN);
    Output o = compare_with(PLAIN);
    ok(says(&o, 0, "the same bits: 30 rows, 2 tensors, 1 other files\n") && o.text[0] == 't',
       "two runs alike: %s", o.line);

    Variant v = PLAIN;
    v.odd_row = 17;
    o = compare_with(v);
    ok(says(&o, 1, "loss.csv: step 17: loss ") &&
           says(&o, 1, "different: 1 of 30 rows, 0 of 2 tensors, 0 other"),
       "one bit of one loss: %s", o.line);
    v = PLAIN, v.rows = 28;
    o = compare_with(v);
    ok(says(&o, 1, "step 29: only in the first\n") && says(&o, 1, "2 of 30 rows"), "rows missing: %s",
       o.line);
    v = PLAIN, v.rows = 60;
    o = compare_with(v);
    ok(says(&o, 1, "step 31: only in the second\n") && says(&o, 1, "and 20 more rows"), "rows too many: %s",
       o.line);
    v = PLAIN, v.odd_element = 57;
    o = compare_with(v);
    ok(says(&o, 1,
            "model.safetensors: head.weight: 1 of 200 elements differ, by at most 0.5 (0.0201 of the "
            "largest, 24.9); "
            "the first is 57: 7.125 and 7.625\n"),
       "one element: %s", o.line);
    v = PLAIN, v.other_shape = true;
    o = compare_with(v);
    ok(says(&o, 1, "head.weight: the shapes differ\n"), "shapes: %s", o.line);
    v = PLAIN, v.other_type = true;
    o = compare_with(v);
    ok(says(&o, 1, "head.bias: equal values, stored as F32 and F64\n"), "types: %s", o.line);
    v = PLAIN, v.extra_tensor = v.extra_file = true;
    o = compare_with(v);
    ok(says(&o, 1, "extra: only in the second\n") && says(&o, 1, "tokenizer.json: only in the second\n"),
       "more: %s", o.line);
    o = run("compare b a");
    ok(says(&o, 1, "extra: only in the first\n") && says(&o, 1, "tokenizer.json: only in the first\n"),
       "less: %s", o.line);
    v = PLAIN, v.seed = 8;
    o = compare_with(v);
    ok(says(&o, 1, "state.json differs: config.seed\n"), "state: %s", o.line);
    v = PLAIN, v.step = 20;
    o = compare_with(v);
    ok(says(&o, 1, "the newest checkpoints are of steps 30 and 20\n"), "steps: %s", o.line);
    v = PLAIN, v.step = 0;
    o = compare_with(v);
    ok(says(&o, 1, "only the first has a checkpoint\n"), "no checkpoint: %s", o.line);
}

static void test_compare_parts(void) {
    Variant v = PLAIN;
    v.odd_element = 0;
    write_run("b", v);
    Output o = run("compare a/checkpoint/step-000030 b/checkpoint/step-000030");
    ok(says(&o, 1, "the first is 0: 0 and 0.5"), "two checkpoints: %s", o.line);
    o = run("compare a/checkpoint/step-000030 a/checkpoint/step-000030/");
    ok(says(&o, 0, "the same bits: 0 rows, 2 tensors"), "a checkpoint and itself, with a slash behind: %s",
       o.line);
    o = run("compare a/checkpoint/step-000030/model.safetensors b/checkpoint/step-000030/model.safetensors");
    ok(says(&o, 1, "head.weight: 1 of 200"), "two tensor files: %s", o.line);

    float number[3] = {1, NAN, 0}, other[3] = {1, 2, -0.0f};
    int64_t large[1] = {1 + (INT64_C(1) << 60)}, larger[1] = {large[0] + 1}; /* the same double */
    char *path = xprintf("%s/x.safetensors", folder), *path_b = xprintf("%s/y.safetensors", folder);
    safetensors_write(path, &(NamedArray){"n", ARRAY_F32, 1, {3}, .data = number}, 1, NULL);
    safetensors_write(path_b, &(NamedArray){"n", ARRAY_F32, 1, {3}, .data = other}, 1, NULL);
    o = run("compare x.safetensors y.safetensors");
    ok(says(&o, 1, "2 of 3 elements differ, by at most nan"), "NaN and the sign of zero are differences: %s",
       o.line);
    o = run("compare x.safetensors x.safetensors");
    ok(says(&o, 0, "the same bits"), "a NaN is the same bits as itself");
    safetensors_write(path, &(NamedArray){"n", ARRAY_I64, 1, {1}, .data = large}, 1, NULL);
    safetensors_write(path_b, &(NamedArray){"n", ARRAY_I64, 1, {1}, .data = larger}, 1, NULL);
    o = run("compare x.safetensors y.safetensors");
    ok(says(&o, 1, "1 of 1 elements differ"), "integers that no double tells apart: %s", o.line);
    free(path);
    free(path_b);
}

static void test_compare_refuses(void) {
    static const struct {
        const char *arguments, *reason;
        int status;
    } cases[] = {{"", "two things to compare are needed, 0 given", 2},
                 {"a", "two things to compare are needed, 1 given", 2},
                 {"a b c", "3 given", 2},
                 {"a nowhere", "there is no 'nowhere'", 2},
                 {"a .", "'.' is not a run", 2},
                 {"none.safetensors none.safetensors", "nothing to compare in 'none.safetensors'", 2},
                 {"rowless rowless", "no row of losses and no tensor", 2},
                 {"a a/checkpoint/step-000030", "things of two kinds", 2},
                 {"a/loss.csv a/loss.csv", "is not a run", 2},
                 {"damaged a", "line 3 is damaged", 1},
                 {"torn a", "file 'state.json' is damaged", 1}};
    char *none = xprintf("%s/none.safetensors", folder);
    safetensors_write(none, NULL, 0, NULL);
    free(none);
    write_run("rowless", (Variant){.odd_element = -1});
    write_run("damaged", PLAIN);
    write_run("torn", PLAIN);
    char *csv = xprintf("%s/damaged/loss.csv", folder),
         *state = xprintf("%s/torn/checkpoint/step-000030/state.json", folder);
    file_write(csv, METRICS_HEADER "\n1,2,3,,,,,\nx\n", strlen(METRICS_HEADER) + 14);
    size_t bytes;
    char *text = file_read(state, &bytes);
    text[bytes / 2] ^= 1;
    file_write(state, text, bytes);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        char *command = xprintf("compare %s", cases[i].arguments);
        Output o = run(command);
        ok(says(&o, cases[i].status, cases[i].reason) && strstr(o.text, "compare: error: "), "%s: %s",
           command, o.line);
        free(command);
    }
    free(text);
    free(csv);
    free(state);
}

static void test_plot_runs(void) {
    Output o = run("plot_runs both.png a b");
    char *path = xprintf("%s/both.png", folder);
    ok(says(&o, 0, "both.png\n") && file_exists(path), "plot_runs: %s", o.line);
    char *report = xprintf("%s/a/report.json", folder);
    file_write(report, "{\"entropy_floor\": 0.9, \"trigram_loss\": null}", 44);
    o = run("plot_runs --log one.svg a");
    char *svg_path = xprintf("%s/one.svg", folder),
         *svg = file_exists(svg_path) ? file_read(svg_path, NULL) : xstrdup("");
    ok(o.status == 0 && strstr(svg, ">entropy floor 0.9<") && !strstr(svg, "trigram"),
       "the lines come from report.json");
    free(svg);
    o = run("plot_runs --tokens --log one.svg a");
    svg = file_read(svg_path, NULL);
    ok(o.status == 0 && strstr(svg, ">millions of tokens<"), "tokens along x");
    free(svg);
    o = run("plot_runs --difference one.svg a b");
    svg = file_read(svg_path, NULL);
    ok(o.status == 0 && strstr(svg, ">difference<") && strstr(svg, ">|b - a|<"),
       "--difference: a second panel");
    o = run("plot_runs --difference one.svg a");
    ok(says(&o, 2, "--difference needs two runs, there is 1"), "one run differs from none: %s", o.line);
    o = run("plot_runs --difference --tokens one.svg a b");
    ok(says(&o, 2, "--difference holds steps against each other"), "steps against tokens: %s", o.line);
    o = run("plot_runs --token both.png a");
    ok(says(&o, 2, "'--token' is not a flag"), "no such flag: %s", o.line);
    o = run("plot_runs both.png a nowhere");
    ok(says(&o, 2, "no run in 'nowhere'"), "no run: %s", o.line);
    o = run("plot_runs both.png a rowless");
    ok(says(&o, 2, "nothing to draw in 'rowless/loss.csv'"), "no losses: %s", o.line);
    o = run("plot_runs both.png");
    ok(says(&o, 2, "at least one run"), "no runs: %s", o.line);
    o = run("plot_runs nowhere/x.png a");
    ok(says(&o, 1, "warning: no picture 'nowhere/x.png'"), "no place for the picture: %s", o.line);
    free(path);
    free(report);
    free(svg);
    free(svg_path);
}

int main(int argc, char **argv) {
    (void)argc;
    folder = file_temp_folder("shard-test");
    char *self = realpath(argv[0], NULL);
    *strrchr(self, '/') = 0; /* build/tests/test_run_tools: the programs are one folder up */
    programs = xprintf("%s/..", self);
    test_compare_runs();
    test_compare_parts();
    test_compare_refuses();
    test_plot_runs();
    file_remove(folder);
    free(programs);
    free(self);
    free(folder);
    return tap_done();
}
