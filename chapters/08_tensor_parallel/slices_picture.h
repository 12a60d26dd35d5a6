/* slices_picture: which slice of which matrix is on which device, in words and as a picture. */
#ifndef SLICES_PICTURE_H
#define SLICES_PICTURE_H

#include "chapters/08_tensor_parallel/sliced.h"

/* What this device holds of the first block and of the two ends, and what that comes to. */
void slices_print(const Sliced *s);

/* <folder>/slices.png: the tables of words and the matrices of a block, a strip in a device's colour for each slice, cut over t
 * devices. On one rank. */
void slices_draw(const ModelConfig *model, int t, const char *folder);

#endif
