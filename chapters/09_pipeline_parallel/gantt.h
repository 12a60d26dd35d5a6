/* gantt: the picture of a pipeline that papers draw. A row for each stage, the first one on top; a box for each action from
 * its begin to its end, in the colour of F, B or W, with the number of its micro-batch where there is room; what stays white
 * is idle time. Of several schedules, one below the other, all have the same scale. */
#ifndef GANTT_H
#define GANTT_H

#include "chapters/09_pipeline_parallel/plan.h"

/* times: of a plan, or what a run has measured; each schedule begins at its own first action. */
typedef struct {
    const char *title; /* above its rows */
    const Schedule *schedule;
    const PlanTimes *times;
} GanttPart;

typedef struct {
    const char *title; /* NULL: none */
    const GanttPart *parts;
    int count;
    double unit; /* seconds of a unit of the time axis, ...*/
    const char *unit_name;
} Gantt;

/* Draws into `path` (.svg: SVG, anything else: PNG) and waits for it. False, after a warning, when that failed. */
bool gantt_draw(const Gantt *gantt, const char *path);

#endif
