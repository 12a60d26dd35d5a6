/* prompt: the model of a run's newest checkpoint goes on with a text. */
#ifndef PROMPT_H
#define PROMPT_H

#include "common/config/config.h"
#include "common/model/generate.h"

/* Prints config->prompt and what the model adds, then the speed. The model is the checkpoint's,
 * whatever the flags. */
void continue_prompt(const Config *config);
/* The text of a model with a window of T tokens, and how fast it came. */
void print_continuation(const Str *text, const Generated *g, double seconds, int64_t T);

#endif
