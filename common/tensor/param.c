#include "common/tensor/param.h"

#include "common/base/rng.h"
#include "common/tensor/kernels.h"

#include <stdlib.h>
#include <string.h>

Param *params_add(Params *params, const char *name, Shape shape) {
    Param *p = xcalloc(1, sizeof *p);
    p->name = xstrdup(name);
    p->data =
        tensor_new(params->planned ? NULL : params->device, MEMORY_PARAMETERS, p->name, TYPE_REAL, shape);
    p->data.device = params->device;
    p->slice =
        (Slice){.whole = shape, .runs = 1, .first = {0}, .count = {shape.size[0]}, .size = shape.size[0]};
    p->decay = shape.rank > 1;
    p->uses = 1;
    p->owner = params;
    params->items = xrealloc(params->items, (size_t)(params->count + 1) * sizeof(Param *));
    params->items[params->count++] = p;
    return p;
}

Param *params_add_piece(Params *params, const Param *of, int64_t from, int64_t count) {
    ASSERT(params->planned);
    Param *p = params_add(params, of->name, SHAPE(count));
    memcpy(p->data.place, of->data.place, sizeof p->data.place);
    p->start = of->start;
    p->slice = of->slice;
    p->slice.from += from;
    p->replica = of->replica;
    p->decay = of->decay;
    p->in_matmul = of->in_matmul;
    p->uses = of->uses;
    return p;
}

static void free_grad(Param *p, int use) {
    if (p->grad[use].data && !p->placed[use]) tensor_free(&p->grad[use]);
    p->grad[use] = (Tensor){0};
}

static void free_narrow(Param *p) {
    if (p->narrow.data && !p->placed_narrow) tensor_free(&p->narrow);
    p->narrow = (Tensor){0};
    p->placed_narrow = false;
}

static void param_delete(Param *p) {
    free_narrow(p);
    if (!p->placed_data) tensor_free(&p->data);
    for (int use = 0; use < PARAM_MAX_USES; use++) free_grad(p, use);
    ASSERT(!p->early);
    free((char *)(uintptr_t)p->name);
    free(p);
}

void params_keep(Params *params, const bool *keep) {
    ASSERT(params->planned);
    params_number(params);
    int kept = 0;
    for (int i = 0; i < params->count; i++) {
        if (keep[i])
            params->items[kept++] = params->items[i];
        else
            param_delete(params->items[i]);
    }
    params->count = kept;
}

int64_t param_square_blocks(const Param *p) { return ceil_div(tensor_count(&p->data), SQUARES_BLOCK); }

void params_number(Params *params) {
    if (params->square_blocks > 0) return;
    for (int i = 0; i < params->count; i++) {
        params->items[i]->first_block = params->square_blocks;
        params->square_blocks += param_square_blocks(params->items[i]);
    }
}

int64_t param_whole_index(const Param *p, int64_t i, int64_t *run) {
    const Slice *s = &p->slice;
    int64_t inner = 1;
    for (int axis = s->axis + 1; axis < s->whole.rank; axis++) inner *= s->whole.size[axis];
    int64_t row = s->size * inner, at = s->from + i; /* row: of the axes before, one index each */
    int64_t outer = at / row, index = at % row / inner, rest = at % inner, left = tensor_count(&p->data) - i;
    for (int r = 0; r < s->runs; r++) {
        if (index < s->count[r]) {
            /* a slice that is the whole goes on in the next row */
            bool whole = s->count[r] == s->whole.size[s->axis] && s->size == s->count[r];
            *run = whole ? left : min64((s->count[r] - index) * inner - rest, left);
            return (outer * s->whole.size[s->axis] + s->first[r] + index) * inner + rest;
        }
        index -= s->count[r];
    }
    *run = min64(row - at % row, left);
    return -1;
}

void param_start_values(const Param *p, int64_t first, int64_t count, real *to) {
    const Start *s = &p->start;
    uint64_t stream = rng_stream(p->name);
    for (int64_t i = first, run; i < first + count; i += run, to += run) {
        int64_t whole = param_whole_index(p, i, &run);
        run = min64(run, first + count - i);
        double constant = whole < 0 ? 0 : s->size;
        if (whole < 0 || s->kind == START_CONSTANT)
            for (int64_t k = 0; k < run; k++) to[k] = (real)constant;
        else if (s->kind == START_NORMAL)
            rng_fill_normal(s->seed, stream, (uint64_t)whole, run, s->size, to);
        else
            rng_fill_uniform(s->seed, stream, (uint64_t)whole, run, -s->size, s->size, to);
    }
}

enum { PIECE = 1 << 14 }; /* elements that are made on the host at once */

void param_start(Param *p, Start start) {
    p->start = start;
    param_changed(p);
    if (!p->data.data || p->data.device->queue.dry) return;
    real piece[PIECE];
    for (int64_t first = 0, count; (count = min64(PIECE, tensor_count(&p->data) - first)) > 0;
         first += count) {
        param_start_values(p, first, count, piece);
        tensor_write(&p->data, first, count, piece);
    }
}

void params_free(Params *params) {
    for (int i = 0; i < params->count; i++) param_delete(params->items[i]);
    free(params->items);
    params->items = NULL;
    params->count = 0;
}

int64_t params_count(const Params *params) {
    int64_t sum = 0;
    for (int i = 0; i < params->count; i++) sum += tensor_count(&params->items[i]->data);
    return sum;
}

int64_t params_matmul_count(const Params *params) {
    int64_t sum = 0;
    for (int i = 0; i < params->count; i++)
        if (params->items[i]->in_matmul) sum += tensor_count(&params->items[i]->data);
    return sum;
}

