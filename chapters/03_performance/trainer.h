/* trainer: chapter 02's training step, to be timed: with its phases named for a profile, and with any batch. */
#ifndef TRAINER_H
#define TRAINER_H

#include "common/model/batch.h"
#include "common/model/optim.h"
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
    Tensor seed;
    Profile *profile; /* NULL: nobody looks */
    int64_t steps;    /* done */
    double loss;      /* of the last one */
} Trainer;

Trainer trainer_new(Subject *subject, int64_t micro_batch, int64_t microbatches);
void trainer_free(Trainer *trainer);

/* Data, forward, backward, clip, update: the seconds it took. */
double trainer_step(Trainer *trainer);
/* The median of the seconds of a step: at least one step, and more until `seconds` have passed. */
double trainer_time(Trainer *trainer, double seconds);

static inline int64_t trainer_tokens(const Trainer *t) {
    return t->micro_batch * t->microbatches * t->subject->config.model.T;
}

#endif
