#include "common/run/snapshot.h"

#include "common/config/config_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors as the checkpoint's arrays ---- */

typedef struct {
    NamedArray *items;
    int64_t count;
} Arrays;

static void add(Arrays *arrays, const char *prefix, Tensor *t) {
    if (!t->data) return;
    arrays->items = xrealloc(arrays->items, (size_t)(arrays->count + 1) * sizeof *arrays->items);
    NamedArray *a = &arrays->items[arrays->count++];
    *a = (NamedArray){
        .name = xprintf("%s%s", prefix, t->name), .type = ARRAY_REAL, .rank = t->shape.rank, .tensor = t};
    memcpy(a->shape, t->shape.size, sizeof a->shape);
}

static Arrays weights(const Model *model) {
    Arrays arrays = {0};
    for (int i = 0; i < model->params.count; i++) add(&arrays, "", &model->params.items[i]->data);
    return arrays;
}

static Arrays moments(const Optimizer *optimizer) {
    Arrays arrays = {0};
    for (int i = 0; i < optimizer->params->count; i++) {
        add(&arrays, "m.", &optimizer->m[i]);
        add(&arrays, "v.", &optimizer->v[i]);
    }
    return arrays;
}

static void free_arrays(Arrays arrays) {
    for (int64_t i = 0; i < arrays.count; i++) free((char *)(uintptr_t)arrays.items[i].name);
    free(arrays.items);
}

/* ---- beside them ---- */

static char *hash_text(const Tokenizer *tokenizer) {
    return xprintf("%016" PRIx64, tokenizer_hash(tokenizer));
}

bool snapshot_same_tokenizer(const json_t *state, const Tokenizer *tokenizer) {
    const char *saved = json_string_value(json_object_get(state, "tokenizer_hash"));
    char *hash = hash_text(tokenizer);
    bool same = saved && strcmp(saved, hash) == 0;
    free(hash);
    return same;
}

void snapshot_check_tokenizer(const Checkpoint *checkpoint, const json_t *state, const Tokenizer *tokenizer) {
    const char *saved = json_string_value(json_object_get(state, "tokenizer_hash"));
    const char *data = json_string_value(json_object_get(json_object_get(state, "config"), "data_dir"));
    char *hash = hash_text(tokenizer);
    CHECK(snapshot_same_tokenizer(state, tokenizer),
          xprintf("go on with the data that it was trained on: %s%s; or choose another --output-dir",
                  data ? "--data-dir " : "the stories, without --data-dir", data ? data : ""),
          "'%s' was trained with another tokenizer (%s, not %s)", checkpoint->folder, saved ? saved : "none",
          hash);
    free(hash);
}

json_t *snapshot_state(const Config *config, int64_t step, const Tokenizer *tokenizer, int64_t next_window) {
    char *hash = hash_text(tokenizer);
    json_t *state =
        json_pack("{s:I, s:I, s:s, s:o}", "step", (json_int_t)step, "next_window", (json_int_t)next_window,
                  "tokenizer_hash", hash, "config", config_to_json(config));
    free(hash);
    return state;
}

void snapshot_put_state(CheckpointWriter *writer, const json_t *state, const Tokenizer *tokenizer) {
    tokenizer_save(tokenizer, checkpoint_put_file(writer, "tokenizer.json"));
    checkpoint_put_json(writer, "state.json", state);
}

void snapshot_save(const Config *config, const Model *model, const Optimizer *optimizer,
                   const Tokenizer *tokenizer, int64_t next_window) {
    Arrays w = weights(model), m = moments(optimizer);
    json_t *state = snapshot_state(config, optimizer->step, tokenizer, next_window);
    CheckpointWriter *writer = checkpoint_begin(config->output_dir, optimizer->step);
    checkpoint_put_arrays(writer, "model.safetensors", w.items, w.count);
    checkpoint_put_arrays(writer, "optimizer.safetensors", m.items, m.count);
    snapshot_put_state(writer, state, tokenizer);
    checkpoint_commit(writer, config->keep_checkpoints);
    json_decref(state);
    free_arrays(w);
    free_arrays(m);
}

ModelConfig snapshot_model_config(const Checkpoint *checkpoint) {
    char *path = checkpoint_path(checkpoint, "state.json");
    json_t *state = checkpoint_read_json(checkpoint, "state.json");
    ModelConfig config = config_model_from_json(json_object_get(state, "config"), path);
    json_decref(state);
    free(path);
    return config;
}
