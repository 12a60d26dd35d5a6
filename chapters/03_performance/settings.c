#include "chapters/03_performance/settings.h"

#include "common/config/args.h"

#include <inttypes.h>
#include <math.h>

static Settings settings = {.warmup = 5, .steps = 30, .point_seconds = 2, .fit_seconds = 60, .trace = true};

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
    OPTION(REAL, "fit-seconds", fit_seconds, 0, 1e6, ENDS_INCLUDED,
           "the measured steps are cut to fit into so many, unless batch and steps are given"),
    OPTION(BOOL, "mistakes", mistakes,
           "measure what well-known mistakes cost on this machine, and nothing else"),
};

static const Program program = {
    .about = "where the time of a training step goes, and how much of the machine it uses",
    .example = "--preset minigpt --global-batch-size 16",
    .groups = ARGS_MODEL | ARGS_BATCH | ARGS_DATA | ARGS_RUN | ARGS_DTYPE,
    .own = flags,
    .own_count = COUNT_OF(flags),
    .values = &settings,
};

Settings settings_parse(int argc, char **argv) {
    settings.run = args_parse(argc, argv, &program);
    settings.batch_given =
        args_given(argc, argv, "global-batch-size") || args_given(argc, argv, "num-microbatches");
    settings.steps_given = args_given(argc, argv, "max-steps") || args_given(argc, argv, "warmup-steps");
    settings.run.recompute = settings.recompute;
    settings.run.max_steps = settings.warmup + settings.steps;
    return settings;
}

char *settings_fit(Settings *s, double window_flops, double peak) {
    enum { FEWEST_STEPS = 3 }; /* to measure; one more warms up */
    Config *c = &s->run;
    const Settings asked = *s;
    double window_seconds = window_flops / (0.5 * peak),
           room = s->fit_seconds / window_seconds; /* in windows */
    double all = (double)c->global_batch * (double)c->max_steps;
    if (all <= room) return NULL;
    if (!s->batch_given) {
        double fitting = floor(room / (double)c->max_steps / (double)c->micro_batch);
        c->num_microbatches = (int64_t)fmax(1, fmin(fitting, (double)c->num_microbatches));
        c->global_batch = c->num_microbatches * c->micro_batch;
    }
    if (!s->steps_given && (double)c->global_batch * (double)c->max_steps > room) {
        s->warmup = min64(s->warmup, 1);
        double fitting = floor(room / (double)c->global_batch) - (double)s->warmup;
        s->steps = (int64_t)fmax(FEWEST_STEPS, fmin(fitting, (double)s->steps));
        c->max_steps = s->warmup + s->steps;
    }
    bool fewer_windows = c->global_batch != asked.run.global_batch,
         fewer_steps = c->max_steps != asked.run.max_steps;
    if (!fewer_windows && !fewer_steps) return NULL;
    Str text = {0};
    str_printf(&text, "fitted to about %.0f s: %" PRId64 " windows a step", s->fit_seconds, c->global_batch);
    if (fewer_windows) str_printf(&text, " instead of %" PRId64, asked.run.global_batch);
    str_printf(&text, ", %" PRId64 " measured steps", s->steps);
    if (fewer_steps) str_printf(&text, " instead of %" PRId64, asked.steps);
    str_printf(&text,
               "; all would take about %.0f minutes: --global-batch-size %" PRId64 " --max-steps %" PRId64,
               ceil(all * window_seconds / 60), asked.run.global_batch, asked.steps);
    return text.data;
}
