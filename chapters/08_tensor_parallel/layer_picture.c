#include "chapters/08_tensor_parallel/layer_picture.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "common/comm/clock.h"
#include "common/run/machine.h"
#include "common/draw/boxes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a device did from `begin` to `end`: the kernels of one op, or a collective. */
typedef struct {
    char name[24];
    int color; /* as boxes.h has it */
    double begin, end;
} Span;

enum { MOST_SPANS = 512, PRODUCT = 1, ATTENTION = 2, OTHER = 3, COLLECTIVE = 5 };

typedef struct {
    Span kernels[MOST_SPANS], collectives[MOST_SPANS];
    int kernel_count, collective_count;
    int named;            /* kernels that have been given the name of their op */
    double began, turned; /* forward, backward */
} Story;

/* ---- told by the device, by the group, and by the tape ---- */

static void kernel_done(void *context, const KernelCall *call) {
    Story *s = context;
    if (s->kernel_count == MOST_SPANS) return;
    int color = strcmp(call->kernel, "matmul") == 0          ? PRODUCT
                : strncmp(call->kernel, "attention", 9) == 0 ? ATTENTION
                                                             : OTHER;
    Span *last = s->kernel_count > s->named ? &s->kernels[s->kernel_count - 1] : NULL;
    if (last && last->color == color && call->begin - last->end < 1e-12)
        last->end = call->end; /* the same op goes on */
    else
        s->kernels[s->kernel_count++] = (Span){.color = color, .begin = call->begin, .end = call->end};
}

static void call_done(void *context, const CommEvent *event) {
    Story *s = context;
    static const char *const names[COMM_KINDS] = {"all-reduce", "all-gather", "reduce-scatter"};
    if (s->collective_count == MOST_SPANS || !names[event->call.kind]) return;
    Span *span = &s->collectives[s->collective_count++];
    *span = (Span){.color = COLLECTIVE + (int)event->call.kind, .begin = event->begin, .end = event->end};
    snprintf(span->name, sizeof span->name, "%s", names[event->call.kind]);
}

/* "qkv" where the output or the weight is "blocks.0.qkv.weight", otherwise the op's name; in backward with what is formed. */
static void node_done(void *context, const Node *node, TapePhase phase) {
    Story *s = context;
    const char *suffix[] = {
        [TAPE_FORWARD] = "", [TAPE_BACKWARD_INPUT] = " dx", [TAPE_BACKWARD_PARAM] = " dW"};
    const char *name = node->op->name, *full = node->param[0] ? node->param[0]->name : node->out->name;
    int length = (int)strlen(name), block = 0;
    sscanf(full, "blocks.0.%n", &block);
    if (block) name = full + block, length = (int)strcspn(name, ".");
    for (; s->named < s->kernel_count; s->named++)
        snprintf(s->kernels[s->named].name, sizeof s->kernels[0].name, "%.*s%s", length, name, suffix[phase]);
}

/* ---- one block ---- */

static Tensor *block_input(Tape *tape, const TensorParallel *tp, const Config *c) {
    int64_t T = c->model.T;
    if (c->sequence_parallel) T /= tp->mesh->size[MESH_TENSOR];
    Tensor *x = tape_tensor(tape, "x", model_type(&c->model), SHAPE(c->micro_batch, T, c->model.C), NULL);
    if (c->sequence_parallel) x->place[MESH_TENSOR] = (Place){PLACE_SHARD, 1};
    tape->device->kernels->zero(&tape->device->queue, x); /* no time depends on what is in it */
    return x;
}

/* Forward and backward of one block on this device, among those along `tensor`. */
static void tell(const Config *config, const Mesh *mesh, Story *story) {
    Config c = *config;
    c.model.L = 1;
    Clock clock;
    Device *device = machine_clock_device(&c, 0, &clock, device_model(c.device_model));
    TensorParallelOptions options = sliced_options(&c);
    TensorParallel *tp = tensor_parallel_new(mesh, &c.model, &options);
    Model *model = tensor_parallel_model(tp, device, &c.model, c.seed, false);
    Tape *tape = tape_new(device, true);
    Tensor *x = block_input(tape, tp, &c);
    Tensor grad = tensor_new(device, MEMORY_ACTIVATIONS, "gradient", x->type, x->shape);
    device->kernels->zero(&device->queue, &grad);

    Meter meter = {.done = kernel_done, .context = story};
    meter_attach(device, &meter);
    mesh->axis[MESH_TENSOR]->observer = (CommObserver){.done = call_done, .context = story};
    tape->observer = (TapeObserver){.done = node_done, .context = story};
    Pass pass = tensor_parallel_pass(tp, &c.model, (Pass){.training = true});
    story->began = clock.now;
    Tensor *y = model_blocks(model, tape, x, 0, 1, &pass);
    story->turned = clock.now;
    tape_backward(tape, y, &grad);
    mesh->axis[MESH_TENSOR]->observer = (CommObserver){0};
    meter_detach(device, &meter);
    tensor_free(&grad);
    tape_delete(tape);
    model_delete(model);
    tensor_parallel_delete(tp);
    clock_detach(&clock);
    device_delete(device);
}

