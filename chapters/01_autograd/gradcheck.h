/* gradcheck: are the gradients that backward computes the derivatives of the loss? Each weight that is
 * checked is moved a little up and down, and the loss is computed anew: (L(w + h) - L(w - h)) / 2h.
 *
 * A relu has no derivative where its input is 0. If one of them switches on or off between w - h and
 * w + h, the difference says nothing about the gradient: such a weight is marked as standing at a kink and
 * not compared. */
#ifndef GRADCHECK_H
#define GRADCHECK_H

#include "common/tensor/tape.h"

/* The loss (1) of the model, a deterministic function of its weights. */
typedef Tensor *LossFn(void *context, Tape *tape);

typedef struct {
    Param *param;
    int64_t index; /* of the element in it */
    double analytic, difference;
    double error; /* of the two to each other, relative to the largest gradient in the parameter */
    bool kink;
} GradCheck;

/* Checks `each` elements of every parameter: the one with the largest gradient, the others drawn with `seed`
 * (all elements where a parameter has no more). Fills checks (params->count x each) and returns how many. */
int gradcheck(Params *params, LossFn *loss, void *context, double step, int each, uint64_t seed,
              GradCheck *checks);

/* Prints them as a table. True when no error passes the tolerance and most elements could be compared. */
bool gradcheck_print(const GradCheck *checks, int count, double step, double tolerance);

#endif
