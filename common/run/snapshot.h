/* snapshot: a training run as a checkpoint: the weights, the optimizer's moments, the step (which is also
 * the position in the data), the configuration and the tokenizer. Resuming from it gives the bits of
 * never having stopped. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "common/run/checkpoint.h"
#include "common/config/config.h"
#include "common/model/model.h"
#include "common/model/optim.h"
#include "common/data/tokenizer.h"

void snapshot_save(const Config *config, const Model *model, const Optimizer *optimizer,
                   const Tokenizer *tokenizer);
/* The configuration of a checkpoint's model. */
ModelConfig snapshot_model_config(const Checkpoint *checkpoint);
/* Fills the weights and, unless NULL, the optimizer. A tokenizer other than the one saved is refused. */
void snapshot_load(const Checkpoint *checkpoint, Model *model, Optimizer *optimizer,
                   const Tokenizer *tokenizer);

/* Warns, naming the flags, when a resumed run is not to go on as the saved one would have. */
void snapshot_warn_differences(const Checkpoint *checkpoint, const Config *config);

#endif
