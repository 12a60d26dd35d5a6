/* Small models cut over 2 and 4 devices, against tensor parallelism written out in JAX, in float64
 * (tests/fixtures/tensor_parallel.json, made by tests/reference/make_tensor_parallel_fixture.py, which says what is in it):
 * losses, whole gradients, and what each device has on the way, with its gradient; without and with sequence parallel, of
 * which all that is true without is true as well.
 *
 * TEST np: 2 4
 * TEST variants: double */
#include "common/model/whole.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"
#include "tests/reference.h"
#include "tests/tensor_parallel.h"

static const double relative = 1e-13, absolute = 1e-15; /* absolute: times the norm of the whole gradient */
static Comm *world;

/* ---- what is watched: by name the value, and its gradient once it is known ---- */

enum { MOST_WATCHED = 64 };
typedef struct {
    char name[64];
    Summary value, gradient;
    bool has_gradient;
} Watched;
typedef struct {
    Watched items[MOST_WATCHED];
    int count;
    /* what the add before last went by has a gradient from that add and, where a norm reads it too, one from the norm */
    const Tensor *residual;
    real *from_add;
    const Kernels *plain;
    double scale; /* of the loss */
} Watch;
static Watch *in_loss; /* whose step it is: kernels know no context */

static Watched *watched(Watch *w, const char *name) {
    for (int i = 0; i < w->count; i++)
        if (!strcmp(w->items[i].name, name)) return &w->items[i];
    ASSERT(w->count < MOST_WATCHED);
    Watched *item = &w->items[w->count++];
    *item = (Watched){0};
    snprintf(item->name, sizeof item->name, "%s", name);
    return item;
}

/* "blocks.0.qkv" + suffix, of a node whose output has the name of its weight, "blocks.0.qkv.weight". */
static Watched *watched_of(Watch *w, const Node *n, const char *suffix) {
    char name[64];
    const char *weight = n->out->name;
    snprintf(name, sizeof name, "%.*s%s", (int)(strrchr(weight, '.') - weight), weight, suffix);
    return watched(w, name);
}

static void take(Watched *item, const Tensor *t, bool gradient) {
    Summary s = reference_summary(item->name, t);
    if (!gradient) item->value = s;
    if (gradient) item->gradient = s, item->has_gradient = true;
}

/* The gradient of a norm's input: the norm's part of it. */
static void take_of_norm(Watch *w, Watched *item, const Tensor *x) {
    ASSERT(x && x->grad);
    Tensor own = *x->grad;
    if (x == w->residual) {
        own = tensor_new(x->device, MEMORY_ACTIVATIONS, x->name, TYPE_REAL, x->shape);
        for (int64_t i = 0; i < tensor_count(x); i++)
            set_real_at(&own, i, real_at(x->grad, i) - w->from_add[i]);
    }
    take(item, &own, true);
    if (x == w->residual) tensor_free(&own);
}

static void keep_residual(Watch *w, const Tensor *x) {
    ASSERT(x && x->grad);
    free(w->from_add);
    w->residual = x;
    w->from_add = tensor_to_host(x->grad);
}

/* Columns first .. first + count - 1 of a matrix, times `scale`. */
static void take_columns(Watched *item, const Tensor *t, int64_t first, int64_t count, double scale,
                         bool gradient) {
    int64_t rows = tensor_rows(t), columns = tensor_columns(t);
    Tensor part = tensor_new(t->device, MEMORY_ACTIVATIONS, t->name, TYPE_REAL, SHAPE(rows, count));
    for (int64_t i = 0; i < rows * count; i++)
        set_real_at(&part, i, (real)(scale * real_at(t, i / count * columns + first + i % count)));
    take(item, &part, gradient);
    tensor_free(&part);
}

