/* texts: what a model writes of which each device holds a slice. All devices of the mesh generate together, the same tokens:
 * each forms its slice of the logits, op_gather puts them together, and everyone draws the same number. */
#ifndef TEXTS_H
#define TEXTS_H

#include "chapters/08_tensor_parallel/sliced.h"

/* Appends text by the model as it is now; the draw moves with the step, as chapter 02's. Every rank of the mesh calls it.
 * Returns whether the model ended the text itself. */
bool texts_sample(const Sliced *s, int64_t step, Str *text);

/* Rank 0 reads the newest checkpoint in config->output_dir, each device takes its slice, and they go on with config->prompt.
 * The model is the checkpoint's, whatever the flags. Every rank of the mesh calls it. */
void texts_continue(const Config *config, const Mesh *mesh, Device *device);

/* ... where each device has another kind of part of the model. */
typedef struct {
    /* This device's part of the model in `config`, with memory; what cannot be cut is refused. */
    Model *(*open)(void *context, const Config *config);
    Generated (*write)(void *context, Model *part, const Tokenizer *tokenizer, const char *prompt,
                       const Sampling *sampling, Str *text);
    void (*close)(void *context, Model *part);
    void *context;
} TextModel;
void texts_continue_by(const Config *config, Comm *world, const TextModel *how);

#endif