void param_changed(Param *p) { p->stale = true; }

void params_changed(Params *params) {
    for (int i = 0; i < params->count; i++) param_changed(params->items[i]);
}

/* The copy, as it should be now. */
static const Tensor *narrow(Param *p) {
    Device *device = p->data.device;
    void *data = p->narrow.data;
    if (!data) {
        ASSERT(p->data.data);
        data = tensor_new(device, MEMORY_PARAMETERS, p->name, TYPE_BF16, p->data.shape).data;
        p->stale = true;
    }
    p->narrow = p->data;
    p->narrow.data = data;
    p->narrow.type = TYPE_BF16;
    p->narrow.memory = MEMORY_PARAMETERS;
    if (p->stale && !p->placed_narrow) device->kernels->cast(&device->queue, &p->data, &p->narrow);
    p->stale = false;
    return &p->narrow;
}

const Tensor *param_acquire(Param *p) {
    const ParamKeeper *keeper = &p->owner->keeper;
    if (keeper->acquire) keeper->acquire(keeper->context, p);
    return p->owner->type == TYPE_BF16 && param_is_matrix(p) ? narrow(p) : &p->data;
}

void param_release(Param *p) {
    const ParamKeeper *keeper = &p->owner->keeper;
    if (keeper->release) keeper->release(keeper->context, p);
}

static Tensor grad_new(Param *p) {
    return tensor_new(p->data.device, MEMORY_GRADIENTS, p->name, TYPE_REAL, p->data.shape);
}

static void add_uses(Param *p) {
    Device *device = p->data.device;
    for (int use = 1; use < p->uses; use++)
        device->kernels->accumulate(&device->queue, &p->grad[use], &p->grad[0]);
}

/* The first micro-batch's is formed in the step's own buffer. */
Tensor param_grad_begin(Param *p, int use, Microbatch microbatch) {
    ASSERT(use < p->uses && microbatch.index < microbatch.count);
    const ParamKeeper *keeper = &p->owner->keeper;
    if (keeper->grad_begin) return keeper->grad_begin(keeper->context, p, use, microbatch);
    if (!p->grad[use].data) p->grad[use] = grad_new(p);
    return microbatch.index == 0 ? p->grad[use] : grad_new(p);
}

/* A gradient that waits for those of earlier micro-batches. */
typedef struct EarlyGrad EarlyGrad;
struct EarlyGrad {
    EarlyGrad *next;
    int use;
    int64_t index; /* of its micro-batch */
    Tensor grad;
};

static void keep_early(Param *p, int use, int64_t index, Tensor grad) {
    EarlyGrad *early = xmalloc(sizeof *early);
    *early = (EarlyGrad){p->early, use, index, grad};
    p->early = early;
}

/* The one whose turn it is, taken out of the list; false: it has not come yet. */
static bool take_early(Param *p, int use, Tensor *grad) {
    for (EarlyGrad **link = &p->early; *link; link = &(*link)->next) {
        EarlyGrad *early = *link;
        if (early->use != use || early->index != p->turn[use]) continue;
        *grad = early->grad;
        *link = early->next;
        free(early);
        return true;
    }
    return false;
}

static void add_in_turn(Param *p, int use, Tensor grad) {
    Device *device = p->data.device;
    if (p->turn[use]++ == 0) return; /* it is the step's own buffer */
    device->kernels->accumulate(&device->queue, &grad, &p->grad[use]);
    tensor_free(&grad);
}

static void step_is_complete(Param *p, int use) {
    p->turn[use] = 0;
    Params *owner = p->owner;
    if (owner->on_grad_ready) {
        owner->on_grad_ready(owner->on_grad_ready_context, p, use);
    } else if (++p->uses_done == p->uses) {
        p->uses_done = 0;
        add_uses(p);
    }
}

void param_grad_end(Param *p, int use, Microbatch microbatch, Tensor grad, const Tensor *scale) {
    Device *device = p->data.device;
    /* scaled first, added then: in one go the product would not be rounded, and the sum have other bits than
     * that of devices which hold a micro-batch each */
    if (scale) device->kernels->scale(&device->queue, scale, &grad, &grad, false);
    const ParamKeeper *keeper = &p->owner->keeper;
    if (keeper->grad_end) {
        keeper->grad_end(keeper->context, p, use, microbatch, grad);
        return;
    }
    ASSERT(microbatch.index >= p->turn[use]);
    if (microbatch.index > p->turn[use]) {
        keep_early(p, use, microbatch.index, grad);
        return;
    }
    do add_in_turn(p, use, grad);
    while (take_early(p, use, &grad));
    if (p->turn[use] == microbatch.count) step_is_complete(p, use);
}

void params_add_uses(Params *params) {
    for (int i = 0; i < params->count; i++) add_uses(params->items[i]);
}

void param_place_data(Param *p, const Tensor *place, int64_t first) {
    if (!p->placed_data) tensor_free(&p->data);
    free_narrow(p);
    p->placed_data = true;
    p->data.data = place ? tensor_view(place, first, p->data.shape).data : NULL;
    p->data.memory = place ? place->memory : p->data.memory;
}

void param_place_narrow(Param *p, const Tensor *place, int64_t first) {
    free_narrow(p);
    p->placed_narrow = place != NULL;
    if (place) p->narrow.data = tensor_view(place, first, p->data.shape).data;
}

void param_place_grad(Param *p, int use, const Tensor *place, int64_t first) {
    free_grad(p, use);
    p->placed[use] = place != NULL;
    if (!place) return;
    p->grad[use] = tensor_view(place, first, p->data.shape);
    p->grad[use].name = p->name;
}
