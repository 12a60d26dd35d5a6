/* stages: which part of the model each stage has. Blocks stay in one piece; the embedding goes with the first chunk, the
 * last norm and the head with the last one. Chunks may be empty of blocks.
 *
 * They are cut so that the slowest chunk is as quick as can be; if that leaves a choice, the slowest stage; if that does,
 * what is over is spread evenly. The cost of a block is 1, that of the head what its FLOPs are beside a block's; to look up
 * the embedding takes none. */
#ifndef STAGES_H
#define STAGES_H

#include "chapters/09_pipeline_parallel/schedule.h"
#include "common/model/model.h"

/* parts (chunks): in the order of the layers. How many tokens go through at once does not matter: all costs grow alike. */
void stages_cut(const ModelConfig *model, const Schedule *schedule, ModelPart *parts);
/* The FLOPs of the head beside those of a block. */
double stages_head_cost(const ModelConfig *model);
/* Of all chunks, what one stage has: parts (chunks) in, those of the stage out, in order; returns how many. */
int stages_parts_of(const Schedule *schedule, const ModelPart *parts, int stage, ModelPart *own);

#endif
