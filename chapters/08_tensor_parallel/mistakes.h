/* mistakes: how tensor parallelism was got wrong elsewhere, planted on demand (--mistake NAME) to see what finds it.
 *
 * Some are refused before a step is made: an op takes its inputs placed in one way alone. The same ones `unchecked` have
 * placements set by hand, as in a program that keeps none: training goes on, with a loss that falls. Others no placement can
 * see. */
#ifndef MISTAKES_H
#define MISTAKES_H

#include "chapters/08_tensor_parallel/tensor_parallel.h"

typedef enum {
    MISTAKE_NONE,
    MISTAKE_COPY,
    MISTAKE_COPY_UNCHECKED,
    MISTAKE_REDUCE,
    MISTAKE_REDUCE_UNCHECKED,
    MISTAKE_BIAS,
    MISTAKE_UNSUMMED,
    MISTAKE_FUSED,
    MISTAKE_PADDING,
    MISTAKE_LOCAL_COUNT, /* these three are of the step, not of the model (mistakes_run.h) */
    MISTAKE_LOCAL_NORM,
    MISTAKE_DROPOUT,
    MISTAKES
} Mistake;
#define MISTAKE_NAMES                                                                                        \
    "none|copy|copy-unchecked|reduce|reduce-unchecked|bias|unsummed|fused|padding|local-count|local-norm|"   \
    "dropout" /* for a flag */

typedef enum {
    FOUND_REFUSED,  /* by an op, which ends the program */
    FOUND_REPLICAS, /* what several devices hold differs after an update */
    FOUND_ONE       /* a comparison with one device alone */
} MistakeFound;
typedef struct {
    const char *what;
    MistakeFound found;
} MistakeText;
extern const MistakeText mistake_texts[MISTAKES];

/* Before tensor_parallel_model. */
void tensor_parallel_plant(TensorParallel *tp, Mistake mistake);

#endif
