#define _GNU_SOURCE
#include "chapters/07_fsdp/unit.h"

#include "common/tensor/kernels.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- units: parameters whose names begin alike ---- */

/* "blocks.3" of "blocks.3.qkv.weight", "head" of "head.bias": up to the first dot, or the one behind a number. */
static int unit_name_length(const char *name) {
    const char *dot = strchr(name, '.');
    if (!dot) return (int)strlen(name);
    const char *end = dot + 1;
    while (isdigit((unsigned char)*end)) end++;
    return (int)((end > dot + 1 && *end == '.' ? end : dot) - name);
}

static bool in_unit(const char *unit, const Param *p) {
    int length = unit_name_length(p->name);
    return (int)strlen(unit) == length && strncmp(unit, p->name, (size_t)length) == 0;
}

/* Each parameter begins at a block of the gradient's norm, and a shard is a whole number of them. */
static void add_to_unit(Fsdp *f, int index) {
    Param *p = f->params->items[index];
    Unit *u = f->unit_count ? &f->units[f->unit_count - 1] : NULL;
    if (!u || !in_unit(u->name, p)) {
        f->units = xrealloc(f->units, (size_t)(f->unit_count + 1) * sizeof *f->units);
        u = &f->units[f->unit_count++];
        *u = (Unit){.name = xprintf("%.*s", unit_name_length(p->name), p->name), .first_param = index};
    }
    f->unit_of[index] = f->unit_count - 1;
    u->first = xrealloc(u->first, (size_t)(u->params + 1) * sizeof *u->first);
    u->first[u->params++] = u->shard; /* until all are there: the elements of those before it */
    u->shard += param_square_blocks(p) * SQUARES_BLOCK;
    for (int use = 0; use < p->uses; use++) u->grad[use].params++;
}

static void cut_units(Fsdp *f) {
    int n = f->options.shards->size;
    f->unit_of = xcalloc((size_t)f->params->count, sizeof *f->unit_of);
    for (int i = 0; i < f->params->count; i++) add_to_unit(f, i);
    for (int u = 0; u < f->unit_count; u++)
        f->units[u].shard = ceil_div(f->units[u].shard / SQUARES_BLOCK, n) * SQUARES_BLOCK;
}

static bool has_unit(const Params *params, const char *name) {
    for (int i = 0; i < params->count; i++)
        if (in_unit(name, params->items[i])) return true;
    return false;
}

/* "token, position, blocks.0"; the caller frees it. */
static char *unit_names(const Params *params) {
    Str all = {0};
    int length = 0;
    for (int i = 0; i < params->count; i++) {
        const char *name = params->items[i]->name, *before = i ? params->items[i - 1]->name : "";
        bool same = unit_name_length(name) == length && strncmp(name, before, (size_t)length) == 0;
        length = unit_name_length(name);
        if (!same) str_printf(&all, "%s%.*s", i ? ", " : "", length, name);
    }
    return all.data;
}

/* The units that stay gathered, by the names in `keep`. */
static void mark_kept(Fsdp *f) {
    if (!f->options.keep) return;
    const Params *all = f->options.whole ? f->options.whole : f->params;
    char *names = xstrdup(f->options.keep), *rest = names, *name;
    while ((name = strtok_r(rest, ",", &rest))) {
        if (!has_unit(all, name))
            fail(2, xprintf("the units are %s", unit_names(all)), "there is no unit '%s' to keep gathered",
                 name);
        for (int u = 0; u < f->unit_count; u++) f->units[u].kept |= strcmp(f->units[u].name, name) == 0;
    }
    free(names);
}

/* ---- pieces: what this device updates ---- */

/* Of each parameter of the unit the part that lies in this device's shard; often none, and of most shards of a small unit
 * nothing at all. */
static void add_pieces(Fsdp *f, Unit *u) {
    int64_t from = f->options.shards->rank * u->shard, to = from + u->shard;
    for (int i = 0; i < u->params; i++) {
        const Param *p = f->params->items[u->first_param + i];
        int64_t a = max64(from - u->first[i], 0), b = min64(to - u->first[i], tensor_count(&p->data));
        if (a < b) {
            Param *piece = params_add_piece(&f->pieces, p, a, b - a);
            piece->first_block = p->first_block + a / SQUARES_BLOCK;
            param_place_data(piece, &u->own, u->first[i] + a - from);
            int64_t kept_from = keeps_gradients(f) ? 0 : from; /* where `kept` begins in the flat array */
            for (int use = 0; use < p->uses; use++)
                param_place_grad(piece, use, &u->grad[use].kept, u->first[i] + a - kept_from);
        }
    }
}

static void make_pieces(Fsdp *f) {
    params_number(f->params);
    f->pieces =
        (Params){.device = f->params->device, .planned = true, .square_blocks = f->params->square_blocks};
    for (int u = 0; u < f->unit_count; u++) add_pieces(f, &f->units[u]);
}

