/* pp_texts: a model of which each device has some blocks goes on with a text. */
#ifndef PP_TEXTS_H
#define PP_TEXTS_H

#include "chapters/09_pipeline_parallel/plan.h"
#include "common/comm/mesh.h"
#include "common/model/model.h"

/* Rank 0 reads the newest checkpoint in config->output_dir, each device takes its parts, and they go on with config->prompt.
 * The model is the checkpoint's, whatever the flags. Every rank of the mesh calls it. */
void pp_texts_continue(const Config *config, const Mesh *mesh, const Schedule *schedule, Device *device);
/* ... where the layers are of another kind. make: the whole of such a model, planned, of which each device keeps its part; what
 * cannot be cut is refused. */
typedef Model *MakeModel(void *context, const Config *config, Device *device);
void pp_texts_continue_of(const Config *config, const Mesh *mesh, const Schedule *schedule, Device *device,
                          MakeModel *make, void *context);

#endif
