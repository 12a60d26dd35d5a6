/* snapshot: a training run as a checkpoint: the weights, the optimizer's moments, the step, the position in the data,
 * the configuration and the tokenizer. Resuming from it (resume.h) gives the bits of never having stopped.
 *
 * One device writes two files of whole tensors; several write a file each of what they hold (saver.h). Any program on any
 * mesh loads both: every rank takes what is its own straight out of the files (stored.h). Ranks on several machines need an
 * output folder that all of them see. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "common/comm/comm.h"
#include "common/run/checkpoint.h"
#include "common/config/config.h"
#include "common/model/model.h"
#include "common/model/optim.h"
#include "common/data/tokenizer.h"

/* next_window: how many training windows were consumed, which is the first one of the next step. */
void snapshot_save(const Config *config, const Model *model, const Optimizer *optimizer,
                   const Tokenizer *tokenizer, int64_t next_window);
/* What a checkpoint holds beside tensors: state.json, which says where the run was after `step` updates (a new reference),
 * and both files. */
json_t *snapshot_state(const Config *config, int64_t step, const Tokenizer *tokenizer, int64_t next_window);
void snapshot_put_state(CheckpointWriter *writer, const json_t *state, const Tokenizer *tokenizer);

/* The configuration of a checkpoint's model. */
ModelConfig snapshot_model_config(const Checkpoint *checkpoint);
/* Was the run saved with this tokenizer? `state` is what its state.json holds. */
bool snapshot_same_tokenizer(const json_t *state, const Tokenizer *tokenizer);
/* Ends the program when it was not. */
void snapshot_check_tokenizer(const Checkpoint *checkpoint, const json_t *state, const Tokenizer *tokenizer);
/* Fills the weights and, unless NULL, the optimizer. A tokenizer other than the one saved is refused. */
void snapshot_load(const Checkpoint *checkpoint, Model *model, Optimizer *optimizer,
                   const Tokenizer *tokenizer);

/* ---- of parameters that lie in parts on several devices ---- */

/* What one rank knows of them. */
typedef struct {
    Comm *comm;           /* the ranks that hold the parts */
    Optimizer *optimizer; /* of the parameters that this rank holds and updates; there may be none */
    bool copy;            /* another rank holds the same */
} Parts;

/* Fills the parts, their moments and the optimizer's step from a checkpoint that rank 0 has found (the others: NULL), whose
 * files the ranks verify together. Every rank calls it. */
void snapshot_load_parts(const Checkpoint *checkpoint, const Parts *parts);
/* The weights alone, of the parameters that this rank holds. */
void snapshot_load_weights(const Checkpoint *checkpoint, Comm *comm, const Params *params);
/* ... for who is alone (comm NULL), or every rank of comm, from what --load-parameters-path names: the folder of a checkpoint; one of a run, whose newest is taken; or a
 * safetensors file with our names. A tensor that is missing, too many or of another shape is refused by name. */
void snapshot_load_parameters(const char *path, Comm *comm, const Params *params, const Tokenizer *tokenizer);

#endif
