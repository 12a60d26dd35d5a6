/* checkpoint_run: a small run for the tests of checkpoints, whose numbers all depend on the step: sets cannot
 * be taken for one another. */
#ifndef CHECKPOINT_RUN_H
#define CHECKPOINT_RUN_H

#include "common/run/checkpoint.h"
#include "tests/arrays.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>

static char *folder;

enum { WEIGHTS = 3000, BIASES = 7, MOMENTS = 5000 };

typedef struct {
    float weight[WEIGHTS], bias[BIASES], moment[MOMENTS];
} State;

static void list_arrays(State *state, NamedArray model[2], NamedArray optimizer[1]) {
    model[0] = (NamedArray){"blocks.0.weight", ARRAY_F32, 2, {30, WEIGHTS / 30}, .data = state->weight};
    model[1] = (NamedArray){"blocks.0.bias", ARRAY_F32, 1, {BIASES}, .data = state->bias};
    optimizer[0] = (NamedArray){"blocks.0.weight.m", ARRAY_F32, 1, {MOMENTS}, .data = state->moment};
}

static void fill(State *state, int64_t step) {
    for (int i = 0; i < WEIGHTS; i++) state->weight[i] = (float)(step * 10000 + i);
    for (int i = 0; i < MOMENTS; i++) state->moment[i] = (float)(-step * 10000 - i);
    for (int i = 0; i < BIASES; i++) state->bias[i] = (float)step;
}

static void save(int64_t step) {
    State state;
    NamedArray model[2], optimizer[1];
    fill(&state, step);
    list_arrays(&state, model, optimizer);
    CheckpointWriter *writer = checkpoint_begin(folder, step);
    checkpoint_put_arrays(writer, "model.safetensors", model, 2);
    checkpoint_put_arrays(writer, "optimizer.safetensors", optimizer, 1);
    json_t *json = json_pack("{s:I, s:s}", "data_position", (json_int_t)(step * 32), "preset", "tiny");
    checkpoint_put_json(writer, "state.json", json);
    json_decref(json);
    const char *path = checkpoint_put_file(writer, "tokenizer.json");
    file_write(path, "{\"model\": {}}", 13);
    checkpoint_commit(writer, 2);
}

static void read_arrays(const Checkpoint *checkpoint, const char *file, const NamedArray *wants, int count) {
    char *path = checkpoint_path(checkpoint, file);
    Safetensors *arrays = safetensors_open(path);
    for (int i = 0; i < count; i++) read_array(arrays, &wants[i]);
    safetensors_close(arrays);
    free(path);
}

/* Ends the program unless the newest set is whole and all of one step; the exit status says which: 10 + step
 * / 100. */
static void load_newest(void *argument) {
    State state, expected;
    NamedArray model[2], optimizer[1];
    (void)argument;
    list_arrays(&state, model, optimizer);
    Checkpoint *checkpoint = checkpoint_open_latest(folder);
    if (!checkpoint) exit(3);
    read_arrays(checkpoint, "model.safetensors", model, 2);
    read_arrays(checkpoint, "optimizer.safetensors", optimizer, 1);
    json_t *json = checkpoint_read_json(checkpoint, "state.json");
    char *tokenizer_path = checkpoint_path(checkpoint, "tokenizer.json"),
         *tokenizer = file_read(tokenizer_path, NULL);
    fill(&expected, checkpoint->step);
    bool same = !memcmp(&state, &expected, sizeof state) && !strcmp(tokenizer, "{\"model\": {}}") &&
                json_integer_value(json_object_get(json, "data_position")) == checkpoint->step * 32;
    exit(same ? 10 + (int)(checkpoint->step / 100) : 4);
}

static inline void save_step(void *step) { save(*(int64_t *)step); }

static char *set(int64_t step, const char *file) {
    return xprintf("%s/checkpoint/step-%06lld%s", folder, (long long)step, file);
}

static void start_anew(void) {
    char *sets = xprintf("%s/checkpoint", folder);
    file_remove(sets);
    free(sets);
}

#endif
