/* weights: where they lie; in stage 3, when they are gathered, and when freed. */
#include "chapters/07_fsdp/unit.h"

#include "common/comm/clock.h"
#include "common/tensor/kernels.h"

#include <stdlib.h>

/* ---- memory ---- */

static Param *param_of(const Fsdp *f, const Unit *u, int i) { return f->params->items[u->first_param + i]; }

/* Each parameter of the unit at its place in `whole`; NULL: nowhere. */
static void point_params(const Fsdp *f, const Unit *u, const Tensor *whole) {
    for (int i = 0; i < u->params; i++) {
        Param *p = param_of(f, u, i);
        if (!gathers_narrow(f))
            param_place_data(p, whole, u->first[i]);
        else if (param_is_matrix(p))
            param_place_narrow(p, whole, u->first[i]);
    }
}

/* The elements a .. b - 1 of parameter i of the unit lie in `flat`, which holds the unit's from `base` on. */
static bool part_in(const Unit *u, int i, const Param *p, const Tensor *flat, int64_t base, int64_t *a,
                    int64_t *b) {
    *a = max64(base - u->first[i], 0);
    *b = min64(base + tensor_count(flat) - u->first[i], tensor_count(&p->data));
    return *a < *b;
}

/* Parameters that have been given values keep them: `flat` holds the unit's elements from `base` on. */
static void take_values(Fsdp *f, Unit *u, Tensor *flat, int64_t base) {
    for (int i = 0; i < u->params; i++) {
        const Param *p = param_of(f, u, i);
        int64_t a, b;
        if (!part_in(u, i, p, flat, base, &a, &b)) continue;
        Tensor have = tensor_view(&p->data, a, SHAPE(b - a)),
               place = tensor_view(flat, u->first[i] + a - base, SHAPE(b - a));
        fsdp_kernels(f)->copy(fsdp_queue(f), &have, &place);
    }
}

/* ---- vectors, in bf16: every device has all of them, its own pieces and those of the others ---- */

static void vectors_place(Fsdp *f) {
    int64_t count = 0, at = 0;
    for (int i = 0; i < f->params->count; i++)
        if (!param_is_matrix(f->params->items[i])) count += tensor_count(&f->params->items[i]->data);
    f->vectors = tensor_new(f->params->device, MEMORY_PARAMETERS, "vectors", TYPE_REAL, SHAPE(count));
    for (int i = 0; i < f->params->count; i++) {
        Param *p = f->params->items[i];
        bool vector = !param_is_matrix(p);
        param_place_data(p, vector ? &f->vectors : NULL, at);
        if (vector) at += tensor_count(&p->data);
    }
}

/* Each piece is one device's, the others add zeros to it, which is exact. */
void weights_renew_vectors(Fsdp *f) {
    fsdp_kernels(f)->zero(fsdp_queue(f), &f->vectors);
    for (int k = 0; k < f->unit_count; k++) {
        const Unit *u = &f->units[k];
        int64_t from = f->options.shards->rank * u->shard, a, b;
        for (int i = 0; i < u->params; i++) {
            const Param *p = param_of(f, u, i);
            if (param_is_matrix(p) || !part_in(u, i, p, &u->own, from, &a, &b)) continue;
            Tensor own = tensor_view(&u->own, u->first[i] + a - from, SHAPE(b - a)),
                   place = tensor_view(&p->data, a, SHAPE(b - a));
            fsdp_kernels(f)->copy(fsdp_queue(f), &own, &place);
        }
    }
    comm_all_reduce(f->options.shards, fsdp_queue(f), f->vectors.data, f->vectors.data,
                    tensor_count(&f->vectors), TYPE_REAL, REDUCE_SUM);
}

/* ---- all of it ---- */

/* In stages 0 to 2 the whole array, of which this device's shard is a part; in stage 3 the shard alone. */
void weights_place(Fsdp *f) {
    Device *device = f->params->device;
    bool sharded = f->options.stage == 3;
    for (int k = 0; k < f->unit_count; k++) {
        Unit *u = &f->units[k];
        int64_t from = f->options.shards->rank * u->shard;
        Tensor flat = tensor_new(device, MEMORY_PARAMETERS, u->name, TYPE_REAL,
                                 SHAPE(sharded ? u->shard : unit_count(f, u)));
        fsdp_kernels(f)->zero(fsdp_queue(f), &flat);
        if (!f->params->planned) take_values(f, u, &flat, sharded ? from : 0);
        u->own = sharded ? flat : tensor_view(&flat, from, SHAPE(u->shard));
        if (!sharded) u->whole = flat;
        point_params(f, u, sharded ? NULL : &u->whole);
        for (int i = 0; i < u->params && f->params->planned && !sharded; i++)
            param_start(param_of(f, u, i), param_of(f, u, i)->start);
    }
    if (gathers_narrow(f)) vectors_place(f);
}

