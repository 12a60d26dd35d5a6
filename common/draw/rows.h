/* rows: what is around a picture of rows over one time axis: title, key, names, axis. A caller fills the rows with objects of
 * gnuplot's, whose x counts in units of the axis and whose y in pixels, from 0 at the top of the first row downwards. */
#ifndef ROWS_H
#define ROWS_H

#include "common/base/base.h"

typedef struct {
    const char *title, *x_label; /* UTF-8; title NULL: none */
    double longest;              /* units of the axis, which begins at 0 */
    double height;               /* pixels of all rows */
    int left, right;             /* pixels beside them */
} Rows;
enum { ROWS_WIDTH = 1100 }; /* pixels of the whole picture */

/* Pixels between begin and end of the axis. */
double rows_width(const Rows *rows);
/* The first lines of the script that draws into `path`: all but the names of the rows, the key, and what is in them. */
void rows_begin(Str *script, const Rows *rows, const char *path);

/* The name of a row whose middle is at y. */
void rows_name(Str *script, const Rows *rows, const char *name, double y);
/* A note beside the rows, on their right, at y. */
void rows_note(Str *script, const Rows *rows, const char *note, double y);
/* Words with their lower left corner about there, in letters of so many points. */
void rows_text(Str *script, const char *text, double x, double y, double font);

/* The key, in a line above the rows, from the left: colours ("rrggbb") and what they mean. Each returns where the next one
 * stands, in pixels of the picture; the first one stands at rows->left. */
double rows_key_color(Str *script, const Rows *rows, double x, const char *color);
double rows_key_text(Str *script, const Rows *rows, double x, const char *text);

/* Draws the script, with what is to be plotted on top of an empty plot ("" or ", ..."), and waits. False, after a warning, when that failed. */
bool rows_end(Str *script, const char *plots, const char *path);

#endif
