/* not_finite: which op first made a number that is infinite or not a number. */
#ifndef NOT_FINITE_H
#define NOT_FINITE_H

#include "common/tensor/tape.h"

/* For a tape that runs the step again: *found, NULL at first, becomes "forward of linear
 * 'blocks.0.qkv.weight'" at the first such number, in a string that the caller frees. */
TapeObserver not_finite_observer(char **found);

#endif
