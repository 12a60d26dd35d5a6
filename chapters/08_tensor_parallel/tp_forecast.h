/* tp_forecast: what a step moves along `tensor`, by formula, to be held against what is counted. */
#ifndef TP_FORECAST_H
#define TP_FORECAST_H

#include "chapters/05_data_parallel/account.h"
#include "chapters/08_tensor_parallel/sliced.h"

/* t devices along `tensor`, d along `data`, m micro-batches of b windows, S = b T C elements: the residual stream of one.
 *
 *   a layer         4 times S a micro-batch (f and g of attention and of the feed-forward part, forward or backward; with
 *                   --recompute 6, since g runs once more, and with sequence parallel f as well)
 *   the two ends    2 times S: g behind the embedding, f before the head
 *   cross-entropy   3 b T numbers: a row's largest logit; its sum and the target's logit
 *   once a step     gradients that are Partial still, and the norm's sum
 *
 * A ring moves 2 (t-1) times an array in an all-reduce, (t-1) times in an all-gather or a reduce-scatter, summed over its
 * devices; there are d rings. With sequence parallel each of the first two is one all-gather and one reduce-scatter, forward
 * and backward; and with --gather-again a layer has 2 all-gathers of S more, 1 where devices share a key head. */
typedef struct {
    int64_t layers, ends, cross_entropy, once;     /* calls of a device: of all kinds */
    double all_reduce, all_gather, reduce_scatter; /* bytes that all devices send along `tensor` */
    double cross_entropy_bytes;                    /* of these */
    double gathered_logits;                        /* what an all-gather of the logits would send instead */
} TpForecast;

/* Of a model's part: so many layers, and which ends; own: of those along `data` that have the same. */
TpForecast tp_forecast_of_part(const TensorParallel *tp, const Sharded *own, int64_t layers, bool embeds,
                               bool heads);
/* Of the column linears of a layer, those that gather again in backward: a step gathers so many times L S more. */
int64_t tp_gathers_again(const Config *c, int t);

/* Prints both tables: what is kept on this device and sent by all, predicted and measured; of the last step. Every rank calls it. */
void tp_forecast_print(const Sliced *s, const Account *account);

#endif
