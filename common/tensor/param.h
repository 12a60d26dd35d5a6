/* param: weights as handles. An op reaches a weight's data between acquire and release and keeps no pointer
 * to it across, so that FSDP can gather before a block and free after it.
 *
 * Types. The data are reals, which the optimizer changes and checkpoints hold. Where Params.type is TYPE_BF16, ops get
 * matrices (shapes of two axes and more) as a bf16 copy, made from the reals when they have changed; vectors as they are.
 * The copies count as parameters. Gradients are reals.
 *
 * Gradients. Each micro-batch's gradient is formed from zero, then added to the step's, in the order of the
 * micro-batches: the sum has the same bits however the micro-batches are spread over devices, and in whatever order
 * their backward passes come. One that comes before its turn is kept until then. A weight with two uses (a tied head)
 * has a buffer for each; they are added once, use 0 + use 1, when both are complete.
 *
 * on_grad_ready fires once a step for each use of each parameter, when the last micro-batch has been added: this device's
 * part of the gradient is complete then. Whoever listens reduces it over the devices, each use apart, and then calls
 * params_add_uses: so the sum over devices comes before the sum over uses, as the sum over micro-batches does. */
#ifndef PARAM_H
#define PARAM_H

#include "common/tensor/tensor.h"

enum { PARAM_MAX_USES = 2 };
typedef struct Params Params;

/* What a parameter starts as. Each element is a function of (seed, the parameter's name, the element's index in the whole),
 * so that a device with a part of it makes that part, and the same one. */
typedef enum { START_CONSTANT, START_NORMAL, START_UNIFORM } StartKind;
typedef struct {
    StartKind kind;
    double size; /* the constant; the deviation; the limit of both sides */
    uint64_t seed;
} Start;

/* Which part of the whole parameter lies here. Along one axis of its shape some runs of indices, one behind the other (a
 * fused qkv has three: heads of queries, of keys, of values), and behind them padding, up to `size` indices. Of the
 * elements of that slice those from `from` on: a shard. */
enum { SLICE_RUNS = 3 };
typedef struct {
    Shape whole;
    int axis, runs;
    int64_t first[SLICE_RUNS], count[SLICE_RUNS]; /* indices along the axis */
    int64_t size;
    int64_t from;
} Slice;

/* Which micro-batch a pass works on, of how many in the step. Several passes can be under way at once. */
typedef struct {
    int64_t index, count;
} Microbatch;

typedef struct {
    const char *name; /* of the whole, as in checkpoints: "blocks.0.qkv.weight" */
    Tensor data;
    Tensor narrow;      /* the bf16 copy of a matrix; data NULL: it is not there yet */
    bool stale;         /* ... and not of the data as they are now */
    bool placed_narrow; /* it is somebody else's memory (param_place_narrow) */
    Start start;
    Slice slice; /* all of it, unless who made it says otherwise */
    int replica; /* which of the copies of this slice, along the axes that cut parameters: a norm counts copy 0 */
    int64_t first_block; /* of its blocks of squares, among those of owner->square_blocks (params_number) */
    bool decay;          /* AdamW decays matrices only */
    bool in_matmul;      /* counts into N, the weights that a matrix product applies */
    int uses, uses_done; /* how many ops apply it; how many of them have the gradient of the whole step */
    Tensor grad[PARAM_MAX_USES];  /* once ready, grad[0] is the gradient of the step */
    bool placed[PARAM_MAX_USES];  /* grad is somebody else's memory (param_place_grad) */
    bool placed_data;             /* data is (param_place_data) */
    int64_t turn[PARAM_MAX_USES]; /* the micro-batch that is added next */
    struct EarlyGrad *early;      /* those that came before their turn */
    Params *owner;
} Param;

/* Who keeps the weights, or the gradients, of some parameters in a way of his own (FSDP). A function that is NULL: as
 * without him. */
