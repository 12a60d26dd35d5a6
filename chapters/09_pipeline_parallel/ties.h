/* ties: a tied embedding whose look-up is on one stage and whose head is on another. Each has the table, and forms the
 * gradient of its own use; both must make the same update with the sum of the two. */
#ifndef TIES_H
#define TIES_H

#include "chapters/09_pipeline_parallel/schedule.h"
#include "common/comm/mesh.h"
#include "common/model/model.h"

/* The group of the two stages; NULL: this device is none of them, or no table is on two stages. parts (chunks). Every device
 * along `pipe` calls it. */
Comm *ties_open(const Mesh *mesh, const Schedule *schedule, const ModelPart *parts, const ModelConfig *model);

/* Behind the sums over micro-batches and along `data`, whose order of terms is that of one device: the gradients of the
 * table, or of its pieces, among the parameters that this device updates. Two terms: their sum has one value, whoever adds. */
void ties_add(Comm *ties, const Model *model, const Params *updated);
/* The name of the table, if the two stages hold other bits; NULL: they are the same. */
const char *ties_drift(Comm *ties, const Model *model, const Params *updated);

#endif
