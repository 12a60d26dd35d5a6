#include "chapters/08_tensor_parallel/tp_forecast.h"

#include "chapters/07_fsdp/forecast.h"
#include "chapters/08_tensor_parallel/vocabulary.h"

#include <inttypes.h>

enum { REAL_BYTES = sizeof(real) };

/* Elements whose gradients are summed once a step, after all micro-batches, among `comm`. */
static int64_t summed_once(const TensorParallel *tp, const Params *params, const Comm *comm) {
    int64_t count = 0;
    for (int i = 0; i < params->count; i++)
        if (tensor_parallel_holders(tp, params->items[i]) == comm)
            count += tensor_count(&params->items[i]->data);
    return count;
}

int64_t tp_gathers_again(const Config *c, int t) {
    if (t == 1 || !c->sequence_parallel || !c->gather_again) return 0;
    return t > c->model.K ? 1 : 2; /* a qkv of two products does not */
}

TpForecast tp_forecast_of_part(const TensorParallel *tp, const Sharded *own, int64_t L, bool embeds,
                               bool heads) {
    const Config *c = &own->config;
    const int *size = tp->mesh->size;
    const ModelConfig *model = &c->model;
    bool sp = c->sequence_parallel;
    double t = size[MESH_TENSOR], d = size[MESH_DATA], m = (double)c->num_microbatches;
    if (t == 1) return (TpForecast){0};
    int64_t rows = c->micro_batch * model->T, ends = embeds + heads, f = 2, g = c->recompute ? 4 : 2,
            again = tp_gathers_again(c, size[MESH_TENSOR]);
    int64_t chunks = heads ? vocabulary_chunks(rows, (int)t) : 0;
    /* of an all-reduce behind a row linear */
    int64_t pieces = ceil_div(rows, ceil_div(rows, c->overlap_tensor));
    const Params *all = &own->model->params, *here = fsdp_params(own->fsdp); /* maybe shards */
    const Comm *everyone = tp->mesh->axis[MESH_TENSOR], *same_head = tp->same_head;
    int64_t replicated = sp ? summed_once(tp, all, everyone) : 0,
            shared = same_head ? summed_once(tp, all, same_head) : 0,
            calls = (sp && summed_once(tp, here, everyone)) + (same_head && summed_once(tp, here, same_head));
    int64_t holders = same_head ? same_head->size : 1;

    double S = (double)(rows * model->C * element_bytes(model_type(model))), ring = d * (t - 1);
    double activations = m * (double)(L * (f + g) + ends) * S; /* bytes of arrays that are summed */
    double numbers = heads ? 3 * m * (double)(rows * REAL_BYTES) : 0;
    double models = c->zero_stage ? own->copies->size : d; /* along `data`; the rest are shards of one */
    double once = models / d * (double)(replicated * REAL_BYTES) + sizeof(double);
    /* t / holders groups, each with a ring of its own */
    double key_heads =
        models * t / (double)holders * 2 * (double)(holders - 1) * (double)(shared * REAL_BYTES);
    int64_t micro = c->num_microbatches;
    return (TpForecast){
        .layers = micro * L * (sp ? 2 * (f + g) + again : f + g * pieces),
        .ends = micro * ends * (sp ? 2 : 1),
        .cross_entropy = micro * 2 * chunks,
        .once = 1 + calls,
        .all_reduce = 2 * ring * ((sp ? 0 : activations) + numbers + once) + key_heads,
        .all_gather = sp ? ring * (activations + m * (double)(L * again) * S) : 0,
        .reduce_scatter = sp ? ring * activations : 0,
        .cross_entropy_bytes = 2 * ring * numbers,
        .gathered_logits = ring * m * (double)(rows * model->V * REAL_BYTES),
    };
}

void tp_forecast_print(const Sliced *s, const Account *account) {
    Forecast kept = forecast_of(s->own);
    TpForecast moved = tp_forecast_of_part(s->tp, s->own, s->own->config.model.L, true, true);
    const double all_reduce = account_step_count(account, COMM_ALL_REDUCE).bytes,
                 all_gather = account_step_count(account, COMM_ALL_GATHER).bytes,
                 reduce_scatter = account_step_count(account, COMM_REDUCE_SCATTER).bytes;
    double t = s->mesh->size[MESH_TENSOR], d = s->mesh->size[MESH_DATA];
    int64_t calls = 0;
    for (int kind = 0; kind < COMM_KINDS; kind++) calls += s->along_tensor[kind].calls;
    forecast_print_kept(&kept, &s->own->device->memory);
    if (t * d == 1) return;
    /* what those along `data` send is chapter 07's, once for each coordinate along `tensor` */
    forecast_print_row("all-reduce, of a step", t * kept.all_reduce + moved.all_reduce, all_reduce);
    forecast_print_row("all-gather", t * kept.all_gather + moved.all_gather, all_gather);
    forecast_print_row("reduce-scatter", t * kept.reduce_scatter + moved.reduce_scatter, reduce_scatter);
    if (t == 1) return;
    int64_t predicted = moved.layers + moved.ends + moved.cross_entropy + moved.once;
    forecast_print_row("calls of a device along tensor", (double)predicted, (double)calls);
    printf("  these are %" PRId64 " of %" PRId64 " layers, %" PRId64 " of the two ends, %" PRId64
           " of the cross-entropy, %" PRId64 " once a step\n",
           moved.layers, s->own->config.model.L, moved.ends, moved.cross_entropy, moved.once);
    printf("  the cross-entropy sends 3 b T numbers: %.0f bytes; to gather the logits would be %.0f\n",
           moved.cross_entropy_bytes, moved.gathered_logits);
}