typedef struct {
    /* the data must be there, and may go */
    void (*acquire)(void *context, Param *p);
    void (*release)(void *context, Param *p);
    /* instead of param_grad_begin and param_grad_end, whose gradient is scaled already */
    Tensor (*grad_begin)(void *context, Param *p, int use, Microbatch microbatch);
    void (*grad_end)(void *context, Param *p, int use, Microbatch microbatch, Tensor grad);
    void *context;
} ParamKeeper;

struct Params {
    Device *device;
    ElementType type; /* TYPE_BF16: ops get bf16 copies of matrices; anything else: the data itself */
    bool planned;     /* params_add takes no memory: somebody else will, and set the elements as they start */
    Param **items;
    int count;
    int64_t square_blocks; /* in the norm of all devices' gradients; 0: they have no numbers yet */

    void (*on_grad_ready)(void *context, Param *p,
                          int use); /* NULL: uses are added as soon as all are there */
    void *on_grad_ready_context;
    ParamKeeper keeper;
};

/* A new parameter with memory for its data (Replicate); the elements are not set. `name` is copied. */
Param *params_add(Params *params, const char *name, Shape shape);
/* count of the elements of `of` from `from` on, as a parameter of another list: a piece of its shard. It has no memory, and
 * is like `of` in all else. */
Param *params_add_piece(Params *params, const Param *of, int64_t from, int64_t count);
/* Of planned parameters only those with keep[i] stay, in their order, with the numbers of all. */
void params_keep(Params *params, const bool *keep);
/* Gives the blocks of squares numbers, in the parameters' order, unless they have some. */
void params_number(Params *params);
/* How many blocks of squares a parameter has. */
int64_t param_square_blocks(const Param *p);
/* The elements first .. first + count - 1 of p as they start, in memory of the host's. Padding is 0. */
void param_start_values(const Param *p, int64_t first, int64_t count, real *to);
/* Says how it starts; if it has memory, its elements are set. */
void param_start(Param *p, Start start);
/* Element i of p: its index in the whole, or -1 for padding. *run: so many of p's elements, this one included, lie one
 * behind the other there as well (or are padding). */
int64_t param_whole_index(const Param *p, int64_t i, int64_t *run);
void params_free(Params *params);
int64_t params_count(const Params *params);        /* all elements that lie here */
int64_t params_matmul_count(const Params *params); /* N of FLOPs per token = 6 N + ... */

/* The data of a weight, or of all, are others now; who changes them says so. param_start does. */
void param_changed(Param *p);
void params_changed(Params *params);
/* The data of a weight for one op. May be nested: as many releases as acquires. */
const Tensor *param_acquire(Param *p);
void param_release(Param *p);

/* The buffer into which `use` writes a micro-batch's gradient; overwrite all of it, then call end, which adds it to the
 * step's, now or when those before it have been. scale: a scalar (1) that multiplies it on the way, NULL for one. Each
 * micro-batch of a step once for each use. */
Tensor param_grad_begin(Param *p, int use, Microbatch microbatch);
void param_grad_end(Param *p, int use, Microbatch microbatch, Tensor grad, const Tensor *scale);
/* For who listens to on_grad_ready: grad[0] += grad[1] where a parameter has two uses. */
void params_add_uses(Params *params);
/* From now on the data lies in the memory of `place`, from element `first` on; place NULL: nowhere, its shape alone is
 * left. What memory of its own it had is given back. */
void param_place_data(Param *p, const Tensor *place, int64_t first);
/* From now on the bf16 copy is what lies in the memory of `place`, from element `first` on; who says so keeps it as it should be.
 * place NULL: there is none. */
void param_place_narrow(Param *p, const Tensor *place, int64_t first);
/* Ops get a bf16 copy of it, where Params.type has them so. */
static inline bool param_is_matrix(const Param *p) { return p->data.shape.rank > 1; }
/* From now on the gradient of a use is formed in the memory of `place`, from element `first` on; it must live until this
 * is called again, with NULL. */
void param_place_grad(Param *p, int use, const Tensor *place, int64_t first);

#endif
