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

static bool in_unit(const Unit *u, const Param *p) {
    int length = unit_name_length(p->name);
    return (int)strlen(u->name) == length && strncmp(u->name, p->name, (size_t)length) == 0;
}

/* Each parameter begins at a block of the gradient's norm, and a shard is a whole number of them. */
static int64_t blocks_of(const Param *p) { return ceil_div(tensor_count(&p->data), SQUARES_BLOCK); }

static void add_to_unit(Fsdp *f, int index) {
    Param *p = f->params->items[index];
    Unit *u = f->unit_count ? &f->units[f->unit_count - 1] : NULL;
    if (!u || !in_unit(u, p)) {
        f->units = xrealloc(f->units, (size_t)(f->unit_count + 1) * sizeof *f->units);
        u = &f->units[f->unit_count++];
        *u = (Unit){.name = xprintf("%.*s", unit_name_length(p->name), p->name), .first_param = index};
    }
    f->unit_of[index] = f->unit_count - 1;
    u->first = xrealloc(u->first, (size_t)(u->params + 1) * sizeof *u->first);
    u->first[u->params++] = u->shard; /* until all are there: the elements of those before it */
    u->shard += blocks_of(p) * SQUARES_BLOCK;
    for (int use = 0; use < p->uses; use++) u->grad[use].params++;
}

static void cut_units(Fsdp *f) {
    int n = f->options.shards->size;
    f->unit_of = xcalloc((size_t)f->params->count, sizeof *f->unit_of);
    for (int i = 0; i < f->params->count; i++) add_to_unit(f, i);
    for (int u = 0; u < f->unit_count; u++)
        f->units[u].shard = ceil_div(f->units[u].shard / SQUARES_BLOCK, n) * SQUARES_BLOCK;
}

/* The units that stay gathered, by the names in `keep`. */
static void mark_kept(Fsdp *f) {
    if (!f->options.keep) return;
    char *names = xstrdup(f->options.keep), *rest = names, *name;
    while ((name = strtok_r(rest, ",", &rest))) {
        int u = 0;
        while (u < f->unit_count && strcmp(f->units[u].name, name) != 0) u++;
        if (u == f->unit_count) {
            Str all = {0};
            for (int i = 0; i < f->unit_count; i++) str_printf(&all, "%s%s", i ? ", " : "", f->units[i].name);
            fail(2, xprintf("the units are %s", all.data), "there is no unit '%s' to keep gathered", name);
        }
        f->units[u].kept = true;
    }
    free(names);
}

/* ---- pieces: what this device updates ---- */

/* Of each parameter of the unit the part that lies in this device's shard; often none, and of most shards of a small unit
 * nothing at all. first_block: of the unit, in the norm. */
static void add_pieces(Fsdp *f, Unit *u, int64_t first_block) {
    int64_t from = f->options.shards->rank * u->shard, to = from + u->shard;
    for (int i = 0; i < u->params; i++) {
        const Param *p = f->params->items[u->first_param + i];
        int64_t a = max64(from - u->first[i], 0), b = min64(to - u->first[i], tensor_count(&p->data));
        if (a < b) {
            Param *piece = params_add_piece(&f->pieces, p, a, b - a);
            piece->first_block = first_block + a / SQUARES_BLOCK;
            param_place_data(piece, &u->own, u->first[i] + a - from);
            int64_t kept_from = keeps_gradients(f) ? 0 : from; /* where `kept` begins in the flat array */
            for (int use = 0; use < p->uses; use++)
                param_place_grad(piece, use, &u->grad[use].kept, u->first[i] + a - kept_from);
        }
        first_block += blocks_of(p);
    }
}

static void make_pieces(Fsdp *f) {
    f->pieces = (Params){.device = f->params->device, .planned = true};
    int64_t block = 0;
    for (int u = 0; u < f->unit_count; u++) {
        add_pieces(f, &f->units[u], block);
        for (int i = 0; i < f->units[u].params; i++)
            block += blocks_of(f->params->items[f->units[u].first_param + i]);
    }
    f->pieces.square_blocks = block;
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
    free(f->gathers);
    free(f);
}

Params *fsdp_params(Fsdp *f) { return f->options.stage == 0 ? f->params : &f->pieces; }

void fsdp_begin(Fsdp *f) {
    f->at = -1;
    weights_free(f, false); /* a pass without a backward has begun to gather what that would have needed */
    f->gather_count = 0;
}

void fsdp_finish(Fsdp *f) {
    gradients_finish(f);
    weights_free(f, true); /* what is gathered is about to be old */
    params_add_uses(fsdp_params(f));
}

void fsdp_updated(Fsdp *f) {
    if (f->options.stage == 1 || f->options.stage == 2) weights_gather_all(f);
}

/* ---- about it ---- */

static void check_same(Fsdp *f, Comm *comm, uint64_t hash) {
    int n = comm->size;
    uint64_t *all = xmalloc((size_t)n * sizeof *all);
    comm_all_gather(comm, fsdp_queue(f), &hash, all, sizeof hash / sizeof(int32_t), TYPE_I32);
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
