#include "chapters/03_performance/settings.h"

#include "common/config/args.h"

static Settings settings = {.warmup = 5, .steps = 30, .point_seconds = 2, .trace = true};

#define OPTION(KIND, ...) KIND##_FLAG(Settings, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(INT, "warmup-steps", warmup, 0, 1e6, "steps before the measured ones"),
    OPTION(INT, "max-steps", steps, 1, 1e6, "measured steps"),
    OPTION(BOOL, "recompute", recompute,
           "keep only the input of each block, and run the block again in backward"),
    OPTION(BOOL, "trace", trace, "write trace.json, for ui.perfetto.dev"),
    OPTION(ENUM, "sweep", sweep, "all|batch|threads|none", "what to vary after the measured steps"),
    OPTION(REAL, "point-seconds", point_seconds, 0, 3600, ENDS_INCLUDED,
           "how long a point of a sweep is measured; a step may take twice that"),
    OPTION(BOOL, "mistakes", mistakes,
           "measure what well-known mistakes cost on this machine, and nothing else"),
};

static const Program program = {
    .about = "where the time of a training step goes, and how much of the machine it uses",
    .example = "--preset minigpt --global-batch-size 16",
    .groups = ARGS_MODEL | ARGS_BATCH | ARGS_DATA | ARGS_RUN,
    .own = flags,
    .own_count = COUNT_OF(flags),
    .values = &settings,
};

Settings settings_parse(int argc, char **argv) {
    settings.run = args_parse(argc, argv, &program);
    settings.run.recompute = settings.recompute;
    settings.run.max_steps = settings.warmup + settings.steps;
    return settings;
}
