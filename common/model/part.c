/* part: of a model, what one device of a pipeline has. */
#include "common/model/model.h"

#include <stdlib.h>

static bool has_block(const ModelPart *parts, int count, int64_t l) {
    for (int i = 0; i < count; i++)
        if (l >= parts[i].from && l < parts[i].to) return true;
    return false;
}

/* Parameters lie in the order of the layers: the embedding's, those of each block, the head's. */
static void mark(bool *keep, int from, int to, bool here) {
    for (int i = from; i < to; i++) keep[i] = here;
}

static void drop_block(Block *block) {
    free(block->qkv.more);
    *block = (Block){0};
}

/* A tied table of which this part has one use. Which one: the gradients of both are added between devices. */
static void halve_tied(Model *m, bool embedding) {
    Param *table = m->token;
    table->uses = 1;
    m->head_use = 0;
    if (embedding)
        table->in_matmul = false;
    else
        table->replica++;
}

void model_keep(Model *m, const ModelPart *parts, int count) {
    int64_t L = m->config.L;
    bool embedding = false, head = false, tied = m->config.tied, blocks = false;
    for (int i = 0; i < count; i++) {
        embedding |= parts[i].embedding;
        head |= parts[i].head;
    }
    bool *keep = xcalloc((size_t)m->params.count, sizeof *keep);
    mark(keep, 0, m->first_param[0], embedding);
    for (int64_t l = 0; l < L; l++) {
        bool here = has_block(parts, count, l);
        blocks |= here;
        mark(keep, m->first_param[l], m->first_param[l + 1], here);
        if (!here) drop_block(&m->blocks[l]);
    }
    mark(keep, m->first_param[L], m->params.count, head);
    for (int i = 0; i < m->params.count && tied && head; i++) keep[i] |= m->params.items[i] == m->token;
    if (tied && embedding != head) halve_tied(m, embedding);
    params_keep(&m->params, keep);
    free(keep);

    if (!embedding) m->token = m->position = NULL;
    if (!head) {
        m->head = m->head_bias = NULL;
        m->norm_final = (Norm){0};
    }
    if (!blocks && m->rope_table.data) tensor_free(&m->rope_table);
}
