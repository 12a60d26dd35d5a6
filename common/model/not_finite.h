/* not_finite: which op first made a number that is infinite or not a number. When the loss of a step or the norm of its
 * gradient is not finite, the step is run again under an observer, and the program ends with the name of that op. */
#ifndef NOT_FINITE_H
#define NOT_FINITE_H

#include "common/comm/comm.h"
#include "common/model/model.h"

/* What a step was. */
typedef struct {
    int64_t step, first_window; /* of the global batch */
    double loss, grad_norm;
} StepResult;
bool step_is_finite(const StepResult *was);

/* Where several passes are under way at once, or on several devices, `now` says how early one device would come to what
 * runs now; the earliest is kept. It may stay 0: then the first is. */
typedef struct {
    int64_t now;
    int64_t at; /* of what was found */
    char *op;   /* "forward of linear 'blocks.0.qkv.weight'"; NULL: nothing yet */
} NotFinite;

/* For any number of tapes. What is still on its way from another device is left to that one. */
TapeObserver not_finite_observer(NotFinite *found);
/* Before the step is run again, by every device: all ops are in sight and keep their gradients to themselves. There is no
 * way back. */
void not_finite_prepare(Model *model);
/* Ends the program: "step 7: the loss is nan ..; first in the forward of ..". comm: devices that know the same loss and norm
 * all call it; of them the one that has found the earliest speaks, and of several the lowest rank. NULL: this one. */
_Noreturn void not_finite_fail(const NotFinite *found, const StepResult *was, Comm *comm);

#endif
