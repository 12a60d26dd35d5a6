/* mlp: the two-layer network y = relu(x W1 + b1) W2 + b2, the smallest model that everything else
 * can be tried on. Weights start as N(0, 1 / rows), biases at 0; each element is a function of
 * (seed, name, index). */
#ifndef MLP_H
#define MLP_H

#include "common/tensor/ops.h"

typedef struct {
    Params params; /* "up.weight" (I,F), "up.bias" (F), "down.weight" (F,O), "down.bias" (O) */
    Param *up_weight, *up_bias, *down_weight, *down_bias;
} Mlp;

Mlp *mlp_new(Device *device, int64_t inputs, int64_t hidden, int64_t outputs, uint64_t seed);
void mlp_delete(Mlp *m);

/* x (B,I) to y (B,O). x stays with the caller. */
Tensor *mlp_forward(const Mlp *m, Tape *tape, Tensor *x);

#endif
