#include "chapters/09_pipeline_parallel/pp_options.h"

#include "chapters/09_pipeline_parallel/staged.h"
#include "common/base/platform.h"
#include "common/config/args.h"

#include <stdlib.h>

static PpProgram options;

#define OPTION(KIND, ...) KIND##_FLAG(PpProgram, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(ENUM, "sweep", sweep, "none|plan|schedules",
           "instead of training, draw all schedules as they are planned, or run each of them by the clock of "
           "--device-model"),
};

void pp_prefer_batch(Config *preset, int pipelines) {
    int64_t windows = 2 * preset->pipeline_parallel * pipelines;
    preset->pipeline_schedule = SCHEDULE_1F1B;
    if (preset->pipeline_parallel == 1) return;
    while (preset->micro_batch > 1 && windows * preset->micro_batch > preset->global_batch)
        preset->micro_batch /= 2;
    while (preset->global_batch < windows) {
        preset->global_batch *= 2;
        preset->max_steps /= 2;
    }
}

/* As many stages as 4, 2 or 1 divides, the first that does. */
static void prefer(Config *preset) {
    int devices = platform_ranks(), stages = devices % 4 == 0 ? 4 : devices % 2 == 0 ? 2 : 1;
    preset->pipeline_parallel = stages;
    pp_prefer_batch(preset, devices / stages);
}

ScheduleKind pp_kind(const Config *c) {
    return c->schedule_file ? SCHEDULE_KINDS : (ScheduleKind)c->pipeline_schedule;
}

int pp_virtual_stages(const Config *c) {
    if (pp_kind(c) != SCHEDULE_INTERLEAVED) return 1;
    return c->virtual_stages ? (int)c->virtual_stages : 2;
}

static Schedule *schedule_of_file(const Config *c, char **problem, char **hint) {
    CHECK_USAGE(file_exists(c->schedule_file), "each run leaves its own in <output-dir>/schedule.csv",
                "there is no schedule '%s'", c->schedule_file);
    Schedule *s = schedule_read(c->schedule_file);
    int64_t devices_batch = c->micro_batch * c->data_parallel;
    if (s->stages != c->pipeline_parallel) {
        *problem =
            xprintf("the schedule in '%s' is for %d stage%s, and --pipeline-parallel-size is %lld",
                    c->schedule_file, s->stages, s->stages > 1 ? "s" : "", (long long)c->pipeline_parallel);
        *hint = xprintf("--pipeline-parallel-size %d", s->stages);
    } else if (s->microbatches != c->num_microbatches) {
        *problem = xprintf("the schedule in '%s' is for %lld micro-batch%s, and the flags make %lld",
                           c->schedule_file, (long long)s->microbatches, s->microbatches > 1 ? "es" : "",
                           (long long)c->num_microbatches);
        *hint = xprintf("--micro-batch-size %lld --global-batch-size %lld", (long long)c->micro_batch,
                        (long long)(devices_batch * s->microbatches));
    }
    return s;
}

/* NULL where there is a problem. */
static Schedule *schedule_of_kind(const Config *c, char **problem, char **hint) {
    int stages = (int)c->pipeline_parallel, v = pp_virtual_stages(c);
    if (c->virtual_stages >= 2 && pp_kind(c) != SCHEDULE_INTERLEAVED) {
        *problem = xprintf("--virtual-stages %lld is for another schedule than %s",
                           (long long)c->virtual_stages, schedule_names[pp_kind(c)]);
        *hint = xstrdup("use --pipeline-schedule interleaved");
    } else {
        *problem = schedule_problem(pp_kind(c), stages, v, c->num_microbatches, hint);
    }
    return *problem ? NULL : schedule_new(pp_kind(c), stages, v, c->num_microbatches);
}

/* NULL: there is none, and *problem says why. */
static Plan *find_plan(const Config *c, char **problem, char **hint) {
    *problem = NULL;
    Schedule *schedule = (c->schedule_file ? schedule_of_file : schedule_of_kind)(c, problem, hint);
    if (!*problem) *problem = staged_problem(c, schedule, hint);
    Plan *plan = *problem ? NULL : plan_new(schedule, problem, hint);
    if (!plan && schedule) schedule_delete(schedule);
    return plan;
}

Plan *pp_plan(const Config *c) {
    char *hint, *problem;
    Plan *plan = find_plan(c, &problem, &hint);
    CHECK_USAGE(plan, hint, "%s", problem);
    return plan;
}

bool pp_is_possible(const Config *c) {
    char *hint, *problem;
    Plan *plan = find_plan(c, &problem, &hint);
    if (plan) {
        pp_plan_delete(plan);
        return true;
    }
    free(problem);
    free(hint);
    return false;
}

void pp_write_schedule(const Config *c, const Schedule *schedule) {
    char *path = xprintf("%s/schedule.csv", c->output_dir);
    schedule_write(schedule, path);
    free(path);
}

void pp_plan_delete(Plan *plan) {
    Schedule *schedule = (Schedule *)(uintptr_t)plan->schedule;
    plan_delete(plan);
    schedule_delete(schedule);
}

PpProgram pp_options_parse(int argc, char **argv, int devices) {
    Program program = {
        .about = "trains a MiniGPT on several devices that each have some of its layers",
        .example = "--pipeline-parallel-size 4 --pipeline-schedule zb-h1 --max-steps 200",
        .groups = ARGS_ALL & ~(unsigned)ARGS_TENSOR,
        .prefer = prefer,
        .own = flags,
        .own_count = COUNT_OF(flags),
        .values = &options,
        .devices = devices,
    };
    options.run = args_parse(argc, argv, &program);
    const Config *c = &options.run;
    CHECK_USAGE(c->tensor_parallel == 1, "--pipeline-parallel-size gives each device some of the layers",
                "--tensor-parallel-size is chapter 08's");
    sharded_check_flags(c);
    return options;
}
