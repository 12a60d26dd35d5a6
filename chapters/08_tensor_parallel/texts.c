#include "chapters/08_tensor_parallel/texts.h"

#include "chapters/02_minigpt/prompt.h"
#include "common/cpu/device_cpu.h"
#include "common/run/snapshot.h"

#include <stdlib.h>
#include <string.h>

bool texts_sample(const Sliced *s, int64_t step, Str *text) {
    const Config *c = &s->own->config;
    Sampling sampling = {c->temperature, c->top_k,      c->top_p, min64(c->max_new_tokens, c->model.T),
                         c->seed,        (uint64_t)step};
    return generate(s->own->model, s->own->data->tokenizer, "", &sampling, text).ended;
}

/* ---- from a checkpoint, which rank 0 alone can read ---- */

/* The tokenizer of rank 0's file, on every rank: its bytes travel. path: NULL on the other ranks. */
static Tokenizer *share_tokenizer(Comm *world, const char *path) {
    size_t bytes = 0;
    char *read = path ? file_read(path, &bytes) : NULL;
    int32_t count = (int32_t)bytes;
    comm_broadcast(world, NULL, &count, 1, TYPE_I32, 0);
    int64_t words = ceil_div(count, sizeof(int32_t));
    char *all = xcalloc((size_t)words, sizeof(int32_t));
    if (read) memcpy(all, read, bytes);
    comm_broadcast(world, NULL, all, words, TYPE_I32, 0);
    char *folder = file_temp_folder("tokenizer"), *copy = xprintf("%s/tokenizer.json", folder);
    file_write(copy, all, (size_t)count);
    Tokenizer *tokenizer = tokenizer_load(copy);
    file_remove(folder);
    free(copy);
    free(folder);
    free(all);
    free(read);
    return tokenizer;
}

void texts_continue_by(const Config *config, Comm *world, const TextModel *how) {
    Config c = *config;
    Checkpoint *checkpoint = NULL;
    char *path = NULL;
    if (world->rank == 0) {
        checkpoint = checkpoint_find_latest(c.output_dir);
        CHECK(checkpoint, "train first, or name the run with --output-dir", "there is no checkpoint in '%s'",
              c.output_dir);
        path = checkpoint_path(checkpoint, "tokenizer.json");
        c.model = snapshot_model_config(checkpoint);
        c.model.dtype = config->model.dtype;
    }
    comm_broadcast(world, NULL, &c.model, sizeof c.model / sizeof(int32_t), TYPE_I32, 0);
    Model *part = how->open(how->context, &c);
    Tokenizer *tokenizer = share_tokenizer(world, path);
    snapshot_load_weights(checkpoint, world, &part->params);

    Sampling sampling = {c.temperature, c.top_k, c.top_p, c.max_new_tokens, c.seed, 0};
    Str text = {0};
    double began = now_seconds();
    Generated g = how->write(how->context, part, tokenizer, c.prompt, &sampling, &text);
    print_continuation(&text, &g, now_seconds() - began, c.model.T);
    str_free(&text);
    how->close(how->context, part);
    tokenizer_free(tokenizer);
    if (checkpoint) checkpoint_close(checkpoint);
    free(path);
}

/* ---- of which each device has a slice ---- */

typedef struct {
    const Mesh *mesh;
    Device *device;
    TensorParallel *tp;
} SlicedText;

static Model *open_slice(void *context, const Config *c) {
    SlicedText *s = context;
    sliced_check_sizes(c, s->mesh->world);
    TensorParallelOptions options = sliced_options(c);
    s->tp = tensor_parallel_new(s->mesh, &c->model, &options);
    return tensor_parallel_model(s->tp, s->device, &c->model, c->seed, false);
}

static Generated write_sliced(void *context, Model *slice, const Tokenizer *tokenizer, const char *prompt,
                              const Sampling *sampling, Str *text) {
    (void)context;
    return generate(slice, tokenizer, prompt, sampling, text);
}

static void close_slice(void *context, Model *slice) {
    SlicedText *s = context;
    model_delete(slice);
    tensor_parallel_delete(s->tp);
}

void texts_continue(const Config *config, const Mesh *mesh, Device *device) {
    SlicedText s = {.mesh = mesh, .device = device};
    texts_continue_by(config, mesh->world, &(TextModel){open_slice, write_sliced, close_slice, &s});
}
