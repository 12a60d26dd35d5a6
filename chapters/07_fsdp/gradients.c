/* gradients: where they are formed, and when they are summed over the devices. */
#include "chapters/07_fsdp/unit.h"

#include "common/tensor/kernels.h"

/* ---- memory ---- */

/* Of a new flat array (n shard) for this use of the unit's parameters: what lies between them and behind goes along when it is
 * summed, and nobody else writes it. */
static void clear_padding(const Fsdp *f, const Unit *u, int use, const Tensor *flat) {
    int64_t from = 0; /* behind the last one */
    for (int i = 0; i <= u->params; i++) {
        const Param *p = i < u->params ? f->params->items[u->first_param + i] : NULL;
        if (p && use >= p->uses) continue;
        int64_t to = p ? u->first[i] : unit_count(f, u);
        Tensor padding = tensor_view(flat, from, SHAPE(to - from));
        if (to > from) device_clear(f->params->device, padding.data, tensor_bytes(&padding));
        if (p) from = u->first[i] + tensor_count(&p->data);
    }
}

/* All gradients, each at its place in the unit's flat array (stages 0 and 1), or only the sums of this shard (2 and 3). */
void gradients_place(Fsdp *f) {
    bool whole = keeps_gradients(f);
    for (int k = 0; k < f->unit_count; k++) {
        Unit *u = &f->units[k];
        for (int use = 0; use < PARAM_MAX_USES; use++) {
            UnitGrad *g = &u->grad[use];
            if (!g->params) continue;
            g->missing = g->params;
            g->kept = tensor_new(f->params->device, MEMORY_GRADIENTS, u->name, TYPE_REAL,
                                 SHAPE(whole ? unit_count(f, u) : u->shard));
            if (whole) clear_padding(f, u, use, &g->kept);
            for (int i = 0; i < u->params && whole; i++) {
                Param *p = f->params->items[u->first_param + i];
                if (use < p->uses) param_place_grad(p, use, &g->kept, u->first[i]);
            }
        }
    }
}

void gradients_unplace(Fsdp *f) {
    for (int k = 0; k < f->unit_count; k++) {
        Unit *u = &f->units[k];
        for (int use = 0; use < PARAM_MAX_USES; use++) {
            for (int i = 0; i < u->params; i++)
                param_place_grad(f->params->items[u->first_param + i], use, NULL, 0);
            if (u->grad[use].kept.data) tensor_free(&u->grad[use].kept);
        }
    }
}

/* ---- whole gradients (stages 0 and 1): once a step, of the sum over this device's micro-batches ---- */

static void reduce_start(Fsdp *f, Unit *u, UnitGrad *g) {
    Comm *comm = f->options.shards;
    int64_t shard = u->shard;
    Tensor own = tensor_view(&g->kept, comm->rank * shard, SHAPE(shard));
    if (f->options.stage == 0)
        g->request = comm_start_all_reduce(comm, fsdp_queue(f), g->kept.data, g->kept.data, unit_count(f, u),
                                           TYPE_REAL, REDUCE_SUM);
    else
        g->request = comm_start_reduce_scatter(comm, fsdp_queue(f), g->kept.data, own.data, shard, TYPE_REAL,
                                               REDUCE_SUM);
    comm_about(g->request, u->name);
}

static void reduce_wait(Fsdp *f, UnitGrad *g) {
    if (!g->request) return;
    comm_wait(f->options.shards, fsdp_queue(f), g->request);
    g->request = NULL;
}

/* A gradient of this device is complete. */
void gradients_ready(void *context, Param *p, int use) {
    Fsdp *f = context;
    Unit *u = &f->units[f->unit_of[fsdp_index(f, p)]];
    UnitGrad *g = &u->grad[use];
    ASSERT(g->missing > 0);
    if (--g->missing > 0) return;
    g->missing = g->params;
    reduce_start(f, u, g);
    if (!f->options.overlap) reduce_wait(f, g);
}

