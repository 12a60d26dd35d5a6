/* trainer_report: what a person sees of a trainer on a mesh: where each rank is, what each device has held, what a step has moved
 * along each axis. Every rank of the mesh calls all of it. */
#ifndef TRAINER_REPORT_H
#define TRAINER_REPORT_H

#include "chapters/10_3d_parallel/trainer.h"

/* The sizes, and "Rank 0 | DP: 0/2 | TP: 0/2 | PP: 0/2" for each rank; of many, the first and the last. */
void trainer_print_ranks(const Trainer *t);
/* Bytes of each class on each device, at its peak, beside what a dry run says; devices in a row that hold the same share a line. */
void trainer_print_memory(const Trainer *t);
/* Of the last step: calls and bytes along each axis, and what devices have waited there. */
void trainer_print_axes(const Trainer *t);

#endif