/* ---- the picture ---- */

/* in the units of boxes.h */
static const double WIDE = 26, LANE = 0.75, STORY = 3.3, LEFT = 0.5, TOP = 0.6, LETTER = 0.135;

typedef struct {
    Box *boxes;
    int count;
} Boxlist;

static void add(Boxlist *l, Box box) {
    l->boxes = xrealloc(l->boxes, (size_t)(l->count + 1) * sizeof *l->boxes);
    l->boxes[l->count++] = box;
}

static void add_lane(Boxlist *l, const Span *spans, int count, const Story *s, double y, double scale) {
    for (int i = 0; i < count; i++) {
        double x = LEFT + (spans[i].begin - s->began) * scale,
               width = (spans[i].end - spans[i].begin) * scale;
        bool fits = width > LETTER * (double)strlen(spans[i].name);
        add(l, (Box){x, y, width, LANE, spans[i].color, fits ? spans[i].name : NULL, 9});
        add(l, (Box){x, y, width, LANE, 0, NULL, 0});
    }
}

static double end_of(const Story *s) {
    double end = s->began;
    for (int i = 0; i < s->kernel_count; i++) end = fmax(end, s->kernels[i].end);
    for (int i = 0; i < s->collective_count; i++) end = fmax(end, s->collectives[i].end);
    return end;
}

static void add_title(Boxlist *l, const char *title, double y) {
    add(l, (Box){LEFT, y - 0.55, 1.25 * LETTER * (double)strlen(title), 0.5, -1, title, 12});
}

static void add_story(Boxlist *l, const Story *s, const char *title, double y, double scale) {
    double turned = LEFT + (s->turned - s->began) * scale, end = LEFT + (end_of(s) - s->began) * scale;
    add_title(l, title, y);
    add_lane(l, s->kernels, s->kernel_count, s, y, scale);
    add_lane(l, s->collectives, s->collective_count, s, y + LANE, scale);
    add(l, (Box){LEFT, y + 2 * LANE, turned - LEFT, 0.4, -1, "forward", 10});
    add(l, (Box){turned, y + 2 * LANE, end - turned, 0.4, -1, "backward", 10});
    add(l, (Box){turned, y - 0.12, 0.02, 2 * LANE + 0.5, 0, NULL, 0}); /* a line between the two */
}

/* What the colours say, in a row. */
static void add_key(Boxlist *l, double y) {
    static const char *const names[] = {"product",    "attention",  "other kernels", NULL,
                                        "all-reduce", "all-gather", "reduce-scatter"};
    double x = LEFT;
    for (int i = 0; i < (int)COUNT_OF(names); i++) {
        if (!names[i]) continue;
        add(l, (Box){x, y, 0.8, 0.45, i + 1, NULL, 0});
        add(l, (Box){x + 0.9, y, 1.2 * LETTER * (double)strlen(names[i]), 0.45, -1, names[i], 10});
        x += 1.4 + 1.2 * LETTER * (double)strlen(names[i]);
    }
}

void layer_draw(const Config *config, Comm *world) {
    Config c = *config;
    c.micro_batch = c.global_batch / c.data_parallel;
    c.model.dropout = 0;
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){c.data_parallel, 1, (int)c.tensor_parallel});
    enum { STORIES = 3 };
    static const char *const names[] = {"plain", "--sequence-parallel", "--overlap-tensor 4"};
    Story *stories = xcalloc(STORIES, sizeof *stories);
    double longest = 0;
    for (int i = 0; i < STORIES; i++) {
        c.sequence_parallel = i == 1;
        c.overlap_tensor = i == 2 ? 4 : 1;
        if (i == 1 && c.model.T % c.tensor_parallel) continue;
        tell(&c, &mesh, &stories[i]);
        longest = fmax(longest, end_of(&stories[i]) - stories[i].began);
    }
    Boxlist list = {0};
    char *titles[STORIES];
    for (int i = 0; i < STORIES; i++) {
        if (stories[i].kernel_count == 0) {
            titles[i] = xprintf("%s: the devices do not divide the sequence", names[i]);
            add_title(&list, titles[i], TOP + 0.4 + STORY * i);
            continue;
        }
        double micro = 1e6 * (end_of(&stories[i]) - stories[i].began);
        titles[i] = xprintf("%s: %.4g microseconds", names[i], micro);
        add_story(&list, &stories[i], titles[i], TOP + 0.4 + STORY * i, WIDE / longest);
    }
    add_key(&list, TOP + STORY * STORIES - 0.2);
    char *title =
        xprintf("One block on device 0 of %d along tensor, clock of %s: kernels above, collectives below",
                mesh.size[MESH_TENSOR], c.device_model);
    char *path = xprintf("%s/layer.png", c.output_dir);
    Boxes picture = {title, list.boxes, list.count, WIDE + 2 * LEFT, TOP + STORY * STORIES + 0.6, 52};
    if (world->rank == 0) boxes_draw(&picture, path);
    for (int i = 0; i < STORIES; i++) free(titles[i]);
    free(title);
    free(path);
    free(list.boxes);
    free(stories);
    mesh_close(&mesh);
}
