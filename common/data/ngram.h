/* ngram: an interpolated trigram model, the line that anything worth training must pass.
 *
 * Modified Kneser-Ney smoothing (Chen and Goodman, "An empirical study of smoothing techniques for language
 * modeling", 1999, section 3): each count gives up a discount that depends on whether it is 1, 2 or more, and
 * what is saved goes to the bigram, whose counts are "in how many contexts", then to the unigram, then to all
 * tokens alike. Probabilities over the vocabulary sum to 1 in every context. */
#ifndef NGRAM_H
#define NGRAM_H

#include "common/base/base.h"

typedef struct Ngram Ngram;

enum { NGRAM_NONE = -1 }; /* a token of the context that is not known */

/* Counts the trigrams of tokens[0 .. count-1], each below vocab_size (at most 2^21). */
Ngram *ngram_train(const int32_t *tokens, int64_t count, int64_t vocab_size);
void ngram_free(Ngram *ngram);

/* P(c | a b): the token a came before b, and b before c. a, or both, may be NGRAM_NONE. */
double ngram_probability(const Ngram *ngram, int32_t a, int32_t b, int32_t c);

/* The mean of -ln P(targets[t] | tokens[t-1] tokens[t]), in nats, over the targets of a window of T that are
 * >= 0; *counted is how many those are. */
double ngram_loss(const Ngram *ngram, const int32_t *tokens, const int32_t *targets, int64_t T,
                  int64_t *counted);

#endif
