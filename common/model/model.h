/* model: the GPT family from one config.
 *
 *   embed     x = token[ids] (+ position)                               (B,T,C)
 *   block     pre-norm:  x += drop(attention(norm1 x));  x += drop(ffn(norm2 x))
 *             post-norm: x = norm1(x + drop(attention x)); x = norm2(x + drop(ffn x))
 *   loss      head and cross-entropy, after a last norm when pre-norm
 *
 * The model is built through a table of layers that a later chapter replaces by parallel ones, and any range
 * of blocks runs alone: no chapter copies the model. */
#ifndef MODEL_H
#define MODEL_H

#include "common/config/config.h"
#include "common/tensor/ops.h"

typedef struct Model Model;

/* Which axis of its weight a linear gives up when the model is cut over devices. */
typedef enum { SPLIT_COLUMNS, SPLIT_ROWS } LinearSplit;
typedef struct Linear Linear;
struct Linear {
    Param *weight, *bias; /* (in, out), (out) or NULL */
    LinearSplit split;
    Linear *more; /* with further columns, behind these; NULL: none */
};
typedef struct {
    Param *gain, *bias; /* (C), (C) or NULL */
} Norm;
typedef struct {
    Norm norm1, norm2;
    Linear qkv, attention_out; /* (C,(H+2K)D), (H D,C) */
    Linear ffn_up, ffn_down;   /* (C,F) or for swiglu (C,2F) = [gate | up], (F,C) */
} Block;

/* What a pass through the model needs to know. */
typedef struct {
    bool training; /* dropout is active */
    int64_t
        first_sample; /* number of the first window among all that were trained on: what dropout draws from */
    int64_t first_position; /* of the first token, when generating */
    KeyValueCache *caches;  /* one for each layer when generating, else NULL */
    bool sequence_parallel; /* between its products x is this device's slice of the sequence ... */
    int64_t first_token;    /* ... from this position on */
} Pass;

/* How a linear is made: its columns are `parts` fused matrices, of part_sizes columns each. */
enum { LINEAR_PARTS = SLICE_RUNS };
typedef struct {
    const char *name;
    int64_t in, out;
    int parts;
    int64_t part_sizes[LINEAR_PARTS];
    LinearSplit split;
    Start start; /* of the weight; a bias starts at 0 */
    bool bias;
} LinearPlan;

/* The layers that a model is made of. */
typedef struct {
    void (*linear_create)(Model *model, Linear *layer, const LinearPlan *plan);
    /* a table of words: whole (V,C) or (V); it is started by the caller */
    Param *(*vocabulary_create)(Model *model, const char *name, Shape whole);
    Tensor *(*linear)(Model *model, Tape *tape, const Linear *layer, Tensor *x, const Pass *pass);
    Tensor *(*norm)(Model *model, Tape *tape, const Norm *layer, Tensor *x);
    Tensor *(*embedding)(Model *model, Tape *tape, Tensor *ids, const Pass *pass);
    Tensor *(*head_loss)(Model *model, Tape *tape, Tensor *x, const Tensor *targets);
    Tensor *(*logits)(Model *model, Tape *tape, Tensor *x);
} LayerTable;
extern const LayerTable layers_serial;

struct Model {
    ModelConfig config;
    uint64_t seed;
    Device *device;
    const LayerTable *layers;
    void *layers_context; /* theirs */
    Params params;
    int64_t heads, key_value_heads; /* that this device computes */

    Param *token, *position; /* (V,C), (T,C) or NULL */
    Block *blocks;           /* L */
    Norm norm_final;         /* pre-norm only */
    Param *head, *head_bias; /* (V,C), token itself when tied; (V) or NULL */
    int head_use;            /* which use of its parameter the head is: 1 when tied */
    int *first_param;  /* (L+1): of each block, the place of its first parameter; of what is behind all */
    Tensor rope_table; /* (T,D) = [cos | sin] */

    bool recompute;                     /* keep each block's input only */
    void (*before_pass)(void *context); /* called when a pass begins with model_embed; may be NULL */
    void *pass_context;
};

/* The type of the activations, their gradients, and of what param_acquire gives for a matrix: TYPE_REAL or TYPE_BF16. */
ElementType model_type(const ModelConfig *config);

/* Builds and initialises: every weight is a function of (seed, its name, the element's index in the whole).
 * device NULL: the shapes alone, for model_print; no memory is taken. */
Model *model_new(Device *device, const ModelConfig *config, uint64_t seed, const LayerTable *layers);
/* ... with layers that need a context, and, when `planned`, with parameters that have no memory yet (Params.planned). */
Model *model_new_of(Device *device, const ModelConfig *config, uint64_t seed, const LayerTable *layers,
                    void *layers_context, bool planned);
void model_delete(Model *model);

/* A part of the model: blocks from .. to - 1, and the ends. The position table goes with the embedding, the last norm with
 * the head. */
typedef struct {
    int64_t from, to;
    bool embedding, head;
} ModelPart;
/* Of a planned model whose parameters have no memory yet: keeps those of these parts alone, and what else the model can do
 * ends the program. Their blocks of squares keep the numbers that they have in the whole (Param.first_block). A tied table is
 * here once: with one use where only one end is, and as a copy (Param.replica) where that is the head, so that of two
 * devices with the two ends one counts it. */
void model_keep(Model *model, const ModelPart *parts, int count);
static inline bool model_has_block(const Model *model, int64_t l) { return model->blocks[l].norm1.gain; }

/* ids (B,T) int32 to x (B,T,C). */
Tensor *model_embed(Model *model, Tape *tape, Tensor *ids, const Pass *pass);
/* Blocks from .. to - 1 on x (B,T,C). */
Tensor *model_blocks(Model *model, Tape *tape, Tensor *x, int64_t from, int64_t to, const Pass *pass);
/* The sum over real targets (B,T) of the cross-entropy in nats: a scalar (1) in double. */
Tensor *model_loss(Model *model, Tape *tape, Tensor *x, const Tensor *targets);
/* logits (B,T,V); forward only. */
Tensor *model_logits(Model *model, Tape *tape, Tensor *x);

/* FLOPs of training on one token: 6 N + 6 L C T with N the weights in matrix products,
 * attention being causal. Of a part: its share, the parts' add up to the whole's. */
double model_flops_per_token(const Model *model);
/* Every parameter with its shape, then the count and the bytes. */
void model_print(const Model *model, FILE *out);

#endif
