/* plot_runs: the loss curves of several runs in one picture.
 *
 *   build/plot_runs [--log] [--tokens] OUT.png RUN ...      (make plot RUNS="runs/a runs/b")
 *
 * --log: a logarithmic scale; --tokens: tokens along x, for runs whose steps differ in size.
 * RUN is the output folder of a run. The dashed lines come from its report.json, if it is there. OUT.svg
 * makes SVG. */
#include "common/loss_plot.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number_or_nan(const json_t *report, const char *key) {
    const json_t *value = json_object_get(report, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static LossCurve describe_run(const char *folder) {
    char *csv = xprintf("%s/loss.csv", folder), *path = xprintf("%s/report.json", folder);
    CHECK_USAGE(file_exists(csv), "name the output folders of runs, such as runs/02_minigpt",
                "no run in '%s': no '%s'", folder, csv);
    json_t *report = json_load_file(path, 0, NULL); /* NULL, and so no lines, when there is none */
    LossCurve curve = {folder, folder, number_or_nan(report, "entropy_floor"),
                       number_or_nan(report, "trigram_loss")};
    json_decref(report);
    free(csv);
    free(path);
    return curve;
}

int main(int argc, char **argv) {
    base_set_program(argv[0]);
    bool log_y = false, by_tokens = false;
    int flags = 0;
    for (; flags + 1 < argc && argv[flags + 1][0] == '-'; flags++) {
        bool *flag = !strcmp(argv[flags + 1], "--log")      ? &log_y
                     : !strcmp(argv[flags + 1], "--tokens") ? &by_tokens
                                                            : NULL;
        CHECK_USAGE(flag, "plot_runs knows --log and --tokens", "'%s' is not a flag", argv[flags + 1]);
        *flag = true;
    }
    char **names = argv + 1 + flags;
    int count = argc - 2 - flags;
    CHECK_USAGE(count >= 1,
                "plot_runs [--log] [--tokens] OUT.png RUN ..., or make plot RUNS=\"runs/a runs/b\"",
                "a picture and at least one run are needed");
    LossCurve *runs = xcalloc((size_t)count, sizeof *runs);
    for (int i = 0; i < count; i++) runs[i] = describe_run(names[1 + i]);
    LossPlot plot = {.title = count == 1 ? runs[0].name : "Loss of several runs",
                     .runs = runs,
                     .run_count = count,
                     .log_y = log_y,
                     .by_tokens = by_tokens};
    bool drawn = plot_loss(&plot, names[0]);
    if (drawn) printf("%s\n", names[0]);
    free(runs);
    return !drawn;
}
