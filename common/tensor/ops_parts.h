/* ops_parts: what an op of one device has in common with those of several devices that do the same on slices
 * (chapters/08_tensor_parallel). */
#ifndef OPS_PARTS_H
#define OPS_PARTS_H

#include "common/tensor/tape.h"

/* y (..,N) = x (..,M) weight (M,N) [+ bias (N)], placed as x and the weight say; `op` is named where they do not fit. */
Tensor *linear_product(Tape *tape, const char *op, const Tensor *x, Param *weight, Param *bias);
/* The node of such a product: in[0] and saved[0] are x, param[0] is W, param[1] b or NULL. NULL: see tape_node. */
Node *linear_node(Tape *tape, const Op *op, Tensor *x, Param *weight, Param *bias, Tensor *y);
void linear_backward_input(Tape *tape, Node *n); /* dx += dy W^T */
void linear_backward_param(Tape *tape, Node *n); /* dW = x^T dy, db = the sum of dy's rows */
/* The same with an x that is not saved[0]. */
void linear_backward_param_of(Tape *tape, Node *n, const Tensor *x);

/* Rows of logits that a head holds at once: 256 x 50257 floats are 51 MB. */
enum { LOSS_CHUNK = 256 };

/* A head with its loss forms its gradients in the forward, for a seed of 1, so that no logits need to be kept; backward
 * scales them. */
typedef struct {
    Tensor *loss;        /* (1) in double, 0 to begin with */
    Tensor *dx;          /* like x; NULL: the tape does not record, and there are no gradients */
    Tensor dhead, dbias; /* this micro-batch's; without bias no dbias */
} HeadLoss;
HeadLoss head_loss_begin(Tape *tape, const Tensor *x, Param *head, Param *bias, int use);
/* Appends the node, of the caller's op with the two below; returns the loss. */
Tensor *head_loss_end(Tape *tape, const Op *op, Tensor *x, Param *head, Param *bias, int use,
                      const HeadLoss *formed);
void head_loss_backward_input(Tape *tape, Node *n);
void head_loss_backward_param(Tape *tape, Node *n);

#endif
