/* resume: a training run goes on from the newest checkpoint in its output folder. Settings are compared before anything
 * is loaded: those with which nothing can be loaded (tokenizer, model, optimizer) are refused, and the others that shape
 * a run's numbers are named in a warning. */
#ifndef RESUME_H
#define RESUME_H

#include "common/config/config.h"
#include "common/data/tokenizer.h"
#include "common/model/model.h"
#include "common/model/optim.h"
#include "common/run/checkpoint.h"

/* The newest checkpoint, when it can be gone on from with these settings, and in *next_window the number of training
 * windows that it has consumed. The caller loads it and closes it. */
Checkpoint *resume_open(const Config *config, const Tokenizer *tokenizer, int64_t *next_window);

/* Fills the weights, the moments and the step. Returns the number of training windows that the run has consumed, which
 * is the first one of its next step, whatever the batch size was before and is now. */
int64_t resume_newest(const Config *config, Model *model, Optimizer *optimizer, const Tokenizer *tokenizer);

#endif
