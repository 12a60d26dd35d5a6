/* plots: pictures, drawn by gnuplot. A run never depends on them: where gnuplot is missing, fails or hangs
 * there is one warning with a hint, and the program goes on (gnuplot.h says how). */
#ifndef PLOTS_H
#define PLOTS_H

#include "common/draw/curves.h"

/* Draws into `path` (.svg: SVG, anything else: PNG) and waits for it. False, after a warning,
 * when that failed. */
bool plot_draw(const Plot *plot, const char *path);
/* Starts drawing and returns; left out when the picture before is still being drawn. For
 * redrawing in training. */
bool plot_draw_behind(const Plot *plot, const char *path);
/* Waits for the picture that plot_draw_behind began, if any. */
void plot_wait(void);

#endif
