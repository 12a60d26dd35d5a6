#include "chapters/09_pipeline_parallel/pp_texts.h"

#include "chapters/08_tensor_parallel/texts.h"
#include "chapters/09_pipeline_parallel/chunks.h"
#include "chapters/09_pipeline_parallel/stages.h"

#include <stdlib.h>

typedef struct {
    Device *device;
    ModelPart *parts; /* (chunks) */
    Chunks chunks;
    Tensor *weights; /* of the parameters, in their order */
    MakeModel *make;
    void *make_context;
} StagedText;

static Model *open_parts(void *context, const Config *c) {
    StagedText *s = context;
    const Schedule *schedule = s->chunks.schedule;
    ModelPart *own = xcalloc((size_t)schedule->chunks, sizeof *own);
    s->parts = xcalloc((size_t)schedule->chunks, sizeof *s->parts);
    stages_cut(&c->model, schedule, s->parts);
    Model *model = s->make(s->make_context, c, s->device);
    model_keep(model, own, stages_parts_of(schedule, s->parts, s->chunks.mesh->coordinate[MESH_PIPE], own));
    s->weights = xcalloc((size_t)max64(model->params.count, 1), sizeof *s->weights);
    for (int i = 0; i < model->params.count; i++) {
        Param *p = model->params.items[i];
        s->weights[i] = tensor_new(s->device, MEMORY_PARAMETERS, p->name, TYPE_REAL, p->data.shape);
        param_place_data(p, &s->weights[i], 0);
    }
    s->chunks.model = model;
    s->chunks.parts = s->parts;
    free(own);
    return model;
}

static Generated write_together(void *context, Model *part, const Tokenizer *tokenizer, const char *prompt,
                                const Sampling *sampling, Str *text) {
    (void)part;
    StagedText *s = context;
    return chunks_generate(&s->chunks, tokenizer, prompt, sampling, text);
}

static void close_parts(void *context, Model *part) {
    StagedText *s = context;
    for (int i = 0; i < part->params.count; i++) tensor_free(&s->weights[i]);
    model_delete(part);
    free(s->weights);
    free(s->parts);
}

void pp_texts_continue_of(const Config *config, const Mesh *mesh, const Schedule *schedule, Device *device,
                          MakeModel *make, void *context) {
    StagedText s = {.device = device,
                    .chunks = {.mesh = mesh, .schedule = schedule},
                    .make = make,
                    .make_context = context};
    texts_continue_by(config, mesh->world, &(TextModel){open_parts, write_together, close_parts, &s});
}

static Model *serial_model(void *context, const Config *c, Device *device) {
    (void)context;
    return model_new_of(device, &c->model, c->seed, &layers_serial, NULL, true);
}

void pp_texts_continue(const Config *config, const Mesh *mesh, const Schedule *schedule, Device *device) {
    pp_texts_continue_of(config, mesh, schedule, device, serial_model, NULL);
}
