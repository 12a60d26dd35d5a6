/* cases: the product of two matrices that lie sharded over devices. What it takes depends on whether the dimension that
 * is summed over, J in C[I, K] = A[I, J] B[J, K], is sharded (the four cases of Austin et al., How to Scale Your Model,
 * 2025, part 3). */
#ifndef CASES_H
#define CASES_H

#include "chapters/04_collectives/lesson.h"

/* What C = A B is on a mesh axis, from what A and B are on it. NULL, and *c is set; or what stands in the way. */
const char *product_place(Place a, Place b, Place *c);

/* The four cases on small matrices, each carried out and compared with the unsharded product, and the bytes it moved with
 * their formula. False: something differs. */
bool cases_show(const Lesson *lesson);

#endif
