/* The training step of chapter 02 as a worker: it stays in memory with its model, and each line on its standard
 * input asks for some work, so that a driver can let it take turns with others. Answers are JSON, one line each.
 *
 *   echo "step 20" | build/bench/train --preset tiny
 *   build/bench/train --preset tiny --export build/bench/tiny      what the peers read, see tests/bench/README.md
 *
 *   step N       N training steps: {"seconds" of all N, "loss" before the last update}
 *   products N   N times the matrix products of a step, alone: {"seconds"}
 *   sgemm        {"gflops"} of a product of 2048 cubed, best of 5
 *   memory       {"accounted", "rss"}: the most that was held, in bytes */
#include "common/config/args.h"
#include "common/config/config_json.h"
#include "common/run/machine.h"
#include "common/run/report.h"
#include "common/run/safetensors.h"
#include "tests/bench/answer.h"
#include "tests/bench/products.h"
#include "tests/bench/training.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *folder;
    int64_t steps;
} Export;
static Export export = {.steps = 200};

static const Flag own[] = {
    TEXT_FLAG(Export, 0, "export", folder, 1, 4096, "FOLDER",
              "write configuration, initial weights and tokens for the peers, and leave"),
    INT_FLAG(Export, 0, "export-steps", steps, 1, 1 << 20, "steps to write tokens for"),
};

static const Program program = {
    .about = "takes training steps when its standard input asks for them",
    .example = "--preset minigpt --global-batch-size 8 --micro-batch-size 8",
    .groups = ARGS_MODEL | ARGS_BATCH | ARGS_TRAIN | ARGS_RUN,
    .own = own,
    .own_count = COUNT_OF(own),
    .values = &export,
};

/* ---- what the peers read ---- */

static NamedArray array_of(const char *name, ArrayType type, Shape shape, void *data) {
    NamedArray a = {.name = name, .type = type, .rank = shape.rank, .data = data};
    memcpy(a.shape, shape.size, sizeof a.shape);
    return a;
}

static void write_arrays(const char *folder, const char *file, const NamedArray *arrays, int64_t count) {
    char *path = xprintf("%s/%s", folder, file);
    safetensors_write(path, arrays, count, NULL);
    free(path);
}

static void export_weights(const Training *t) {
    const Params *params = &t->model->params;
    NamedArray *arrays = xcalloc((size_t)params->count, sizeof *arrays);
    for (int i = 0; i < params->count; i++) {
        Tensor *w = &params->items[i]->data;
        arrays[i] = array_of(w->name, ARRAY_REAL, w->shape, NULL);
        arrays[i].tensor = w;
    }
    write_arrays(export.folder, "model.safetensors", arrays, params->count);
    free(arrays);
}

static void export_tokens(Training *t) {
    const Config *c = &t->config;
    Shape shape = SHAPE(export.steps, c->global_batch, c->model.T);
    int64_t each = c->global_batch * c->model.T;
    size_t bytes = (size_t)each * sizeof(int32_t);
    int32_t *tokens = xmalloc((size_t) export.steps * bytes),
            *targets = xmalloc((size_t) export.steps * bytes);
    for (int64_t step = 0; step < export.steps; step++) {
        training_load(t, step);
        tensor_read(&t->batch.ids, 0, each, tokens + step * each);
        tensor_read(&t->batch.targets, 0, each, targets + step * each);
    }
    NamedArray arrays[] = {array_of("tokens", ARRAY_I32, shape, tokens),
                           array_of("targets", ARRAY_I32, shape, targets)};
    write_arrays(export.folder, "tokens.safetensors", arrays, COUNT_OF(arrays));
    free(tokens);
    free(targets);
}

/* The configuration with what follows from it. A new reference. */
static json_t *describe(const Training *t) {
    json_t *json = config_to_json(&t->config);
    int64_t per_step = t->config.global_batch * t->config.model.T;
    json_object_set_new(json, "parameters", json_integer(params_count(&t->model->params)));
    json_object_set_new(json, "flops_per_token", json_real(model_flops_per_token(t->model)));
    json_object_set_new(json, "tokens_per_step", json_integer(per_step));
    json_object_set_new(json, "threads", json_integer(t->device->queue.threads));
    json_object_set_new(json, "machine", report_machine());
    return json;
}

static void export_case(Training *t) {
    file_make_folder(export.folder);
    json_t *json = describe(t), *rates = json_array();
    for (int64_t step = 0; step < export.steps; step++)
        json_array_append_new(rates, json_real(schedule_lr(&t->config, step)));
    json_object_set_new(json, "learning_rates", rates);
    char *text = json_dumps(json, JSON_INDENT(2)), *path = xprintf("%s/case.json", export.folder);
    file_write(path, text, strlen(text));
    free(text);
    free(path);
    json_decref(json);
    export_weights(t);
    export_tokens(t);
}

/* ---- work ---- */

static double train_step(Training *t, int64_t step) {
    double loss = training_gradient(t, step);
    training_update(t, step);
    return loss;
}

/* The first step also records its products. */
static json_t *run_steps(Training *t, Products *products, int64_t count) {
    double loss = NAN, began = now_seconds();
    for (int64_t i = 0; i < count; i++) {
        bool record = t->optimizer->step == 0;
        if (record) products_record(t->device, products);
        loss = train_step(t, t->optimizer->step);
        if (record) products_record(t->device, NULL);
    }
    return json_pack("{s:f, s:f}", "seconds", now_seconds() - began, "loss", loss);
}

static json_t *run_products(Training *t, const Products *products, int64_t count) {
    double began = now_seconds();
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < products->count; j++) product_run(t->device, &products->items[j]);
    return json_pack("{s:f}", "seconds", now_seconds() - began);
}

static json_t *memory(const Training *t) {
    return json_pack("{s:I, s:I}", "accounted", (json_int_t)t->device->memory.joint_peak, "rss",
                     peak_resident());
}

static json_t *obey(Training *t, Products *products, const char *line) {
    int64_t count;
    if (sscanf(line, "step %" SCNd64, &count) == 1) return run_steps(t, products, count);
    if (sscanf(line, "products %" SCNd64, &count) == 1) return run_products(t, products, count);
    if (strcmp(line, "sgemm\n") == 0)
        return json_pack("{s:f}", "gflops", machine_peak_gflops(t->device, TYPE_REAL));
    if (strcmp(line, "memory\n") == 0) return memory(t);
    fail(2, "step N, products N, sgemm, or memory", "not a request: %s", line);
}

int main(int argc, char **argv) {
    Config config = args_parse(argc, argv, &program);
    Training t = bench_training(&config);
    if (export.folder) return export_case(&t), training_delete(&t), 0;

    Products products = {0};
    answer(describe(&t));
    char line[64];
    while (fgets(line, sizeof line, stdin)) answer(obey(&t, &products, line));
    products_free(&products);
    training_delete(&t);
    return 0;
}
