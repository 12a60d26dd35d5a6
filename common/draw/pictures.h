/* pictures: which of a program's pictures were drawn, and its last line, which promises no other. */
#ifndef PICTURES_H
#define PICTURES_H

#include "common/base/base.h"

/* The picture `path` is there, or could not be drawn. What is said of it last counts: a run redraws its picture. */
void pictures_note(const char *path, bool drawn);

/* The last line of a program: what lies in `folder`. `others`: what there is besides pictures, such as "checkpoints";
 * NULL: nothing. `first`: the name of the picture to look at; NULL: any. Pictures that were not drawn, about which a
 * warning was given, are named. */
void pictures_print_place(const char *folder, const char *others, const char *first);

#endif
