/* pp_options: what this program can be told, on top of what any training program can. */
#ifndef PP_OPTIONS_H
#define PP_OPTIONS_H

#include "chapters/09_pipeline_parallel/plan.h"
#include "common/config/config.h"

typedef enum { PP_SWEEP_NONE, PP_SWEEP_PLAN, PP_SWEEP_SCHEDULES } PpSweep;

typedef struct {
    Config run;
    PpSweep sweep;
} PpProgram;

/* Ends the program with --help, or with what is wrong. devices: how many run it. */
PpProgram pp_options_parse(int argc, char **argv, int devices);

/* For a preset with so many pipelines of its pipeline_parallel stages: 1f1b, with twice as many micro-batches as stages. They
 * become smaller, and where they cannot they become more, in fewer steps with as many tokens. */
void pp_prefer_batch(Config *preset, int pipelines);

/* The schedule that a config asks for; SCHEDULE_KINDS: one from a file. */
ScheduleKind pp_kind(const Config *config);
int pp_virtual_stages(const Config *config);
/* ... proven. What cannot be run, or does not fit the config's mesh and micro-batches, ends the program with status 2, and
 * the message names what would. It goes with pp_plan_delete, and its schedule as well. */
Plan *pp_plan(const Config *config);
void pp_plan_delete(Plan *plan);
/* <output-dir>/schedule.csv, to be changed and given back with --schedule-file. */
void pp_write_schedule(const Config *config, const Schedule *schedule);
/* Whether there is such a plan. */
bool pp_is_possible(const Config *config);

#endif