/* The loss is one op: what it forms is seen where its kernels get it. */
static void exp_sums(Queue *q, Tensor *logits, int64_t words, const Tensor *top, const Tensor *targets,
                     int64_t first_row, int64_t first_id, Tensor *sums) {
    take_columns(watched(in_loss, "logits"), logits, 0, words, 1, false);
    in_loss->plain->exp_sums(q, logits, words, top, targets, first_row, first_id, sums);
    take_columns(watched(in_loss, "sum_exp"), sums, 0, 1, 1, false);
    take_columns(watched(in_loss, "picked"), sums, 1, 1, 1, false);
}

static void split_cross_entropy(Queue *q, Tensor *logits, int64_t words, const Tensor *top,
                                const Tensor *sums, const Tensor *targets, int64_t first_row,
                                int64_t first_id, Tensor *loss) {
    in_loss->plain->split_cross_entropy(q, logits, words, top, sums, targets, first_row, first_id, loss);
    take_columns(watched(in_loss, "logits"), logits, 0, words, in_loss->scale, true);
}

static void see(void *context, const Node *n, TapePhase phase) {
    Watch *w = context;
    bool gradient = phase != TAPE_FORWARD;
    const Tensor *in = n->in[0], *out = n->out;
    if (gradient) out = out->grad, in = in ? in->grad : NULL;
    if (!strcmp(n->op->name, "linear") && phase != TAPE_BACKWARD_PARAM) {
        bool rows = n->out->place[MESH_TENSOR].kind == PLACE_PARTIAL;
        take(watched_of(w, n, rows ? ".partial" : ""), out, gradient);
        if (!rows) take(watched_of(w, n, ".input"), in, gradient);
    } else if (!strcmp(n->op->name, "embedding")) {
        take(watched_of(w, n, ".partial"), out, gradient);
    } else if (!strcmp(n->op->name, "vocabulary_head_loss") && phase != TAPE_BACKWARD_PARAM) {
        take(watched(w, "head.input"), in, gradient);
    } else if (strstr(n->op->name, "norm") && phase != TAPE_BACKWARD_PARAM) {
        Watched *item = watched_of(w, n, ".input");
        gradient ? take_of_norm(w, item, n->in[0]) : take(item, in, false);
    } else if (!strcmp(n->op->name, "add") && gradient) {
        keep_residual(w, n->in[0]);
    }
}

/* ---- a step ---- */

/* Each parameter with one axis starts at 1 (the weight of a norm) or 0, and is moved by a number for each element of the
 * whole. */
static void shake(Slot *s, double size) {
    for (int i = 0; i < s->model->params.count; i++) {
        Param *p = s->model->params.items[i];
        if (p->slice.whole.rank != 1) continue;
        double start = strstr(p->name, "norm") && strstr(p->name, ".weight") ? 1 : 0;
        char *purpose = xprintf("shaken.%s", p->name);
        uint64_t stream = rng_stream(purpose);
        free(purpose);
        for (int64_t k = 0, run; k < tensor_count(&p->data); k++) {
            int64_t index = param_whole_index(p, k, &run);
            real by;
            if (index < 0) continue;
            rng_fill_uniform(s->config.seed, stream, (uint64_t)index, 1, -size, size, &by);
            set_real_at(&p->data, k, (real)(start + (double)by));
        }
    }
}

