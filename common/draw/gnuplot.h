/* gnuplot: scripts become pictures. What plots.h and boxes.h draw goes through here.
 *
 * gnuplot reads its script from an unnamed temporary file and writes the picture to its standard output,
 * so no file name can break the script, a gnuplot that dies cannot kill the program with SIGPIPE, and a
 * large script cannot block. The picture replaces the older one when it is complete: whoever looks sees
 * a whole picture. */
#ifndef GNUPLOT_H
#define GNUPLOT_H

#include "common/base/base.h"

#include <sys/types.h>

/* ---- the script ---- */

/* Colour 1 and up as "rrggbb", over and over: Okabe and Ito's, which the colour-blind tell apart
 * (jfly.uni-koeln.de/color); yellow, pale on
 * white, comes last. */
const char *gnuplot_color(int number);
typedef struct {
    char text[8]; /* "rrggbb" */
} GnuplotShade;
/* So much of the colour, 0 to 1, the rest white. */
GnuplotShade gnuplot_shade(const char *color, double part);
/* For letters: dark on what is light, and light on what is dark. */
const char *gnuplot_ink_on(const char *color);
/* A gnuplot string: in single quotes nothing is special but the quote, which is joined on in double quotes. */
void gnuplot_quoted(Str *script, const char *text);
/* The first line: what `path` is to become (.svg: SVG, anything else: PNG), of so many pixels. */
void gnuplot_terminal(Str *script, const char *path, int width, int height);

/* ---- the picture ---- */

typedef struct {
    pid_t child; /* 0: none */
    char *temporary, *path;
} GnuplotJob;

/* Starts drawing. False, after a warning, when that failed; then there is nothing to wait for. */
bool gnuplot_start(GnuplotJob *job, const Str *script, const char *path);
/* Takes the picture into place when gnuplot is done. False: it is still drawing. */
bool gnuplot_collect(GnuplotJob *job, bool *drawn);
/* Waits for that; true: drawn. */
bool gnuplot_wait(GnuplotJob *job);

#endif