/* ---- all of it ---- */

FsdpOptions fsdp_options_of(const Config *c, Comm *shards, Comm *copies) {
    return (FsdpOptions){.stage = (int)c->zero_stage,
                         .reduce_once = c->reduce_once,
                         .prefetch = (int)c->prefetch,
                         .overlap = c->overlap == OVERLAP_BACKWARD,
                         .keep = c->keep_gathered,
                         .shards = shards,
                         .copies = copies};
}

Fsdp *fsdp_new(Params *params, const FsdpOptions *options) {
    Fsdp *f = xcalloc(1, sizeof *f);
    f->params = params;
    f->options = *options;
    if (options->copies && options->copies->size == 1) f->options.copies = NULL;
    cut_units(f);
    mark_kept(f);
    weights_place(f);
    gradients_place(f);
    if (options->stage > 0) make_pieces(f);
    if (keeps_gradients(f)) {
        params->on_grad_ready = gradients_ready;
        params->on_grad_ready_context = f;
    } else {
        params->keeper.grad_begin = gradients_begin;
        params->keeper.grad_end = gradients_end;
    }
    params->keeper.context = f;
    if (options->stage == 3) {
        params->keeper.acquire = weights_acquire;
        params->keeper.release = weights_release;
        for (int i = 0; i < f->pieces.count && params->planned; i++)
            param_start(f->pieces.items[i], f->pieces.items[i]->start);
    }
    if (gathers_narrow(f)) weights_renew_vectors(f);
    return f;
}

void fsdp_delete(Fsdp *f) {
    f->params->on_grad_ready = NULL;
    f->params->keeper = (ParamKeeper){0};
    params_free(&f->pieces);
    gradients_unplace(f);
    weights_unplace(f);
    for (int u = 0; u < f->unit_count; u++) {
        free(f->units[u].name);
        free(f->units[u].first);
    }
    free(f->units);
    free(f->unit_of);
    free(f->order);
    free(f->other_order);
    free(f->gathers);
    free(f);
}

Params *fsdp_params(Fsdp *f) { return f->options.stage == 0 ? f->params : &f->pieces; }

static void begin(Fsdp *f, bool forward_alone) {
    if (forward_alone != f->forward_alone) {
        int *order = f->order, count = f->order_count;
        f->order = f->other_order;
        f->order_count = f->other_count;
        f->other_order = order;
        f->other_count = count;
        f->forward_alone = forward_alone;
    }
    f->at = -1;
    weights_free(f, false); /* a pass without a backward has begun to gather what that would have needed */
    f->gather_count = 0;
}

void fsdp_begin(Fsdp *f) { begin(f, false); }
void fsdp_begin_forward(Fsdp *f) { begin(f, true); }

void fsdp_finish(Fsdp *f) {
    gradients_finish(f);
    weights_free(f, true); /* what is gathered is about to be old */
    params_add_uses(fsdp_params(f));
}

void fsdp_updated(Fsdp *f) {
    if (f->options.stage == 1 || f->options.stage == 2) weights_gather_all(f);
    if (gathers_narrow(f)) weights_renew_vectors(f);
    params_changed(f->params);
}

/* ---- about it ---- */

static void check_same(Fsdp *f, Comm *comm, uint64_t hash) {
    int n = comm->size;
    uint64_t *all = xmalloc((size_t)n * sizeof *all);
    Queue host = queue_of_host(fsdp_queue(f));
    comm_all_gather(comm, &host, &hash, all, sizeof hash / sizeof(int32_t), TYPE_I32);
    for (int r = 1; r < n; r++)
        CHECK(all[r] == all[0], "every device must do the same with the same gradients",
              "rank %d and rank 0 of '%s' hold different parameters", r, comm->name);
    free(all);
}

void fsdp_check(Fsdp *f) {
    uint64_t hash = 0;
    Params *mine = fsdp_params(f);
    for (int i = 0; i < mine->count; i++) hash = tensor_hash(&mine->items[i]->data, hash);
    if (f->options.copies) check_same(f, f->options.copies, hash);
    if (f->options.stage == 3) return; /* nobody has what another has */
    hash = 0;
    for (int i = 0; i < f->params->count; i++) hash = tensor_hash(&f->params->items[i]->data, hash);
    check_same(f, f->options.shards, hash);
}

int fsdp_units(const Fsdp *f) { return f->unit_count; }

FsdpUnit fsdp_unit(const Fsdp *f, int unit) {
    const Unit *u = &f->units[unit];
    int64_t elements = 0;
    for (int i = 0; i < u->params; i++) elements += tensor_count(&f->params->items[u->first_param + i]->data);
    return (FsdpUnit){u->name, elements, u->shard, u->kept};
}

int fsdp_gathers(const Fsdp *f) { return f->gather_count; }

FsdpGather fsdp_gather(const Fsdp *f, int i) { return f->gathers[i]; }
