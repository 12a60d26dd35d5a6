/* snapshot: a training run as a checkpoint: the weights, the optimizer's moments, the step, the position in the data,
 * the configuration and the tokenizer. Resuming from it (resume.h) gives the bits of never having stopped. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "common/run/checkpoint.h"
#include "common/config/config.h"
#include "common/model/model.h"
#include "common/model/optim.h"
#include "common/data/tokenizer.h"

/* next_window: how many training windows were consumed, which is the first one of the next step. */
void snapshot_save(const Config *config, const Model *model, const Optimizer *optimizer,
                   const Tokenizer *tokenizer, int64_t next_window);
/* The configuration of a checkpoint's model. */
ModelConfig snapshot_model_config(const Checkpoint *checkpoint);
/* Ends the program when the run was saved with another tokenizer; `state` is what its state.json holds. */
void snapshot_check_tokenizer(const Checkpoint *checkpoint, const json_t *state, const Tokenizer *tokenizer);
/* Fills the weights and, unless NULL, the optimizer. A tokenizer other than the one saved is refused. */
void snapshot_load(const Checkpoint *checkpoint, Model *model, Optimizer *optimizer,
                   const Tokenizer *tokenizer);

#endif
