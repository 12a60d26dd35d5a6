#include "chapters/07_fsdp/forecast.h"

#include "chapters/07_fsdp/unit.h"
#include "common/model/activation_bytes.h"

#include <string.h>

enum { REAL_BYTES = sizeof(real), NARROW_BYTES = 2 };

/* What a gathered element takes. */
static int64_t gathered_bytes(const Fsdp *f) { return gathers_narrow(f) ? NARROW_BYTES : REAL_BYTES; }

/* In bf16: of the matrices, of which ops have a copy, or of the others. */
static int64_t elements_of(const Model *m, bool matrices) {
    int64_t sum = 0;
    for (int i = 0; i < m->params.count; i++)
        if (param_is_matrix(m->params.items[i]) == matrices) sum += tensor_count(&m->params.items[i]->data);
    return sum;
}

/* Whether unit `first` of the order is still held when the next one is asked for: a look-up reads both of its tables at once. */
static bool held_with_next(const Fsdp *f, const int *order, int count, int first) {
    return first + 1 < count && strcmp(f->units[order[first]].name, "token") == 0 &&
           strcmp(f->units[order[first + 1]].name, "position") == 0;
}

/* What stage 3 gathers in a pass, of all devices of a group: bytes. A unit that the pass comes to is gathered, unless it was
 * one of the `prefetch` next ones at every step since it was held last. */
static double gathered(const Fsdp *f) {
    double bytes = 0;
    const int *order = f->forward_alone ? f->other_order : f->order;
    int count = f->forward_alone ? f->other_count : f->order_count;
    for (int i = 0; i < count; i++) {
        const Unit *u = &f->units[order[i]];
        int before = i - 1;
        while (before >= 0 && order[before] != order[i]) before--;
        if (before >= 0) before += held_with_next(f, order, count, before);
        bool still_there = before >= 0 && i - before <= f->options.prefetch + 1;
        if (!u->kept && !still_there) bytes += (double)(unit_count(f, u) * gathered_bytes(f));
    }
    return bytes;
}

/* With several micro-batches each gradient but the first has a place of its own before it is added; those of a head and its
 * bias are formed together. */
static int64_t largest_gradient(const Sharded *s) {
    const Model *m = s->model;
    int64_t most = m->head_bias ? tensor_count(&m->head->data) + tensor_count(&m->head_bias->data) : 0;
    for (int i = 0; i < m->params.count; i++) most = max64(most, tensor_count(&m->params.items[i]->data));
    return most;
}

static int64_t activations(const Sharded *s) {
    const Config *c = &s->config;
    bool serial = s->model->layers == &layers_serial; /* or those of the next chapter */
    ActivationCase activations = {.windows = c->micro_batch,
                                  .microbatches = c->num_microbatches,
                                  .tensor = serial ? 0 : c->tensor_parallel,
                                  .sequence_parallel = c->sequence_parallel,
                                  .gather_again = c->gather_again,
                                  .overlap = c->overlap_tensor > 1,
                                  .recompute = c->recompute,
                                  .square_blocks = optimizer_square_blocks(s->optimizer)};
    return activation_bytes(&c->model, &activations, s->device).peak;
}

Forecast forecast_of(const Sharded *s) {
    const Fsdp *f = s->fsdp;
    const Config *c = &s->config;
    int64_t n = s->shards->size, own_weights = 0, own_gradients = 0, updated = 0;
    double groups = s->copies->size, m = (double)c->num_microbatches, kept = 0;
    double passes = s->model->before_pass ? m : 1; /* a pipeline's step is one, whatever goes through it */
    for (int k = 0; k < f->unit_count; k++) {
        const Unit *u = &f->units[k];
        own_weights += u->shard;
        for (int use = 0; use < PARAM_MAX_USES; use++)
            if (u->grad[use].params) own_gradients += u->shard;
        if (u->kept) kept += (double)(unit_count(f, u) * gathered_bytes(f));
    }
    for (int i = 0; i < s->optimizer->params->count; i++)
        updated += tensor_count(&s->optimizer->params->items[i]->data);
    bool whole_gradients = keeps_gradients(f);
    int64_t stage = c->zero_stage, moments = c->optimizer == OPTIMIZER_ADAMW ? 2 : 1;
    int64_t early = whole_gradients && c->num_microbatches > 1 ? largest_gradient(s) : 0;
    double W = (double)(n * own_weights * REAL_BYTES), G = (double)(n * own_gradients * REAL_BYTES),
           once = groups * (double)(n - 1);
    bool narrow = f->params->type == TYPE_BF16;
    int64_t copies = narrow && stage < 3 ? elements_of(s->model, true) * NARROW_BYTES : 0,
            vectors = narrow && stage == 3 ? elements_of(s->model, false) * REAL_BYTES : 0;
    double numbers = 2 * (groups * (double)n - 1) * 2 * sizeof(double) +
                     (stage ? 2 * once * (double)s->optimizer->params->square_blocks * sizeof(double) : 0);
    return (Forecast){
        .parameters = (stage < 3 ? n : 1) * own_weights * REAL_BYTES + copies + vectors,
        .gradients = ((whole_gradients ? n : 1) * own_gradients + early) * REAL_BYTES,
        .optimizer = moments * updated * REAL_BYTES,
        .activations = activations(s),
        .all_reduce = numbers + 2 * once * (double)vectors + (stage == 0 ? 2 * once * G : 0) +
                      2 * (groups - 1) * (stage == 0 ? (double)n : 1) * G,
        .all_gather = stage == 0  ? 0
                      : stage < 3 ? once * W
                                  : once * (passes * gathered(f) + kept),
        .reduce_scatter = stage == 0 ? 0 : once * G * (whole_gradients ? 1 : m),
    };
}

void forecast_print_row(const char *what, double predicted, double measured) {
    printf("  %-30s %16.0f %16.0f  %.9g\n", what, predicted, measured,
           predicted == measured ? 1 : measured / predicted);
}

void forecast_print_kept(const Forecast *f, const MemoryUse *memory) {
    const int64_t *peak = memory->peak;
    printf("\nbytes                                   predicted         measured  ratio\n");
    forecast_print_row("parameters, on device 0", (double)f->parameters, (double)peak[MEMORY_PARAMETERS]);
    forecast_print_row("gradients", (double)f->gradients, (double)peak[MEMORY_GRADIENTS]);
    forecast_print_row("optimizer", (double)f->optimizer, (double)peak[MEMORY_OPTIMIZER]);
    forecast_print_row("activations", (double)f->activations, (double)peak[MEMORY_ACTIVATIONS]);
}
