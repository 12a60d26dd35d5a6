/* mlp_parallel: the two-layer network of chapter 01, cut over the devices of the mesh's axis `tensor`: all of tensor
 * parallelism in a dozen lines. The first matrix is cut by columns, the second by rows, so that the hidden layer needs no
 * other device:
 *
 *   x Replicate -> op_copy -> Private -> up, by columns -> relu, on F/t numbers -> down, by rows -> Partial -> op_reduce */
#ifndef MLP_PARALLEL_H
#define MLP_PARALLEL_H

#include "common/comm/mesh.h"
#include "common/model/mlp.h"

/* NULL, or why so many hidden numbers cannot be cut over t devices, with *hint. The caller frees both. */
char *mlp_parallel_problem(int64_t hidden, int t, char **hint);

/* This device's slice; every element starts as mlp_new makes it in the whole. planned: see Params. mlp_delete frees it. */
Mlp *mlp_parallel_new(const Mesh *mesh, Device *device, int64_t inputs, int64_t hidden, int64_t outputs,
                      uint64_t seed, bool planned);
/* x (B,I) to y (B,O), both Replicate. x stays with the caller. */
Tensor *mlp_parallel_forward(const Mlp *m, const Mesh *mesh, Tape *tape, Tensor *x);

#endif
