#include "chapters/09_pipeline_parallel/pipeline.h"

#include "common/comm/clock.h"
#include "common/comm/message_ops.h"
#include "common/tensor/kernels.h"

#include <stdlib.h>

/* A micro-batch in a chunk, under way. */
typedef struct Slot Slot;
struct Slot {
    Tape *tape;
    int chunk;
    int64_t microbatch;
    Batch rows;       /* of the step's batch */
    Tensor *in;       /* from the chunk before; NULL: there is none */
    Tensor *out;      /* what the chunk's blocks made of it */
    Tensor *sent;     /* what op_send made of that; NULL: it stays here */
    Tensor *gradient; /* of what goes to the next chunk */
    Slot *next;       /* among those that are finished, or free */
};

typedef struct {
    Slot *first, *last;
    int count;
} Slots;

struct Pipeline {
    Chunks chunks;
    Device *device;
    const Plan *plan;
    StageLayers layers;
    int stage;

    Slot **under_way; /* (chunks, microbatches) */
    Slots finished;   /* whose last gradient may still be on its way */
    Slots free;
    Tape *head_tape;

    /* the step */
    const Batch *batch;
    const Tensor *seed;
    int64_t first_sample;
    Tensor losses; /* (microbatches): sums over real targets; on the stage with the head */
    ActionEvent *events;
    int64_t event_count, in_flight, most_in_flight;

    Profile *profile;
    NotFinite *found; /* NULL: nobody looks */
    double unit;
};

/* ---- slots ---- */

static void push(Slots *slots, Slot *slot) {
    slot->next = NULL;
    *(slots->first ? &slots->last->next : &slots->first) = slot;
    slots->last = slot;
    slots->count++;
}

static Slot *pop(Slots *slots) {
    Slot *slot = slots->first;
    if (!slot) return NULL;
    slots->first = slot->next;
    slots->count--;
    return slot;
}

static Slot **slot_at(const Pipeline *p, int chunk, int64_t microbatch) {
    return &p->under_way[chunk * p->plan->schedule->microbatches + microbatch];
}

/* A tape can be used again when what it sends has gone, which is waited for: so only when the other stage is known to have
 * asked for it, or both might wait for each other for ever. The one that has finished last is left alone: what it sends has
 * only begun to go. */
static Slot *slot_gone(Pipeline *p) {
    for (Slot **at = &p->finished.first; *at && *at != p->finished.last; at = &(*at)->next) {
        Slot *slot = *at;
        if (plan_gone_by(p->plan, slot->chunk, slot->microbatch) > p->event_count) continue;
        *at = slot->next;
        p->finished.count--;
        return slot;
    }
    return NULL;
}

static Slot *slot_free(Pipeline *p) {
    Slot *slot = pop(&p->free);
    if (slot) return slot;
    slot = slot_gone(p);
    if (slot) {
        tape_reset(slot->tape);
        return slot;
    }
    slot = xcalloc(1, sizeof *slot);
    slot->tape = tape_new(p->device, true);
    if (p->profile) profile_watch(p->profile, slot->tape);
    if (p->found) slot->tape->observer = not_finite_observer(p->found);
    return slot;
}

static Slot *slot_begin(Pipeline *p, const Action *a) {
    Slot *slot = slot_free(p);
    int64_t m = p->plan->schedule->microbatches, rows = tensor_rows(&p->batch->ids) / m;
    *slot = (Slot){.tape = slot->tape,
                   .chunk = a->chunk,
                   .microbatch = a->microbatch,
                   .rows = batch_rows(p->batch, a->microbatch * rows, rows)};
    slot->rows.ids.place[MESH_PIPE] = (Place){PLACE_PRIVATE, 0};
    tape_begin_microbatch(slot->tape, a->microbatch, m);
    return *slot_at(p, a->chunk, a->microbatch) = slot;
}

static void slot_end(Pipeline *p, Slot *slot) {
    *slot_at(p, slot->chunk, slot->microbatch) = NULL;
    push(&p->finished, slot);
}

static void slots_delete(Slots *slots) {
    for (Slot *slot; (slot = pop(slots));) {
        tape_delete(slot->tape);
        free(slot);
    }
}

/* ---- between two chunks ---- */

/* x, as a tensor of another tape that begins with it, or of one to which it goes back. */
static Tensor *copy_to(Tape *tape, Tensor *x) {
    tape_await(x);
    Tensor *y = tape_tensor(tape, x->name, x->type, x->shape, x);
    KERNELS(tape)->copy(QUEUE(tape), x, y);
    return y;
}