/* Forward and backward of step 0; the loss. Gradients that are Partial along `tensor` stay so. */
static double step(Slot *s, const RandomTokens *data, int64_t window, Watch *w) {
    const Config *c = &s->config;
    batch_load(&s->batch, &data->dataset, SPLIT_TRAIN, 0);
    tensor_set_scalar(&s->seed, 1 / (double)s->batch.real);
    Pass pass = {.training = true, .sequence_parallel = s->tp->options.sequence_parallel};
    if (pass.sequence_parallel)
        pass.first_token = window / s->mesh->size[MESH_TENSOR] * s->mesh->coordinate[MESH_TENSOR];
    Kernels spies = *s->device->kernels;
    spies.exp_sums = exp_sums;
    spies.split_cross_entropy = split_cross_entropy;
    w->plain = s->device->kernels;
    w->scale = 1 / (double)s->batch.real;
    in_loss = w;
    s->device->kernels = &spies;
    fsdp_begin(s->fsdp);
    s->tape->observer = (TapeObserver){.done = see, .context = w};
    Tensor *x = model_embed(s->model, s->tape, &s->batch.ids, &pass);
    x = model_blocks(s->model, s->tape, x, 0, c->model.L, &pass);
    Tensor *loss = model_loss(s->model, s->tape, x, &s->batch.targets);
    double sum = tensor_scalar(loss);
    tape_backward(s->tape, loss, &s->seed);
    tape_reset(s->tape);
    s->device->kernels = w->plain;
    free(w->from_add);
    fsdp_finish(s->fsdp);
    for (int i = 0; i < s->model->params.count && pass.sequence_parallel; i++) { /* terms of what all hold */
        const Param *p = s->model->params.items[i];
        if (p->data.place[MESH_TENSOR].kind != PLACE_REPLICATE) continue;
        take(watched(w, p->name), &p->data, false);
        take(watched(w, p->name), &p->grad[0], true);
    }
    return sum / (double)s->batch.real;
}

/* ---- held against the fixture ---- */

static double distance_of(Summary got, const json_t *want, size_t at, double allowed) {
    json_t *pair = json_pack("[f,f]", reference_at(want, at), reference_at(want, at + 1));
    double distance = reference_distance(got, pair, relative, allowed);
    json_decref(pair);
    return distance;
}

/* Lines [name, shape, device 0, device 1 ..], a device being [norm, projection, and both of the gradient]. */
static void compare_watched(const char *what, Watch *w, const json_t *lines, double allowed) {
    Furthest worst = {"none", 0};
    int values = 0, gradients = 0;
    const json_t *line;
    size_t i;
    json_array_foreach(lines, i, line) {
        const char *name = json_string_value(json_array_get(line, 0));
        const json_t *want = json_array_get(line, (size_t)world->rank + 2);
        int known = w->count;
        const Watched *got = watched(w, name);
        double distance = w->count > known ? INFINITY : distance_of(got->value, want, 0, allowed);
        values++;
        bool formed =
            strcmp(name, "sum_exp") != 0 && strcmp(name, "picked") != 0; /* it has a gradient here */
        if (formed != got->has_gradient) distance = INFINITY;
        if (got->has_gradient) distance = worse(distance, distance_of(got->gradient, want, 2, allowed));
        gradients += got->has_gradient;
        if (is_worse(worst.distance, distance)) worst = (Furthest){name, distance};
    }
    ok_on_all(world, worst.distance <= 1 && values > 4,
              "%s: %d values on each device, %d with gradients; furthest off is %s, at %.2g of the tolerance",
              what, values, gradients, worst.name, worst.distance);
}

