/* layouts: every way to lay a matrix A[I, J] out over a mesh of two axes, X down and Y across, and pictures of them.
 *
 * Each mesh axis either cuts the rows, or the columns, or leaves the matrix whole: 3 x 3 ways. Where both cut the same
 * dimension it matters which one cuts first: 2 more. A subscript says which axis cuts: A[I_X, J_Y], A[I_XY, J] (X cuts
 * the rows, Y cuts within its slices), A[I, J]: every device has all of it. */
#ifndef LAYOUTS_H
#define LAYOUTS_H

#include "chapters/04_collectives/lesson.h"

typedef struct {
    Place place[MESH_AXES]; /* what the library calls it */
    bool y_first;           /* both cut one dimension, and Y cuts first: not a placement of the library */
} Layout;

enum { LAYOUTS = 11 };
extern const Layout layouts[LAYOUTS];

/* "A[I_X, J]" for name 'A' and dims "IJ"; " {U_X}" behind it where it is a sum that has not been added up over X.
 * place: MESH_AXES of them. */
typedef struct {
    char text[48];
} Notation;
Notation notation(char name, const char *dims, const Place *place);

Notation layout_notation(char name, const char *dims, const Layout *layout);

/* ---- who has what; a mesh of numbers alone will do: nobody speaks on it ---- */

/* Such a mesh, of 8 devices at most. */
Mesh mesh_of_numbers(const int size[MESH_AXES]);

/* The matrix as a grid of tiles, and the tile of each device. */
typedef struct {
    int cuts[2];  /* tiles along the rows and along the columns */
    int index[2]; /* of the device's tile */
} Tile;
Tile tile_of(const Mesh *mesh, const Layout *layout, int rank);
/* The devices that hold tile (row, column): their ranks in who, in ascending order, and how many. */
enum { MOST_DEVICES = 8 };
int holders(const Mesh *mesh, const Layout *layout, int row, int column, int who[MOST_DEVICES]);

/* ---- shown ---- */

/* Prints them all, their shapes and their bytes on each device, for a matrix (rows, columns). `size`: of a mesh that
 * need not be there, of 8 devices at most; its axes divide rows and columns, also both together. */
void layouts_show(const int size[MESH_AXES], int64_t rows, int64_t columns);
/* Draws them into shardings_XxY.png (layouts_picture.c). */
void layouts_draw(const Lesson *lesson, const int size[MESH_AXES], int64_t rows, int64_t columns);

/* Places ones (rows, columns), rounded up to what the mesh divides, on the lesson's mesh as A[I_X, J_Y] and prints what
 * each device has. Then adds two vectors
 * that are sharded over all devices, and gathers the sum along one axis after the other. False: a sum is wrong (layouts_place.c). */
bool layouts_place(const Lesson *lesson, int64_t rows, int64_t columns);

#endif
