/* timed: chapter 02's training step, to be timed: with its phases named for a profile, and with any batch. */
#ifndef TIMED_H
#define TIMED_H

#include "common/model/batch.h"
#include "common/model/step_numbers.h"
#include "common/run/profile.h"

/* What is trained, whatever the batch; config.model has its vocabulary. */
typedef struct {
    Config config;
    Dataset *data;
    Device *device;
    Model *model;
    Optimizer *optimizer;
} Subject;

Subject subject_new(const Config *config, Dataset *data);
void subject_free(Subject *subject);

typedef struct {
    Subject *subject;
    int64_t micro_batch, microbatches;
    Tape *tape;
    Batch batch;
    StepNumbers numbers;
    Profile *profile;  /* NULL: nobody looks */
    int64_t steps;     /* done */
    double loss, norm; /* of the last one */
} Timed;

Timed timed_new(Subject *subject, int64_t micro_batch, int64_t microbatches);
void timed_free(Timed *timed);

/* Data, forward, backward, clip, update: the seconds it took. */
double timed_step(Timed *timed);
/* The median of the seconds of a step: at least one step, and more until `seconds` have passed. */
double timed_median(Timed *timed, double seconds);

static inline int64_t timed_tokens(const Timed *t) {
    return t->micro_batch * t->microbatches * t->subject->config.model.T;
}

#endif
