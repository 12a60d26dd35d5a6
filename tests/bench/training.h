/* What is trained when it is measured: a preset, on random tokens. */
#ifndef BENCH_TRAINING_H
#define BENCH_TRAINING_H

#include "tests/training.h"

/* Low tokens are more likely than high ones, so that there is something to learn. Presets that take their vocabulary
 * from the data have the stories' one. */
static inline Training bench_training(Config *config) {
    enum { SKEW = 4, STORIES_VOCABULARY = 1024 };
    if (config->model.V == 0) config->model.V = STORIES_VOCABULARY;
    Training training = training_new(config, config->model.T, SKEW, 0);
    training.device->queue.openblas = config->gemm == GEMM_OPENBLAS;
    return training;
}

#endif
