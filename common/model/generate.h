/* generate: text from a model, token by token. Keys and values of the tokens so far are cached, so a new
 * token costs one token's work plus attention over the cache. */
#ifndef GENERATE_H
#define GENERATE_H

#include "common/model/model.h"
#include "common/data/tokenizer.h"

typedef struct {
    double temperature; /* 0: always the most likely token */
    int64_t top_k;      /* only the k most likely; 0: all */
    double top_p;       /* only the most likely that together reach p (Holtzman et al. 2020); 1: all */
    int64_t max_new_tokens;
    uint64_t seed, draw; /* the text is a function of both; another draw, another text */
} Sampling;

typedef struct {
    int64_t prompt_tokens, new_tokens;
    bool ended;     /* the model wrote the end of the text */
    int64_t slides; /* how often the window was full: its last half was kept and read again, and the text went
                       on */
} Generated;

/* Appends the prompt and its continuation to *text, after an end-of-text token that starts the document. A
 * prompt longer than the window counts with its last half window only. */
Generated generate(Model *model, const Tokenizer *tokenizer, const char *prompt, const Sampling *sampling,
                   Str *text);
/* ... of a model that is not on this device as a whole. next: the logits (V) of the token behind ids (1,t), in a forward on
 * this tape; model_next_logits takes them from the output x (1,t,C) of the last block, where that is. */
typedef void (*NextLogits)(void *context, Tape *tape, Tensor *ids, const Pass *pass, real *logits);
Generated generate_by(NextLogits next, void *context, Model *model, const Tokenizer *tokenizer,
                      const char *prompt, const Sampling *sampling, Str *text);
void model_next_logits(Model *model, Tape *tape, const Tensor *x, real *logits);

/* One token from logits (count), which are overwritten; random in [0, 1). */
int32_t sample_token(real *logits, int64_t count, const Sampling *sampling, double random);

#endif
