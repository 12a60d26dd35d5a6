/* mesh: the devices of a job as a grid with named axes. Devices along `tensor` send each other most, so they are
 * neighbours in rank: rank = (data * PP + pipe) * TP + tensor.
 *
 * Devices that differ in one coordinate alone form a group, and the coordinate is their rank in it.
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
 * do not multiply to the number of devices end the program with status 2, and the message says which sizes would do. */
Mesh mesh_new(Comm *world, const int size[MESH_AXES]);
/* Closes the groups, not the world; every rank calls it. */
void mesh_close(Mesh *mesh);

int mesh_rank(const Mesh *mesh, const int coordinate[MESH_AXES]);
void mesh_coordinate(const Mesh *mesh, int rank, int coordinate[MESH_AXES]);

/* The ranks in boxes: `data` down, `tensor` across, one table for each stage of `pipe`. The caller frees it. */
char *mesh_picture(const Mesh *mesh);

#endif
