/* panel: one or two panels of curves as a gnuplot script; plots.h draws it.
 *
 * Nothing hides anything: the texts beside points and the labels of levels stand where labels.h finds room for them, the
 * key goes into the emptiest corner where it does not fit above, and where later curves lie over one, it is drawn wider. */
#ifndef PANEL_H
#define PANEL_H

#include "common/draw/curves.h"

/* The script that draws `plot` into a picture of the kind that `path` says (gnuplot.h). */
void picture_write(Str *script, const Plot *plot, const char *path);

#endif
