/* mesh: the devices of a job as a grid with named axes. `tensor` runs fastest, so that those who talk most are
 * neighbours: rank = (data * PP + pipe) * TP + tensor.
 *
 * Along each axis there is a group of the devices that differ in that coordinate alone; its ranks are the coordinate.
 * tensor.h says which axes there are and how a value can be placed on them. */
#ifndef MESH_H
#define MESH_H

#include "common/comm/comm.h"

typedef struct {
    Comm *world;
    int size[MESH_AXES];       /* how many devices along each axis */
    int coordinate[MESH_AXES]; /* of this device */
    Comm *axis[MESH_AXES];     /* this device and those that differ from it in this coordinate alone */
} Mesh;

/* Every rank of the world calls it with the same sizes. One of them may be 0: as many as the others leave. Sizes that
 * do not multiply to the number of devices end the program (2) with some that do. */
Mesh mesh_new(Comm *world, const int size[MESH_AXES]);
/* Closes the groups, not the world; every rank calls it. */
void mesh_close(Mesh *mesh);

int mesh_rank(const Mesh *mesh, const int coordinate[MESH_AXES]);
void mesh_coordinate(const Mesh *mesh, int rank, int coordinate[MESH_AXES]);

/* The ranks in boxes: `data` down, `tensor` across, one table for each stage of `pipe`. The caller frees it. */
char *mesh_picture(const Mesh *mesh);

#endif