static void compare_parameters(const char *what, const Slot *s, const json_t *json, double allowed) {
    const Params *params = &s->model->params;
    const json_t *line, *full = json_object_get(json, "gradients");
    size_t i;
    double starts = 0, gradients = 0, elements = 0;
    Tensor **data = xcalloc((size_t)params->count, sizeof *data),
           **grad = xcalloc((size_t)params->count, sizeof *grad);
    for (int k = 0; k < params->count; k++)
        data[k] = &params->items[k]->data, grad[k] = &params->items[k]->grad[0];
    json_array_foreach(json_object_get(json, "parameters"), i, line) {
        const char *name = json_string_value(json_array_get(line, 0));
        int k = 0;
        while (k < params->count && strcmp(params->items[k]->name, name) != 0) k++;
        ASSERT(k < params->count);
        Shape whole = params->items[k]->slice.whole;
        Tensor got = tensor_new(s->device, MEMORY_ACTIVATIONS, name, TYPE_REAL, whole);
        real *values = xmalloc((size_t)tensor_bytes(&got));
        whole_gather(&(Holding){world, params, data, false}, name, whole, values);
        tensor_write(&got, 0, tensor_count(&got), values);
        starts = worse(
            starts, reference_distance(reference_summary(name, &got), json_array_get(line, 2), relative, 0));
        whole_gather(&(Holding){world, params, grad, false}, name, whole, values);
        tensor_write(&got, 0, tensor_count(&got), values);
        gradients = worse(gradients, reference_distance(reference_summary(name, &got),
                                                        json_array_get(line, 3), relative, allowed));
        const json_t *want = json_object_get(full, name);
        for (size_t e = 0; e < json_array_size(want); e++)
            elements = worse(elements, fabs((double)values[e] - reference_at(want, e)) / allowed);
        free(values);
        tensor_free(&got);
    }
    free(data);
    free(grad);
    ok_on_all(world, starts <= 1 && gradients <= 1 && elements <= 10,
              "%s: %zu parameters and their gradients, at %.2g and %.2g of the tolerance%s", what, i, starts,
              gradients, full ? ", and element by element" : "");
}

/* devices: an entry of the fixture's; without: that before it, if this one is with sequence parallel. again: columns gather
 * again in backward, and what they have gathered cannot be watched. */
static void compare_case(const Mesh *mesh, json_t *json, const json_t *devices, const json_t *without,
                         bool again) {
    Config c = reference_config(json);
    c.zero_stage = 0;
    int64_t window = (int64_t)reference_number(json, "window");
    bool sequence = json_is_true(json_object_get(devices, "sequence_parallel"));
    RandomTokens data =
        random_tokens(&c, (int)reference_number(json, "skew"), reference_number(json, "masked"));
    Slot s = slot_new(&c, mesh, (TensorParallelOptions){.sequence_parallel = sequence, .gather_again = again},
                      MISTAKE_NONE);
    batch_free(&s.batch);
    s.batch = batch_new(s.device, c.micro_batch, window);
    shake(&s, reference_number(json, "shaken"));
    Watch w = {0};
    char *what = xprintf("%s%s%s", json_string_value(json_object_get(json, "name")),
                         sequence ? ", sequence parallel" : "", again ? ", gathered again" : "");
    double loss = reference_number(json, "loss"), norm = reference_number(json, "gradient_norm"),
           got = step(&s, &data, window, &w), allowed = absolute * norm;
    if (!again) compare_watched(what, &w, json_object_get(devices, "watched"), allowed);
    if (sequence && !again) compare_watched(what, &w, json_object_get(without, "watched"), allowed);
    tensor_parallel_finish(s.tp, &s.model->params);
    double got_norm =
        optimizer_grad_norm_among(s.optimizer, &(NormGroups){.slices = mesh->axis[MESH_TENSOR]});
    ok_on_all(world, fabs(got / loss - 1) <= relative && fabs(got_norm / norm - 1) <= relative,
              "%s: loss %.12g of %.12g, norm %.12g of %.12g", what, got, loss, got_norm, norm);
    compare_parameters(what, &s, json, allowed);
    free(what);
    slot_delete(&s);
}

int main(void) {
    world = ranks_world();
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    json_t *cases = reference_load("tests/fixtures/tensor_parallel.json"), *json, *devices;
    size_t i, k;
    int compared = 0;
    json_array_foreach(cases, i, json) json_array_foreach(json_object_get(json, "devices"), k, devices) {
        if (reference_number(devices, "tensor_parallel") != world->size) continue;
        bool sequence = json_is_true(json_object_get(devices, "sequence_parallel"));
        const json_t *without = json_array_get(json_object_get(json, "devices"), k - 1);
        for (int again = 0; again <= sequence; again++, compared++)
            compare_case(&mesh, json, devices, without, again);
    }
    ok(compared == 9, "three models, without and with sequence parallel, gathered again or not");
    json_decref(cases);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
