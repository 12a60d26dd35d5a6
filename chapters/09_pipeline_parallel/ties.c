#include "chapters/09_pipeline_parallel/ties.h"

#include <string.h>

Comm *ties_open(const Mesh *mesh, const Schedule *schedule, const ModelPart *parts,
                const ModelConfig *model) {
    int look_up = 0, head = 0;
    for (int chunk = 0; chunk < schedule->chunks; chunk++) {
        if (parts[chunk].embedding) look_up = schedule->stage_of[chunk];
        if (parts[chunk].head) head = schedule->stage_of[chunk];
    }
    if (!model->tied || look_up == head) return NULL;
    int stage = mesh->coordinate[MESH_PIPE];
    return comm_split_listed(mesh->axis[MESH_PIPE], (int[]){look_up, head},
                             stage == look_up || stage == head ? 2 : 0, "ties");
}

/* Whether p is the table, or a piece of it. */
static bool is_tied(const Model *model, const Param *p) {
    return strcmp(p->name, (model->token ? model->token : model->head)->name) == 0;
}

void ties_add(Comm *ties, const Model *model, const Params *updated) {
    if (!ties) return;
    for (int i = 0; i < updated->count; i++) {
        Param *p = updated->items[i];
        if (!is_tied(model, p)) continue;
        comm_all_reduce(ties, &model->device->queue, p->grad[0].data, p->grad[0].data,
                        tensor_count(&p->grad[0]), TYPE_REAL, REDUCE_SUM);
    }
}

const char *ties_drift(Comm *ties, const Model *model, const Params *updated) {
    if (!ties) return NULL;
    const char *name = NULL;
    uint64_t hash = 0, both[2];
    for (int i = 0; i < updated->count; i++) {
        const Param *p = updated->items[i];
        if (!is_tied(model, p)) continue;
        hash = tensor_hash(&p->data, hash);
        name = p->name;
    }
    comm_all_gather(ties, NULL, &hash, both, sizeof hash / sizeof(int32_t), TYPE_I32);
    return both[0] == both[1] ? NULL : name;
}