/* ---- shards of gradients (stages 2 and 3): in each micro-batch, and nobody keeps the whole. A unit has one buffer, so its
 * micro-batches come one behind the other, in their order ---- */

/* The reduction under way ends, and what it has summed is added to the sums of the micro-batches before. */
static void scatter_wait(Fsdp *f) {
    UnitGrad *g = f->reducing;
    if (!g) return;
    f->reducing = NULL;
    reduce_wait(f, g);
    tensor_free(&g->buffer);
    if (!g->part.data) return;
    fsdp_kernels(f)->accumulate(fsdp_queue(f), &g->part, &g->kept);
    tensor_free(&g->part);
}

static void scatter_start(Fsdp *f, Unit *u, UnitGrad *g, Microbatch microbatch) {
    Device *device = f->params->device;
    scatter_wait(f);
    if (microbatch.index > 0)
        g->part = tensor_new(device, MEMORY_COMMUNICATION, u->name, TYPE_REAL, SHAPE(u->shard));
    Tensor *sum = g->part.data ? &g->part : &g->kept;
    g->request = comm_start_reduce_scatter(f->options.shards, fsdp_queue(f), g->buffer.data, sum->data,
                                           u->shard, TYPE_REAL, REDUCE_SUM);
    comm_about(g->request, u->name);
    f->reducing = g;
    if (!f->options.overlap) scatter_wait(f);
}

Tensor gradients_begin(void *context, Param *p, int use, Microbatch microbatch) {
    Fsdp *f = context;
    int index = fsdp_index(f, p);
    Unit *u = &f->units[f->unit_of[index]];
    UnitGrad *g = &u->grad[use];
    CHECK(
        microbatch.index == g->turn, "with --reduce-once they may come in any order",
        "the gradient of '%s' for micro-batch %lld begins before that for micro-batch %lld has been reduced",
        p->name, (long long)microbatch.index, (long long)g->turn);
    if (f->reducing == g) scatter_wait(f); /* of the micro-batch before: its buffer is still being read */
    if (!g->buffer.data) {
        g->buffer =
            tensor_new(f->params->device, MEMORY_COMMUNICATION, u->name, TYPE_REAL, SHAPE(unit_count(f, u)));
        clear_padding(f, u, use, &g->buffer);
    }
    return tensor_view(&g->buffer, u->first[index - u->first_param], p->data.shape);
}

void gradients_end(void *context, Param *p, int use, Microbatch microbatch, Tensor grad) {
    Fsdp *f = context;
    (void)grad;
    Unit *u = &f->units[f->unit_of[fsdp_index(f, p)]];
    UnitGrad *g = &u->grad[use];
    ASSERT(g->missing > 0);
    if (--g->missing > 0) return;
    g->missing = g->params;
    g->turn = (g->turn + 1) % microbatch.count;
    scatter_start(f, u, g, microbatch);
}

/* ---- the end of the step ---- */

/* Hybrid sharding: the same shard of another group has summed other slices of the batch. */
static void reduce_copies(Fsdp *f, Unit *u, UnitGrad *g) {
    bool all = f->options.stage == 0;
    int64_t from = keeps_gradients(f) && !all ? f->options.shards->rank * u->shard : 0;
    int64_t count = all ? unit_count(f, u) : u->shard;
    Tensor sum = tensor_view(&g->kept, from, SHAPE(count));
    comm_all_reduce(f->options.copies, fsdp_queue(f), sum.data, sum.data, count, TYPE_REAL, REDUCE_SUM);
}

void gradients_finish(Fsdp *f) {
    scatter_wait(f);
    for (int k = f->unit_count; k-- > 0;) { /* in the order in which backward has started them, nearly */
        for (int use = 0; use < PARAM_MAX_USES; use++) {
            UnitGrad *g = &f->units[k].grad[use];
            if (!g->params) continue;
            ASSERT(g->missing == g->params);
            reduce_wait(f, g);
            if (f->options.copies) reduce_copies(f, &f->units[k], g);
        }
    }
}
