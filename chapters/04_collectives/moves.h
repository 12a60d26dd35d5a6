/* moves: what each collective does, on numbers that can be checked in the head; and the ring, step by step. */
#ifndef MOVES_H
#define MOVES_H

#include "chapters/04_collectives/lesson.h"

/* all-gather, all-reduce, reduce-scatter and all-to-all of a small matrix, a row on each device: before and after, and
 * the bytes against the formula. False: a result is wrong. */
bool moves_show(const Lesson *lesson);
/* The same sum by hand: every step of the ring; then ring and tree on `count` numbers against the library. */
bool moves_by_hand(const Lesson *lesson, int64_t count);

#endif
