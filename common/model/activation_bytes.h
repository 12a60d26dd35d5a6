/* activation_bytes: the most memory that the activations of a training step take on one device, by formula.
 *
 * A block is a chain of ops. Backward undoes it from its end, and frees as it goes: when it comes to an op, what that op and
 * those before it keep for backward is there, and no more. Beside it are gradients: of the op's output, of its input, and,
 * while a branch is undone, of the residual stream that passes it by. So
 *
 *   backward of op i  =  sum of keeps over the ops up to i  +  gradients(i)  +  scratch(i)
 *
 * Forward is never higher than that, as its values are as many as these gradients; but for the head, which forms its
 * gradients in forward, logits of some rows at a time. The last block stands on all that the others keep, so the peak is
 * the largest of a few sums: backward of each op of the last block and of what follows it, the head's forward, and, between
 * steps, the sums of squares of the norm.
 *
 * What a block keeps, in units of B T C numbers, with F = 4 C, as many key heads as heads, and no small things (statistics of
 * rows, log-sum-exp, 4 + H numbers a token), beside Korthikanti et al. 2022, whose numbers have 2 bytes:
 *
 *                          t = 1                                 tensor             tensor, sequence
 *   input of each norm     2                                     2                  2/t
 *   input of qkv, ffn_up   2                                     2                  2/t
 *   qkv, attention's out   3 + 1                                 4/t                4/t
 *   input, output of gelu  4 + 4                                 8/t                8/t
 *   here                   16                                    4 + 12/t           16/t
 *   2 bytes each           32 s b h                              (8 + 24/t) s b h   32/t s b h
 *   theirs                 34 s b h + 5 a s^2 b                  10 + 24/t + ..     34/t + ..
 *
 * Masks of dropout (2 s b h of theirs) are drawn again here, and scores (5 a s^2 b) formed again, so neither is kept. With
 * sequence parallel the input of qkv and ffn_up is kept in slices, as theirs, and gathered again in backward. Without
 * gather_again it is kept as it was gathered: 2 numbers, and a block 2 + 14/t; where devices share a key head (K < t), that of
 * qkv always is. With swiglu gate and up are two inputs: F more. Post-norm keeps as much as pre-norm. With tensor
 * parallel layers, a norm's output and its copy for the columns are two, unless the product gathers or copies for itself;
 * the copy is kept. */
#ifndef ACTIVATION_BYTES_H
#define ACTIVATION_BYTES_H

#include "common/config/config.h"
#include "common/tensor/device.h"

typedef struct {
    int64_t windows;      /* B: of a micro-batch */
    int64_t microbatches; /* on this device, in a step */
    int64_t tensor;       /* devices along that axis, with the layers of chapter 08; 0: those of one device */
    bool sequence_parallel; /* of chapter 08 ... */
    bool gather_again;      /* ... with it, and as --gather-again has it */
    bool overlap;           /* ... as --overlap-tensor has it */
    bool recompute;
    int64_t square_blocks; /* partial sums of the norm: optimizer_square_blocks */
} ActivationCase;

typedef struct {
    int64_t peak;   /* bytes: the most that MEMORY_ACTIVATIONS holds in a step */
    const char *at; /* when: an op, in backward unless it says otherwise; not to be freed */
    int64_t fixed;  /* bytes that are always there: batch, table of rotary positions, numbers of the step */
    int64_t kept;   /* bytes that a block keeps for its backward; recomputed: its input */
} ActivationBytes;

/* A moment that can be the peak. */
enum { ACTIVATION_ROWS = 32, ACTIVATION_MOMENTS = ACTIVATION_ROWS + 2 };
typedef struct {
    const char *at;
    int64_t keeps;   /* bytes that the op keeps for backward, and nobody before it does */
    int64_t scratch; /* bytes of them that a kernel takes, and gives back at once */
    int64_t bytes;   /* all that is there then */
} ActivationMoment;

/* For each: the model can be cut over c->tensor devices; `device` says what its kernels take as scratch. Not counted: the
 * caches of text that is generated between steps. */
ActivationBytes activation_bytes(const ModelConfig *model, const ActivationCase *c, const Device *device);
/* Backward of each op of the last block and of what follows it, in the order of forward; then the head's forward and the
 * sums of squares. Returns how many. */
int activation_moments(const ModelConfig *model, const ActivationCase *c, const Device *device,
                       ActivationMoment to[ACTIVATION_MOMENTS]);

#endif
