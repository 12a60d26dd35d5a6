#include "chapters/08_tensor_parallel/mistakes.h"

#include "common/comm/dist_ops.h"

const MistakeText mistake_texts[MISTAKES] = {
    [MISTAKE_NONE] = {"nothing is wrong", FOUND_REFUSED},
    [MISTAKE_COPY] = {"f is left out: columns multiply x itself, and nobody adds up its gradient",
                      FOUND_REFUSED},
    [MISTAKE_COPY_UNCHECKED] = {"f is left out, and x is said to be Private", FOUND_REPLICAS},
    [MISTAKE_REDUCE] = {"g adds up in backward as well: what comes out is a gradient t times too large",
                        FOUND_REFUSED},
    [MISTAKE_REDUCE_UNCHECKED] = {"g adds up in backward as well, and the sum is said to be Replicate",
                                  FOUND_ONE},
    [MISTAKE_BIAS] = {"the bias of a row linear is added to each term: t times", FOUND_REFUSED},
    [MISTAKE_UNSUMMED] =
        {"gradients that are Partial at the end of a step stay so: of norms with sequence parallel, "
         "of shared key/value heads",
         FOUND_REPLICAS},
    [MISTAKE_FUSED] = {"fused matrices are cut as if they were one: a device's columns are not whole heads",
                       FOUND_ONE},
    [MISTAKE_PADDING] = {"the vocabulary's padding takes part in the softmax", FOUND_ONE},
    [MISTAKE_LOCAL_COUNT] = {"each device divides its loss by its own tokens, not by those of the batch",
                             FOUND_ONE},
    [MISTAKE_LOCAL_NORM] = {"each device clips by the norm of its own slices", FOUND_REPLICAS},
    [MISTAKE_DROPOUT] = {"each device draws masks of its own for what all of them have", FOUND_REPLICAS},
};

static Tensor *right(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    return layers_tensor_parallel.linear(m, tape, layer, x, pass);
}

static const TensorParallel *context(const Model *m) { return m->layers_context; }

/* ---- f left out ---- */

static bool takes_copy(const Linear *layer, const Tensor *x) {
    return layer->split == SPLIT_COLUMNS && !layer->more && x->place[MESH_TENSOR].kind == PLACE_REPLICATE;
}

static Tensor *no_copy(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    return takes_copy(layer, x) ? op_linear(tape, x, layer->weight, layer->bias)
                                : right(m, tape, layer, x, pass);
}

static Tensor *no_copy_unchecked(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    if (!takes_copy(layer, x)) return right(m, tape, layer, x, pass);
    x->place[MESH_TENSOR] = (Place){PLACE_PRIVATE, 0};
    Tensor *y = op_linear(tape, x, layer->weight, layer->bias);
    x->place[MESH_TENSOR] = (Place){PLACE_REPLICATE, 0};
    return y;
}

/* ---- g that adds up both ways ---- */

static Tensor *reduce_both_ways(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    Tensor *sum = right(m, tape, layer, x, pass);
    if (layer->split == SPLIT_COLUMNS || sum->place[MESH_TENSOR].kind != PLACE_REPLICATE) return sum;
    Tensor *y = op_copy(tape, context(m)->mesh, MESH_TENSOR, sum);
    tape_drop(tape, sum);
    return y;
}

static Tensor *reduce_both_ways_unchecked(Model *m, Tape *tape, const Linear *layer, Tensor *x,
                                          const Pass *pass) {
    Tensor *y = reduce_both_ways(m, tape, layer, x, pass);
    if (y->place[MESH_TENSOR].kind == PLACE_PRIVATE) y->place[MESH_TENSOR] = (Place){PLACE_REPLICATE, 0};
    return y;
}

/* ---- a bias for each term ---- */

static Tensor *bias_in_terms(Model *m, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass) {
    bool plant = layer->split == SPLIT_ROWS && layer->bias;
    return plant ? op_linear(tape, x, layer->weight, layer->bias) : right(m, tape, layer, x, pass);
}

/* ---- slices ---- */

static void cut_as_one(Model *m, Linear *layer, const LinearPlan *plan) {
    LinearPlan one = *plan;
    one.parts = 1;
    one.part_sizes[0] = plan->out;
    bool plant = plan->split == SPLIT_COLUMNS && !context(m)->same_head;
    layers_tensor_parallel.linear_create(m, layer, plant ? &one : plan);
}

static Tensor *with_padding(Model *m, Tape *tape, Tensor *x, const Tensor *targets) {
    int64_t words = m->head->slice.count[0];
    m->head->slice.count[0] = m->head->slice.size;
    Tensor *loss = layers_tensor_parallel.head_loss(m, tape, x, targets);
    m->head->slice.count[0] = words;
    return loss;
}

void tensor_parallel_plant(TensorParallel *tp, Mistake mistake) {
    LayerTable *layers = &tp->layers;
    switch (mistake) {
    case MISTAKE_COPY: layers->linear = no_copy; break;
    case MISTAKE_COPY_UNCHECKED: layers->linear = no_copy_unchecked; break;
    case MISTAKE_REDUCE: layers->linear = reduce_both_ways; break;
    case MISTAKE_REDUCE_UNCHECKED: layers->linear = reduce_both_ways_unchecked; break;
    case MISTAKE_BIAS: layers->linear = bias_in_terms; break;
    case MISTAKE_FUSED: layers->linear_create = cut_as_one; break;
    case MISTAKE_PADDING: layers->head_loss = with_padding; break;
    case MISTAKE_UNSUMMED: tp->unsummed = true; break;
    default: break;
    }
}
