/* snapshot: a training run as a checkpoint: the weights, the optimizer's moments, the step, the position in the data,
 * the configuration and the tokenizer. Resuming from it (resume.h) gives the bits of never having stopped. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "common/run/checkpoint.h"
#include "common/config/config.h"
#include "common/model/model.h"
#include "common/model/optim.h"
#include "common/model/whole.h"
#include "common/data/tokenizer.h"

typedef struct {
    NamedArray *items;
    int64_t count;
} Arrays;

/* next_window: how many training windows were consumed, which is the first one of the next step. */
void snapshot_save(const Config *config, const Model *model, const Optimizer *optimizer,
                   const Tokenizer *tokenizer, int64_t next_window);
/* The same from arrays of weights and of moments, after `step` updates. */
void snapshot_write(const Config *config, int64_t step, Arrays weights, Arrays moments,
                    const Tokenizer *tokenizer, int64_t next_window);
/* The configuration of a checkpoint's model. */
ModelConfig snapshot_model_config(const Checkpoint *checkpoint);
/* Ends the program when the run was saved with another tokenizer; `state` is what its state.json holds. */
void snapshot_check_tokenizer(const Checkpoint *checkpoint, const json_t *state, const Tokenizer *tokenizer);
/* Fills the weights and, unless NULL, the optimizer. A tokenizer other than the one saved is refused. */
void snapshot_load(const Checkpoint *checkpoint, Model *model, Optimizer *optimizer,
                   const Tokenizer *tokenizer);

/* ---- of parameters that lie in parts on several devices (whole.h) ---- */

/* What one rank knows of them. */
typedef struct {
    Comm *comm; /* the ranks that hold the parts */
    const Params
        *named; /* the model's parameters: the names and shapes of the wholes, the same on every rank */
    Optimizer *optimizer; /* of the parameters that this rank holds and updates */
    bool copy;            /* another rank holds the same */
} Parts;

/* The same files as snapshot_save, written by rank 0, on whose host there must be room for the whole of weights and
 * moments. Every rank of parts->comm calls it, and returns when the set is complete. */
void snapshot_save_parts(const Config *config, const Parts *parts, const Tokenizer *tokenizer,
                         int64_t next_window);
/* Fills the parts, their moments and the optimizer's step from a checkpoint that rank 0 has opened (the others: NULL), one
 * parameter after the other. Every rank calls it. */
void snapshot_load_parts(const Checkpoint *checkpoint, const Parts *parts);

#endif
