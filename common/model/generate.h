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

/* One token from logits (count), which are overwritten; random in [0, 1). */
int32_t sample_token(real *logits, int64_t count, const Sampling *sampling, double random);

#endif
