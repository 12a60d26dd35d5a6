/* prompt: the model of a run's newest checkpoint goes on with a text. */
#ifndef PROMPT_H
#define PROMPT_H

#include "common/config/config.h"

/* Prints config->prompt and what the model adds, then the speed. The model is the checkpoint's,
 * whatever the flags. */
void continue_prompt(const Config *config);

#endif
