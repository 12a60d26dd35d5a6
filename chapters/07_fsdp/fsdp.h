/* fsdp: data parallel training in which no device holds all of it (ZeRO, Rajbhandari et al. 2020; fully sharded data
 * parallel, Zhao et al. 2023). Every device still computes with whole weights on its own slice of the batch. What is cut
 * among them is what they *keep*:
 *
 *   stage            0            1                    2                      3
 *   optimizer        all          a shard              a shard                a shard
 *   gradients        all          all                  a shard                a shard
 *   weights          all          all                  all                    a shard
 *   gradients are    all-reduced  reduce-scattered     reduce-scattered       reduce-scattered
 *                    once         once                 in each micro-batch    in each micro-batch
 *   weights are                   all-gathered         all-gathered           all-gathered before each
 *   ..                            after the update     after the update       use, and freed behind it
 *
 * A weight is Shard, its use in the forward pass Private: op_all_gather on the weights (common/comm/dist_ops.h), whose
 * backward is the reduce-scatter. Here both are taken out of the tape, so that they can run early, and beside other work.
 *
 * Parameters are kept in units, whose names begin alike: "token", "blocks.3", "head". A unit's weights lie in one flat
 * array, each on a border of 1024 elements, with padding behind, and device d of n has the d-th n-th of it. So shards are
 * cut where the blocks of the gradient's norm end (optim.h), and a stage changes no bit of it. A device's shard of a small
 * unit may be padding alone.
 *
 * The four stages give the same bits where a step has one micro-batch. With more, stages 0 and 1 add over the micro-batches
 * first and over devices then, 2 and 3 the other way round, because nobody keeps a whole gradient to add to: two groups,
 * each with bits of its own. In bf16 (Params.type) stage 3 gathers bf16: each shard is cast, then gathered, half the bytes.
 * Vectors, which ops want as reals, stay on every device, and are renewed after each update by an all-reduce of the pieces.
 * Stages 1 and 2 gather f32 all the same, as every device keeps whole f32 weights there, and casts its copies from them: with
 * bf16 they would keep their shard alone, and be stage 3 with every unit kept. Gradients are reduced in f32 in all stages.
 * With reduce_once 2 and 3 do as 1 does: the same bits again, less is sent, and as much is kept. */
#ifndef FSDP_H
#define FSDP_H

#include "common/comm/comm.h"
#include "common/config/config.h"
#include "common/tensor/param.h"

typedef struct Fsdp Fsdp;

typedef struct {
    int stage;
    bool
        reduce_once; /* stages 2, 3: whole gradients are kept over a step's micro-batches, and reduced once */
    int prefetch;    /* stage 3: so many units are gathered ahead of the one that computes */
    bool overlap;    /* gradients are reduced while backward goes on; false: the device waits for each */
    const char *keep; /* stage 3: units that stay gathered until the update, "blocks.3,head"; NULL: none */
    const Params
        *whole;   /* where a device has a part of a model alone: all of it, as `keep` may name a unit of
                            another device; NULL: the parameters are all */
    Comm *shards; /* the devices that shards are cut for, each with its slice of one batch */
    Comm *copies; /* those with the same shard and other slices (hybrid sharding); NULL: there are none */
} FsdpOptions;

/* What the flags say. */
FsdpOptions fsdp_options_of(const Config *config, Comm *shards, Comm *copies);

/* Every device of both groups calls it with the same options. The parameters get memory here, and start as they say (or
 * stay what they are, if they have been given values); from now on ops find their weights gathered. */
Fsdp *fsdp_new(Params *params, const FsdpOptions *options);
void fsdp_delete(Fsdp *f); /* before params_free */

/* What this device updates: the parameters themselves (stage 0), or the pieces of them that lie in its shards. Belongs to f. */
Params *fsdp_params(Fsdp *f);

/* Before each pass through the model: its order of units begins anew. */
void fsdp_begin(Fsdp *f);
/* ... forward alone, where that asks for units in another order than a step begins with. */
void fsdp_begin_forward(Fsdp *f);
/* After the last micro-batch's backward: returns when every gradient of fsdp_params is the sum over the devices. */
void fsdp_finish(Fsdp *f);
/* After the update: returns when every device has the new weights (or will gather them). */
void fsdp_updated(Fsdp *f);

/* Devices that should hold the same bits do; ends the program where they do not. */
void fsdp_check(Fsdp *f);

/* ---- about it ---- */

typedef struct {
    const char *name;
    int64_t elements; /* of its parameters */
    int64_t shard;    /* of each device: elements, padding included */
    bool kept;
} FsdpUnit;
int fsdp_units(const Fsdp *f);
FsdpUnit fsdp_unit(const Fsdp *f, int unit);

/* An all-gather of the pass that began last, by the queue's clock: when it was started, when its weights were wanted, and
 * when they could be read. */
typedef struct {
    int unit;
    double started, wanted, ready;
} FsdpGather;
int fsdp_gathers(const Fsdp *f);
FsdpGather fsdp_gather(const Fsdp *f, int i);

#endif