/* The chunk before is on this stage as well. */
static void take_input(Pipeline *p, Slot *slot) {
    Slot *before = *slot_at(p, slot->chunk - 1, slot->microbatch);
    slot->in = copy_to(slot->tape, before->out);
    tape_drop(before->tape, before->out);
}

static void give_gradient(Pipeline *p, Slot *slot) {
    Slot *before = *slot_at(p, slot->chunk - 1, slot->microbatch);
    before->gradient = copy_to(before->tape, slot->in->grad);
    tape_drop(slot->tape, slot->in->grad);
}

/* ---- actions ---- */

/* How early one device would come to it: it takes a micro-batch forward through all chunks and back, then the next one. */
static int64_t turn_of(const Pipeline *p, const Action *a) {
    int64_t chunks = p->plan->schedule->chunks;
    return 2 * chunks * a->microbatch + (a->kind == ACTION_FORWARD ? a->chunk : 2 * chunks - 1 - a->chunk);
}

/* What the action needs is there: it begins. */
static void action_begin(Pipeline *p, const Action *a) {
    Queue *q = &p->device->queue;
    p->events[p->event_count] = (ActionEvent){.action = *a, .begin = queue_now(q)};
    if (p->found) p->found->now = turn_of(p, a);
    /* its time is spent before what it makes is sent */
    if (p->unit > 0) clock_pass(q->clock, p->unit * (a->kind == ACTION_BACKWARD && !a->inputs_only ? 2 : 1));
}

static void action_end(Pipeline *p) { p->events[p->event_count++].end = queue_now(&p->device->queue); }

static void forward(Pipeline *p, const PlanStep *step) {
    const Action *a = &step->action;
    Slot *slot = *slot_at(p, a->chunk, a->microbatch);
    if (!slot) slot = slot_begin(p, a); /* otherwise its input has been asked for */
    if (slot->in) tape_await(slot->in);
    action_begin(p, a);
    if (chunks_here(&p->chunks, a->chunk - 1)) take_input(p, slot);
    p->most_in_flight = max64(p->most_in_flight, ++p->in_flight);
    Pass pass = {.training = true,
                 .first_sample = p->first_sample + a->microbatch * tensor_rows(&slot->rows.ids)};
    if (p->layers.pass) pass = p->layers.pass(p->layers.context, pass);
    slot->out = chunks_run(&p->chunks, slot->tape, a->chunk, &slot->rows.ids, slot->in, &pass);
    if (step->peer >= 0) {
        slot->sent = op_send(slot->tape, p->chunks.mesh, MESH_PIPE, slot->out, step->peer);
        tape_drop(slot->tape, slot->out);
    }
    action_end(p);
}

/* The last chunk's: the loss, and the gradient of the head's parameters and of its input, which is returned. */
static Tensor *run_head(Pipeline *p, Slot *slot) {
    Tape *tape = p->head_tape;
    tape_begin_microbatch(tape, slot->microbatch, slot->tape->microbatch.count);
    tape_await(slot->out);
    Tensor *x = tape_alloc(tape, sizeof *x);
    *x = *slot->out; /* the same memory; a gradient of its own */
    x->grad = NULL;
    x->readers = 1;
    profile_phase(p->profile, PHASE_FORWARD);
    Tensor *loss = model_loss(p->chunks.model, tape, x, &slot->rows.targets);
    Tensor kept = tensor_view(&p->losses, slot->microbatch, SHAPE(1));
    device_copy(p->device, kept.data, loss->data, tensor_bytes(loss));
    profile_phase(p->profile, PHASE_BACKWARD);
    tape_backward(tape, loss, p->seed);
    tape_drop(slot->tape, slot->out);
    return x->grad;
}

static void backward(Pipeline *p, const PlanStep *step) {
    const Action *a = &step->action;
    Slot *slot = *slot_at(p, a->chunk, a->microbatch);
    void (*run)(Tape *, Tensor *, const Tensor *) = a->inputs_only ? tape_backward_inputs : tape_backward;
    if (slot->gradient) tape_await(slot->gradient);
    action_begin(p, a);
    if (p->chunks.parts[a->chunk].head) {
        run(slot->tape, slot->out, run_head(p, slot));
        tape_reset(p->head_tape);
    } else if (slot->sent) {
        run(slot->tape, slot->sent, p->seed); /* from what has come back for `sent` */
    } else {
        run(slot->tape, slot->out, slot->gradient);
        tape_drop(slot->tape, slot->gradient);
    }
    if (chunks_here(&p->chunks, a->chunk - 1)) give_gradient(p, slot);
    action_end(p);
    if (a->inputs_only) return;
    p->in_flight--;
    slot_end(p, slot);
}

