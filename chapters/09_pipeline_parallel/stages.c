#include "chapters/09_pipeline_parallel/stages.h"

#include <math.h>
#include <stdlib.h>

double stages_head_cost(const ModelConfig *c) {
    double C = (double)c->C, kv = 2 * (double)c->K / (double)c->H * C;
    double up = c->activation == ACTIVATION_SWIGLU ? 2 : 1;
    double weights = C * (C + kv) + C * C + (up + 1) * C * (double)c->F;
    double attention = C * (double)c->T; /* causal: T/2 keys on the mean, in two products */
    return C * (double)c->V / (weights + attention);
}

/* What lies on it weighs `cost`, `blocks` of them blocks, of which it may have `most`. */
typedef struct {
    double cost;
    int64_t blocks, most;
} Bin;

/* Deals blocks out, one each to all that weigh least, again and again; the last ones, fewer than those, are spread over
 * them evenly. */
static void deal(Bin *bins, int count, int64_t blocks) {
    int *least = xmalloc((size_t)count * sizeof *least);
    while (blocks > 0) {
        int found = 0;
        for (int i = 0; i < count; i++) {
            if (bins[i].blocks == bins[i].most) continue;
            if (found && bins[i].cost < bins[least[0]].cost) found = 0;
            if (!found || bins[i].cost == bins[least[0]].cost) least[found++] = i;
        }
        ASSERT(found > 0);
        int64_t turn = min64(blocks, found);
        for (int64_t k = 0; k < turn; k++) {
            Bin *bin = &bins[least[(2 * k + 1) * found / (2 * turn)]];
            bin->blocks++;
            bin->cost++;
        }
        blocks -= turn;
    }
    free(least);
}

/* How many blocks each chunk may have, so that the slowest is as quick as can be: with n in the last one, another one has
 * to take ceil((L - n) / others). */
static void limit_chunks(double head, int64_t L, int chunks, Bin *of_chunk) {
    double best = INFINITY;
    for (int64_t n = chunks > 1 ? 0 : L; n <= L; n++) {
        int64_t another = chunks > 1 ? ceil_div(L - n, chunks - 1) : 0;
        best = fmin(best, fmax((double)another, (double)n + head));
    }
    for (int chunk = 0; chunk < chunks; chunk++) {
        double weighs = chunk == chunks - 1 ? head : 0;
        of_chunk[chunk] = (Bin){weighs, 0, (int64_t)floor(best - weighs + 1e-9)}; /* best may be n + head */
    }
}

void stages_cut(const ModelConfig *c, const Schedule *s, ModelPart *parts) {
    Bin *of_chunk = xmalloc((size_t)s->chunks * sizeof *of_chunk);
    Bin *of_stage = xcalloc((size_t)s->stages, sizeof *of_stage);
    Bin *own = xmalloc((size_t)s->chunks * sizeof *own);
    limit_chunks(stages_head_cost(c), c->L, s->chunks, of_chunk);
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        of_stage[s->stage_of[chunk]].cost += of_chunk[chunk].cost;
        of_stage[s->stage_of[chunk]].most += of_chunk[chunk].most;
    }
    deal(of_stage, s->stages, c->L);
    for (int stage = 0; stage < s->stages; stage++) {
        int count = 0;
        for (int chunk = 0; chunk < s->chunks; chunk++)
            if (s->stage_of[chunk] == stage) own[count++] = of_chunk[chunk];
        deal(own, count, of_stage[stage].blocks);
        count = 0;
        for (int chunk = 0; chunk < s->chunks; chunk++)
            if (s->stage_of[chunk] == stage) of_chunk[chunk] = own[count++];
    }
    int64_t from = 0;
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        int64_t to = from + of_chunk[chunk].blocks;
        parts[chunk] = (ModelPart){from, to, chunk == 0, chunk == s->chunks - 1};
        from = to;
    }
    free(of_chunk);
    free(of_stage);
    free(own);
}

int stages_parts_of(const Schedule *s, const ModelPart *parts, int stage, ModelPart *own) {
    int count = 0;
    for (int chunk = 0; chunk < s->chunks; chunk++)
        if (s->stage_of[chunk] == stage) own[count++] = parts[chunk];
    return count;
}
