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

/* Each rank's slices of the weights that rank 0 reads, on its host, where the model must fit as a whole. */
static void load_slices(const Checkpoint *checkpoint, const Tokenizer *tokenizer, Model *slice, Comm *world) {
    Device *host = device_new_cpu(0);
    Model *whole = model_new(checkpoint ? host : NULL, &slice->config, slice->seed, &layers_serial);
    if (checkpoint) snapshot_load(checkpoint, whole, NULL, tokenizer);
    const Params *held = &slice->params;
    Tensor **tensors = xcalloc((size_t)held->count, sizeof *tensors);
    for (int i = 0; i < held->count; i++) tensors[i] = &held->items[i]->data;
    Holding holding = {world, held, tensors, false};
    for (int i = 0; i < whole->params.count; i++) {
        const Tensor *t = &whole->params.items[i]->data;
        real *elements = checkpoint ? tensor_to_host(t) : xmalloc((size_t)tensor_count(t) * sizeof *elements);
        whole_scatter(&holding, whole->params.items[i]->name, t->shape, elements);
        free(elements);
    }
    free(tensors);
    model_delete(whole);
    device_delete(host);
}

void texts_continue(const Config *config, const Mesh *mesh, Device *device) {
    Config c = *config;
    Comm *world = mesh->world;
    Checkpoint *checkpoint = NULL;
    char *path = NULL;
    if (world->rank == 0) {
        checkpoint = checkpoint_open_latest(c.output_dir);
        CHECK(checkpoint, "train first, or name the run with --output-dir", "there is no checkpoint in '%s'",
              c.output_dir);
        path = checkpoint_path(checkpoint, "tokenizer.json");
        c.model = snapshot_model_config(checkpoint);
    }
    comm_broadcast(world, NULL, &c.model, sizeof c.model / sizeof(int32_t), TYPE_I32, 0);
    sliced_check_sizes(&c, world);
    Tokenizer *tokenizer = share_tokenizer(world, path);
    TensorParallelOptions options = sliced_options(&c);
    TensorParallel *tp = tensor_parallel_new(mesh, &c.model, &options);
    Model *slice = tensor_parallel_model(tp, device, &c.model, c.seed, false);
    load_slices(checkpoint, tokenizer, slice, world);

    Sampling sampling = {c.temperature, c.top_k, c.top_p, c.max_new_tokens, c.seed, 0};
    Str text = {0};
    double began = now_seconds();
    Generated g = generate(slice, tokenizer, c.prompt, &sampling, &text);
    print_continuation(&text, &g, now_seconds() - began, c.model.T);
    str_free(&text);
    model_delete(slice);
    tensor_parallel_delete(tp);
    tokenizer_free(tokenizer);
    if (checkpoint) checkpoint_close(checkpoint);
    free(path);
}
