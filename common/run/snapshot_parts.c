#include "common/run/snapshot.h"

#include <stdlib.h>
#include <string.h>

/* Which tensors of the parts are meant. */
typedef enum { WEIGHT, FIRST_MOMENT, SECOND_MOMENT } Which;
static const char *const prefixes[] = {"", "m.", "v."};

/* The wholes of some kinds of tensor, on the host: arrays of rank 0, as snapshot_save orders them; the other ranks have
 * no memory for them. */
typedef struct {
    Arrays arrays;
    Which *which; /* of each array */
} Wholes;

static void add(Wholes *w, const Param *p, Which which, bool room) {
    int64_t i = w->arrays.count++;
    w->arrays.items = xrealloc(w->arrays.items, (size_t)w->arrays.count * sizeof *w->arrays.items);
    w->which = xrealloc(w->which, (size_t)w->arrays.count * sizeof *w->which);
    NamedArray *a = &w->arrays.items[i];
    *a = (NamedArray){
        .name = xprintf("%s%s", prefixes[which], p->name), .type = ARRAY_REAL, .rank = p->slice.whole.rank};
    memcpy(a->shape, p->slice.whole.size, sizeof a->shape);
    if (room) a->data = xmalloc((size_t)array_bytes(a));
    w->which[i] = which;
}

static Wholes wholes_new(const Parts *parts, Which from, Which to) {
    Wholes w = {0};
    bool room = parts->comm->rank == 0;
    for (int i = 0; i < parts->named->count; i++) {
        const Param *p = parts->named->items[i];
        bool again = false; /* several may be slices of one whole */
        for (int k = 0; k < i && !again; k++) again = strcmp(p->name, parts->named->items[k]->name) == 0;
        for (Which which = from; which <= to && !again; which++)
            if (which != FIRST_MOMENT || parts->optimizer->kind != OPTIMIZER_SGD) add(&w, p, which, room);
    }
    return w;
}

static void wholes_free(Wholes w) {
    for (int64_t i = 0; i < w.arrays.count; i++) {
        free((char *)(uintptr_t)w.arrays.items[i].name);
        free(w.arrays.items[i].data);
    }
    free(w.arrays.items);
    free(w.which);
}

/* From the parts to the wholes, or back: one at a time. */
static void exchange(const Parts *parts, Wholes w,
                     void (*move)(const Holding *, const char *, Shape, real *)) {
    const Optimizer *o = parts->optimizer;
    Tensor **tensors = xcalloc((size_t)max64(o->params->count, 1), sizeof *tensors);
    Holding holding = {parts->comm, o->params, tensors, parts->copy};
    for (int64_t i = 0; i < w.arrays.count; i++) {
        const NamedArray *a = &w.arrays.items[i];
        for (int k = 0; k < o->params->count; k++)
            tensors[k] = w.which[i] == WEIGHT         ? &o->params->items[k]->data
                         : w.which[i] == FIRST_MOMENT ? &o->m[k]
                                                      : &o->v[k];
        Shape whole = {.rank = a->rank};
        memcpy(whole.size, a->shape, sizeof whole.size);
        real *elements = a->data ? a->data : xmalloc((size_t)array_bytes(a));
        move(&holding, a->name + strlen(prefixes[w.which[i]]), whole, elements);
        if (!a->data) free(elements);
    }
    free(tensors);
}

void snapshot_save_parts(const Config *config, const Parts *parts, const Tokenizer *tokenizer,
                         int64_t next_window) {
    Wholes w = wholes_new(parts, WEIGHT, WEIGHT), m = wholes_new(parts, FIRST_MOMENT, SECOND_MOMENT);
    exchange(parts, w, whole_gather);
    exchange(parts, m, whole_gather);
    if (parts->comm->rank == 0)
        snapshot_write(config, parts->optimizer->step, w.arrays, m.arrays, tokenizer, next_window);
    wholes_free(w);
    wholes_free(m);
    comm_barrier(parts->comm, NULL);
}

void snapshot_load_parts(const Checkpoint *checkpoint, const Parts *parts) {
    Wholes w = wholes_new(parts, WEIGHT, WEIGHT), m = wholes_new(parts, FIRST_MOMENT, SECOND_MOMENT);
    if (checkpoint) {
        parts->optimizer->step = checkpoint->step;
        checkpoint_read_arrays(checkpoint, "model.safetensors", w.arrays.items, w.arrays.count);
        checkpoint_read_arrays(checkpoint, "optimizer.safetensors", m.arrays.items, m.arrays.count);
    }
    comm_broadcast(parts->comm, NULL, &parts->optimizer->step, 2, TYPE_I32, 0); /* halves */
    exchange(parts, w, whole_scatter);
    exchange(parts, m, whole_scatter);
    wholes_free(w);
    wholes_free(m);
}
