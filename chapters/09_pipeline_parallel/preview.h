/* preview: all schedules beside each other before any of them is run, with F, B and W that take equally long and messages that take
 * no time: what the formulas speak of. */
#ifndef PREVIEW_H
#define PREVIEW_H

#include "chapters/09_pipeline_parallel/plan.h"

#include <jansson.h>

/* Prints a table: time, bubble and micro-batches in flight of each, beside the formulas. Into `folder`, which it makes, go
 * schedules.png, the picture of all of them but naive, which naive.png shows beside gpipe; in-flight.png; and each as NAME.csv,
 * to be changed and given back with --schedule-file. file: one more schedule, whose stages and micro-batches all of them have then; NULL: none; one that cannot
 * be run ends the program with 2. Returns what the report says of it. */
json_t *preview_run(int stages, int virtual_stages, int64_t microbatches, const char *file,
                    const char *folder);

#endif
