/* What is trained when it is measured: a preset, on random tokens. */
#ifndef BENCH_TRAINING_H
#define BENCH_TRAINING_H

#include "tests/training.h"

/* Low tokens are more likely than high ones, so that there is something to learn. */
enum { BENCH_SKEW = 4 };

/* Presets that take their vocabulary from the data have the stories' one. */
static inline void bench_fit_vocabulary(Config *config) {
    enum { STORIES_VOCABULARY = 1024 };
    if (config->model.V == 0) config->model.V = STORIES_VOCABULARY;
}

static inline Training bench_training(Config *config) {
    bench_fit_vocabulary(config);
    Training training = training_new(config, config->model.T, BENCH_SKEW, 0);
    training.device->queue.openblas = config->gemm == GEMM_OPENBLAS;
    return training;
}

#endif
