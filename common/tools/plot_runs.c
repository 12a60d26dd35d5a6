/* plot_runs: the loss curves of several runs in one picture.
 *
 *   build/plot_runs [--log] [--tokens] [--difference] OUT.png RUN ...      (make plot RUNS="runs/a runs/b")
 *
 * --log: a logarithmic scale; --tokens: tokens along x, for runs whose steps differ in size; --difference: a second
 * panel below shows by how much the losses of each run differ from those of the first, for curves that coincide.
 * RUN is the output folder of a run. The dashed lines come from its report.json, if it is there. OUT.svg
 * makes SVG. Of several runs a line says by how much the losses of each differ at most from those of the first. */
#include "common/draw/loss_plot.h"
#include "common/run/metrics.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number_or_nan(const json_t *report, const char *key) {
    const json_t *value = json_object_get(report, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool has_losses(const char *csv) {
    MetricsTable table = metrics_read(csv);
    bool found = false;
    for (int64_t i = 0; i < table.count; i++)
        found |= !isnan(table.rows[i].loss) || !isnan(table.rows[i].val_loss);
    metrics_free(&table);
    return found;
}

static LossCurve describe_run(const char *folder) {
    char *csv = xprintf("%s/loss.csv", folder), *path = xprintf("%s/report.json", folder);
    CHECK_USAGE(file_exists(csv), "name the output folders of runs, such as runs/02_minigpt",
                "no run in '%s': no '%s'", folder, csv);
    CHECK_USAGE(has_losses(csv), "name runs that have made a step",
                "there is nothing to draw in '%s': no loss", csv);
    json_t *report = json_load_file(path, 0, NULL); /* NULL, and so no lines, when there is none */
    LossCurve curve = {folder, folder, number_or_nan(report, "entropy_floor"),
                       number_or_nan(report, "trigram_loss")};
    json_decref(report);
    free(csv);
    free(path);
    return curve;
}

/* The largest difference of one loss over the steps that both have measured. */
typedef struct {
    double most;
    int64_t step, count;
} Difference;

static Difference difference(const MetricsTable *a, const MetricsTable *b, bool validation) {
    Difference d = {0, 0, 0};
    for (int64_t i = 0, j = 0; metrics_same_step(a, b, &i, &j); i++, j++) {
        const MetricsRow *x = &a->rows[i], *y = &b->rows[j];
        double apart = validation ? fabs(x->val_loss - y->val_loss) : fabs(x->loss - y->loss);
        if (!isnan(apart)) d.count++;
        if (apart > d.most) d = (Difference){apart, x->step, d.count};
    }
    return d;
}

static void print_difference(const char *first, const char *other) {
    char *paths[2] = {xprintf("%s/loss.csv", first), xprintf("%s/loss.csv", other)};
    MetricsTable a = metrics_read(paths[0]), b = metrics_read(paths[1]);
    Str line = {0};
    for (int validation = 0; validation < 2; validation++) {
        Difference d = difference(&a, &b, validation);
        const char *what = validation ? "validation" : "training";
        if (d.count == 0) continue;
        str_printf(&line, "%s%s losses ", line.count ? ", " : "", what);
        if (d.most > 0)
            str_printf(&line, "differ by at most %.4g (step %lld)", d.most, (long long)d.step);
        else
            str_printf(&line, "are equal");
    }
    printf("%s and %s: %s\n", first, other, line.count ? line.data : "no step in common");
    str_free(&line);
    metrics_free(&a);
    metrics_free(&b);
    free(paths[0]);
    free(paths[1]);
}

int main(int argc, char **argv) {
    base_set_program(argv[0]);
    bool log_y = false, by_tokens = false, differ = false;
    int flags = 0;
    for (; flags + 1 < argc && argv[flags + 1][0] == '-'; flags++) {
        bool *flag = !strcmp(argv[flags + 1], "--log")          ? &log_y
                     : !strcmp(argv[flags + 1], "--tokens")     ? &by_tokens
                     : !strcmp(argv[flags + 1], "--difference") ? &differ
                                                                : NULL;
        CHECK_USAGE(flag, "plot_runs knows --log, --tokens and --difference", "'%s' is not a flag",
                    argv[flags + 1]);
        *flag = true;
    }
    char **names = argv + 1 + flags;
    int count = argc - 2 - flags;
    CHECK_USAGE(
        count >= 1,
        "plot_runs [--log] [--tokens] [--difference] OUT.png RUN ..., or make plot RUNS=\"runs/a runs/b\"",
        "a picture and at least one run are needed");
    CHECK_USAGE(!differ || count >= 2, "name the run that the others are held against first",
                "--difference needs two runs, there is %d", count);
    CHECK_USAGE(!differ || !by_tokens, "leave one of them out",
                "--difference holds steps against each other, --tokens is for steps that differ in size");
    LossCurve *runs = xcalloc((size_t)count, sizeof *runs);
    for (int i = 0; i < count; i++) runs[i] = describe_run(names[1 + i]);
    LossPlot plot = {.title = count == 1 ? runs[0].name : "Loss of several runs",
                     .runs = runs,
                     .run_count = count,
                     .log_y = log_y,
                     .by_tokens = by_tokens,
                     .difference = differ};
    bool drawn = plot_loss(&plot, names[0]);
    if (drawn) printf("%s\n", names[0]);
    for (int i = 1; i < count; i++) print_difference(runs[0].folder, runs[i].folder);
    free(runs);
    return !drawn;
}