void weights_unplace(Fsdp *f) {
    weights_free(f, true);
    for (int k = 0; k < f->unit_count; k++) {
        point_params(f, &f->units[k], NULL);
        tensor_free(f->options.stage == 3 ? &f->units[k].own : &f->units[k].whole);
    }
    if (!gathers_narrow(f)) return;
    for (int i = 0; i < f->params->count; i++) param_place_data(f->params->items[i], NULL, 0);
    tensor_free(&f->vectors);
}

/* ---- stages 1 and 2: every device has updated its shard, and all need all ---- */

void weights_gather_all(Fsdp *f) {
    Comm *comm = f->options.shards;
    for (int k = 0; k < f->unit_count; k++) {
        Unit *u = &f->units[k];
        u->gathering =
            comm_start_all_gather(comm, fsdp_queue(f), u->own.data, u->whole.data, u->shard, TYPE_REAL);
        comm_about(u->gathering, u->name);
    }
    for (int k = 0; k < f->unit_count; k++) {
        comm_wait(comm, fsdp_queue(f), f->units[k].gathering);
        f->units[k].gathering = NULL;
    }
}

/* ---- stage 3: gathered for use, then freed ---- */

static void gather_start(Fsdp *f, Unit *u) {
    Comm *comm = f->options.shards;
    ElementType type = gathers_narrow(f) ? TYPE_BF16 : TYPE_REAL;
    u->whole = tensor_new(f->params->device, MEMORY_COMMUNICATION, u->name, type, SHAPE(unit_count(f, u)));
    Tensor own = u->own;
    if (type == TYPE_BF16) { /* cast into its place among the others */
        own = tensor_view(&u->whole, comm->rank * u->shard, SHAPE(u->shard));
        fsdp_kernels(f)->cast(fsdp_queue(f), &u->own, &own);
    }
    u->gathering = comm_start_all_gather(comm, fsdp_queue(f), own.data, u->whole.data, u->shard, type);
    comm_about(u->gathering, u->name);
    if (f->gather_count == f->gather_capacity) {
        f->gather_capacity = 2 * f->gather_capacity + 16;
        f->gathers = xrealloc(f->gathers, (size_t)f->gather_capacity * sizeof *f->gathers);
    }
    f->gathers[f->gather_count++] =
        (FsdpGather){.unit = (int)(u - f->units), .started = queue_now(fsdp_queue(f))};
}

static void gather_wait(Fsdp *f, Unit *u) {
    if (!u->gathering) return;
    int i = f->gather_count - 1;
    while (i >= 0 && &f->units[f->gathers[i].unit] != u) i--;
    ASSERT(i >= 0); /* no pass ends with a gather that the next does not know */
    f->gathers[i].wanted = queue_now(fsdp_queue(f));
    comm_wait(f->options.shards, fsdp_queue(f), u->gathering);
    f->gathers[i].ready = queue_now(fsdp_queue(f));
    u->gathering = NULL;
    point_params(f, u, &u->whole);
}

static void free_whole(Fsdp *f, Unit *u) {
    gather_wait(f, u);
    point_params(f, u, NULL);
    tensor_free(&u->whole);
}

/* The unit is computing, or will be one of the next `prefetch`. */
static bool is_near(const Fsdp *f, int unit) {
    for (int i = f->at; i >= 0 && i < f->order_count && i <= f->at + f->options.prefetch; i++)
        if (f->order[i] == unit) return true;
    return false;
}

void weights_free(Fsdp *f, bool all) {
    if (f->options.stage < 3) return;
    for (int k = 0; k < f->unit_count; k++) {
        Unit *u = &f->units[k];
        if (!u->whole.data || u->held) continue;
        if (all || !(u->kept || is_near(f, k))) free_whole(f, u);
    }
}

/* The pass goes on to this unit. The first pass learns the order, the others follow it; where one leaves it, the rest is
 * learned again. */
static void advance(Fsdp *f, int unit) {
    if (f->at >= 0 && f->order[f->at] == unit) return;
    f->at++;
    if (f->at < f->order_count && f->order[f->at] == unit) return;
    f->order = xrealloc(f->order, (size_t)(f->at + 1) * sizeof *f->order);
    f->order[f->at] = unit;
    f->order_count = f->at + 1;
}

void weights_acquire(void *context, Param *p) {
    Fsdp *f = context;
    int unit = f->unit_of[fsdp_index(f, p)];
    Unit *u = &f->units[unit];
    if (u->held++ > 0) return;
    advance(f, unit);
    weights_free(f, false); /* what the units before needed */
    for (int i = f->at; i < f->order_count && i <= f->at + f->options.prefetch; i++)
        if (!f->units[f->order[i]].whole.data) gather_start(f, &f->units[f->order[i]]);
    gather_wait(f, u);
}

void weights_release(void *context, Param *p) {
    Fsdp *f = context;
    f->units[f->unit_of[fsdp_index(f, p)]].held--;
}