static void weights(Pipeline *p, const Action *a) {
    Slot *slot = *slot_at(p, a->chunk, a->microbatch);
    action_begin(p, a);
    tape_backward_params(slot->tape);
    action_end(p);
    p->in_flight--;
    slot_end(p, slot);
}

static void do_step(Pipeline *p, const PlanStep *step) {
    const Action *a = &step->action;
    Slot *slot;
    switch (step->kind) {
    case PLAN_ASK_INPUT:
        slot = slot_begin(p, a);
        slot->in = op_recv(slot->tape, p->chunks.mesh, MESH_PIPE, step->peer, &p->layers.stream);
        break;
    case PLAN_ASK_GRADIENT:
        slot = *slot_at(p, a->chunk, a->microbatch);
        slot->gradient = message_expect_gradient(slot->tape, slot->sent);
        break;
    case PLAN_ACT:
        profile_phase(p->profile, a->kind == ACTION_FORWARD ? PHASE_FORWARD : PHASE_BACKWARD);
        if (a->kind == ACTION_FORWARD) forward(p, step);
        if (a->kind == ACTION_BACKWARD) backward(p, step);
        if (a->kind == ACTION_WEIGHTS) weights(p, a);
        break;
    }
}

void pipeline_step(Pipeline *p, const Batch *batch, int64_t first_sample, const Tensor *seed) {
    Clock *clock = p->device->queue.clock;
    p->batch = batch;
    p->seed = seed;
    p->first_sample = first_sample;
    p->event_count = p->in_flight = p->most_in_flight = 0;
    if (p->unit > 0) clock_hold(clock, true);
    for (int64_t i = 0; i < p->plan->counts[p->stage]; i++) do_step(p, &p->plan->steps[p->stage][i]);
    for (Slot *slot; (slot = pop(&p->finished)); push(&p->free, slot)) tape_reset(slot->tape);
    if (p->unit > 0) clock_hold(clock, false);
}

/* ---- all of it ---- */

Pipeline *pipeline_new(const Chunks *chunks, const Plan *plan, const StageLayers *layers) {
    const Schedule *s = plan->schedule;
    ASSERT(s == chunks->schedule && s->stages == chunks->mesh->size[MESH_PIPE] &&
           !chunks->model->before_pass);
    Pipeline *p = xcalloc(1, sizeof *p);
    *p = (Pipeline){.chunks = *chunks,
                    .device = chunks->model->device,
                    .plan = plan,
                    .layers = *layers,
                    .stage = chunks->mesh->coordinate[MESH_PIPE],
                    .head_tape = tape_new(chunks->model->device, true)};
    p->layers.stream.place[MESH_PIPE] = (Place){PLACE_PRIVATE, 0};
    p->under_way = xcalloc((size_t)(s->chunks * s->microbatches), sizeof *p->under_way);
    if (chunks_here(chunks, s->chunks - 1))
        p->losses = tensor_new(p->device, MEMORY_ACTIVATIONS, "losses", TYPE_F64, SHAPE(s->microbatches));
    p->events = xcalloc((size_t)max64(s->counts[p->stage], 1), sizeof *p->events);
    return p;
}

void pipeline_delete(Pipeline *p) {
    slots_delete(&p->finished);
    slots_delete(&p->free);
    tape_delete(p->head_tape);
    free(p->under_way);
    if (p->losses.data) tensor_free(&p->losses);
    free(p->events);
    free(p);
}

const Tensor *pipeline_losses(const Pipeline *p) { return &p->losses; }

const ActionEvent *pipeline_events(const Pipeline *p, int64_t *count) {
    *count = p->event_count;
    return p->events;
}

int64_t pipeline_in_flight(const Pipeline *p) { return p->most_in_flight; }

void pipeline_watch(Pipeline *p, Profile *profile) {
    p->profile = profile;
    if (!profile) return;
    profile_watch(profile, p->head_tape);
    for (Slot *slot = p->free.first; slot; slot = slot->next) profile_watch(profile, slot->tape);
}

void pipeline_seek(Pipeline *p, NotFinite *found) {
    p->found = found;
    p->head_tape->observer = not_finite_observer(found);
    for (Slot *slot = p->free.first; slot; slot = slot->next)
        slot->tape->observer = not_finite_observer(found);
}

void pipeline_unit_cost(Pipeline *p, double seconds) { p->unit = seconds; }
