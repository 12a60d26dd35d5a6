#include "chapters/09_pipeline_parallel/chunks.h"

#include "common/comm/message_ops.h"

bool chunks_here(const Chunks *c, int chunk) {
    const Schedule *s = c->schedule;
    return chunk >= 0 && chunk < s->chunks && s->stage_of[chunk] == c->mesh->coordinate[MESH_PIPE];
}

Tensor *chunks_run(const Chunks *c, Tape *tape, int chunk, Tensor *ids, Tensor *x, const Pass *pass) {
    const ModelPart *part = &c->parts[chunk];
    if (part->embedding) x = model_embed(c->model, tape, ids, pass);
    return model_blocks(c->model, tape, x, part->from, part->to, pass);
}

/* ids (b,t) through all chunks, on a tape that does not record: what the last one makes of them (b,t,C), on its stage; NULL
 * on the others. */
static Tensor *forward(const Chunks *c, Tape *tape, Tensor *ids, const Pass *pass) {
    const Schedule *s = c->schedule;
    const int64_t *size = ids->shape.size;
    Tensor *x = NULL, like = {.name = "x",
                              .type = model_type(&c->model->config),
                              .shape = SHAPE(size[0], size[1], c->model->config.C)};
    like.place[MESH_PIPE] = ids->place[MESH_PIPE] = (Place){PLACE_PRIVATE, 0};
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        if (!chunks_here(c, chunk)) continue;
        if (chunk > 0 && !chunks_here(c, chunk - 1))
            x = op_recv(tape, c->mesh, MESH_PIPE, s->stage_of[chunk - 1], &like);
        x = chunks_run(c, tape, chunk, ids, x, pass);
        if (chunk + 1 == s->chunks) {
            tape_await(x); /* without blocks nothing has waited for it */
            return x;
        }
        if (chunks_here(c, chunk + 1)) continue;
        op_send(tape, c->mesh, MESH_PIPE, x, s->stage_of[chunk + 1]);
        tape_drop(tape, x);
    }
    return NULL;
}

/* ---- evaluation: the stage with the head knows the loss, and the others add 0 ---- */

static const Tensor *batch_loss(void *context, Tape *tape, Batch *batch) {
    const Chunks *c = context;
    Pass pass = {0};
    Tensor *x = forward(c, tape, &batch->ids, &pass);
    return x ? model_loss(c->model, tape, x, &batch->targets) : NULL;
}

double chunks_evaluate(Chunks *c, const Dataset *data, int64_t windows, int64_t rows) {
    double loss = evaluate_by(batch_loss, c, c->model, data, windows, rows, c->mesh->axis[MESH_DATA]);
    Queue host = queue_of_host(&c->model->device->queue);
    comm_all_reduce(c->mesh->axis[MESH_PIPE], &host, &loss, &loss, 1, TYPE_F64, REDUCE_SUM);
    return loss;
}

/* ---- text: it knows what comes next, and tells the others, who draw the same token from that ---- */

static void next_logits(void *context, Tape *tape, Tensor *ids, const Pass *pass, real *logits) {
    const Chunks *c = context;
    const Schedule *s = c->schedule;
    Tensor *x = forward(c, tape, ids, pass);
    if (x) model_next_logits(c->model, tape, x, logits);
    Queue host = queue_of_host(&c->model->device->queue);
    comm_broadcast(c->mesh->axis[MESH_PIPE], &host, logits, c->model->config.V, TYPE_REAL,
                   s->stage_of[s->chunks - 1]);
}

Generated chunks_generate(Chunks *c, const Tokenizer *tokenizer, const char *prompt, const Sampling *sampling,
                          Str *text) {
    return generate_by(next_logits, c, c->model, tokenizer, prompt, sampling, text);
}
