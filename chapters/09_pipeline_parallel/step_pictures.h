/* step_pictures: what the stages did in a step of a run, when, and what they held meanwhile. */
#ifndef STEP_PICTURES_H
#define STEP_PICTURES_H

#include "chapters/09_pipeline_parallel/measured.h"

typedef struct StepPictures StepPictures;

/* From now on the device is listened to: it has no other observer. Between begin and end lies a step; the last one is drawn. */
StepPictures *step_pictures_new(const Staged *s);
void step_pictures_delete(StepPictures *p);
void step_pictures_begin(StepPictures *p);
void step_pictures_end(StepPictures *p);

/* Every device along `pipe` calls it, with what was measured of the step; rank 0 draws its own pipeline into the folder:
 *
 *   pipeline.png      when each stage did what, and when it would have, by the plan, with the mean costs of its actions
 *   in-flight.png     micro-batches that each stage has begun and not finished
 *   activations.png   bytes of activations on each stage, beside what the blocks keep for so many micro-batches
 *
 * kind: whose formulas hold; SCHEDULE_KINDS: it is none of them. */
void step_pictures_draw(StepPictures *p, const Measured *m, ScheduleKind kind);

#endif
