/* chunks: a model that is cut into chunks, of which each stage has some, and what needs no schedule: forward alone, for
 * evaluation and for text. */
#ifndef CHUNKS_H
#define CHUNKS_H

#include "chapters/09_pipeline_parallel/schedule.h"
#include "common/comm/mesh.h"
#include "common/model/batch.h"
#include "common/model/generate.h"

typedef struct {
    const Mesh *mesh;
    Model *model;             /* with the parameters of this stage's chunks */
    const Schedule *schedule; /* for how many chunks there are, and on which stage each lies */
    const ModelPart *parts;   /* (chunks) */
} Chunks;

/* Whether there is such a chunk, and it is on this stage. */
bool chunks_here(const Chunks *c, int chunk);
/* One chunk, which is on this stage: its blocks on x, and before them the embedding of the ids, where it has that. */
Tensor *chunks_run(const Chunks *c, Tape *tape, int chunk, Tensor *ids, Tensor *x, const Pass *pass);

/* Every device along `pipe` calls these, with the same arguments. */

/* As evaluate, with a share of the windows for each coordinate along `data`; all devices get the result. */
double chunks_evaluate(Chunks *c, const Dataset *data, int64_t windows, int64_t rows);
/* As generate: all devices write the text together, one token after the other, and each knows it. */
Generated chunks_generate(Chunks *c, const Tokenizer *tokenizer, const char *prompt, const Sampling *sampling,
                          Str *text);

#endif
