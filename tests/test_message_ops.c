/* op_send and op_recv do not wait: large tensors that cross, several at once, read in another order than they were sent;
 * what was sent is kept for as long as it is needed; gradients are asked for ahead; a GPT cut into stages has the gradients of one device, to the bit, in
 * any order of forward and backward; by the model clock a message and the work meanwhile take the longer of the two times.
 *
 * TEST np: 1 2 3 5
 * TEST variants: float double asan */
#include "common/comm/clock.h"
#include "common/comm/message_ops.h"
#include "tests/ranks.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;
static Device *device;
static Mesh mesh; /* all ranks along "pipe" */

enum { SEVERAL = 3, LARGE = 700001 }; /* LARGE: more than waits anywhere for its recv, in floats */
static const Place private = {PLACE_PRIVATE, 0};

/* ---- values: element i of the message k of a rank ---- */

static real value(int rank, int k, int64_t i) { return (real)(rank * 1000 + k * 100 + (int)(i % 89)); }

static Tensor leaf_new(const char *name, int rank, int k, int64_t count) {
    Tensor t = tensor_new(device, MEMORY_PARAMETERS, name, TYPE_REAL, SHAPE(count));
    real *values = xmalloc((size_t)tensor_bytes(&t));
    for (int64_t i = 0; i < count; i++) values[i] = value(rank, k, i);
    tensor_write(&t, 0, count, values);
    free(values);
    t.place[MESH_PIPE] = private;
    return t;
}

static bool is_value(const Tensor *t, int rank, int k, real times) {
    bool good = true;
    real *values = tensor_to_host(t);
    for (int64_t i = 0; i < tensor_count(t); i++) good &= values[i] == times * value(rank, k, i);
    free(values);
    return good;
}

/* Takes the memory that was freed last, and spoils it. */
static void spoil(Tape *tape, int64_t count) {
    for (int k = 0; k < 2 * SEVERAL; k++) {
        Tensor *t = tape_tensor(tape, "spoiled", TYPE_REAL, SHAPE(count), NULL);
        fill_constant(t, (real)NAN);
    }
}

/* ---- messages that cross ---- */

/* Everyone sends to the next rank what it drops at once, and reads what comes from the one before last message first.
 * Backward: the gradients cross in the same way. */
static void crossing(int64_t count) {
    int n = world->size, rank = world->rank, next = (rank + 1) % n, before = (rank + n - 1) % n;
    Tape *tape = tape_new(device, true), *other = tape_new(device, true);
    Tensor leaves[SEVERAL], dz = leaf_new("dz", rank, 9, count), *sent[SEVERAL], *came[SEVERAL];
    CommCount calls = world->counts[COMM_SEND];
    bool add, good = true;
    for (int k = 0; k < SEVERAL; k++) {
        leaves[k] = leaf_new("x", rank, k, count);
        Tensor *x = op_add(tape, &leaves[k], &leaves[k]);
        sent[k] = op_send(tape, &mesh, MESH_PIPE, x, next);
        tape_drop(tape, x);
        tape_grad(tape, sent[k], &add); /* it takes part in a backward that starts from one result only */
    }
    spoil(other, count);
    for (int k = 0; k < SEVERAL; k++) came[k] = op_recv(tape, &mesh, MESH_PIPE, before, &leaves[k]);
    for (int k = SEVERAL; k-- > 0;) {
        tape_await(came[k]);
        good &= is_value(came[k], before, k, 2);
    }
    ok_on_all(world, good, "%d messages of %lld cross, and are read in another order", SEVERAL,
              (long long)count);
    Tensor *z = op_add(tape, op_add(tape, came[0], came[1]), came[2]);
    tape_backward(tape, z, &dz);
    spoil(other, count);
    for (int k = 0; k < SEVERAL; k++) good &= leaves[k].grad && is_value(leaves[k].grad, next, 9, 2);
    ok_on_all(world, good, "... and so do their gradients");
    ok_on_all(world,
              world->counts[COMM_SEND].calls - calls.calls == 2 * SEVERAL &&
                  world->counts[COMM_SEND].bytes - calls.bytes ==
                      2 * SEVERAL * count * element_bytes(TYPE_REAL),
              "... calls and bytes");
    tape_finish(tape);
    ok_on_all(world, device->memory.now[MEMORY_COMMUNICATION] == 0 && !tape->transfers,
              "... and nothing is left under way");
    tape_delete(tape);
    tape_delete(other);
    for (int k = 0; k < SEVERAL; k++) tensor_free(&leaves[k]);
    tensor_free(&dz);
    ok_on_all(world, device->memory.now[MEMORY_ACTIVATIONS] == 0, "... nor any memory held");
}

/* A tape that is reset, or deleted, waits for what it has sent. */
static void reset_early(int64_t count) {
    int rank = world->rank;
    bool sends = rank % 2 == 0 && rank + 1 < world->size, receives = rank % 2 == 1, good = true;
    for (int recording = 0; recording < 2; recording++) {
        Tape *tape = tape_new(device, recording);
        Tensor x = leaf_new("x", receives ? rank - 1 : rank, 1, count);
        if (sends) {
            Tensor *y = op_add(tape, &x, &x);
            op_send(tape, &mesh, MESH_PIPE, y, rank + 1);
            tape_drop(tape, y);
            tape_reset(tape);
            spoil(tape, count);
        }
        if (receives) {
            Tensor *y = op_recv(tape, &mesh, MESH_PIPE, rank - 1, &x);
            Tensor *z = op_add(tape, y, &x);
            good &= is_value(z, rank - 1, 1, 3);
        }
        tape_delete(tape);
        tensor_free(&x);
    }
    ok_on_all(world, good, "%lld elements sent, and the tape reset", (long long)count);
}

/* What is sent is held until its gradient has come back, what is received for as long as it is read. */
static void memory_held(void) {
    int64_t count = 1000, bytes = count * element_bytes(TYPE_REAL);
    Tape *tape = tape_new(device, true);
    Tensor x = leaf_new("x", world->rank, 1, count), one = leaf_new("one", 0, 0, 1);
    const int64_t *held = &device->memory.now[MEMORY_ACTIVATIONS];
    bool good = true;
    if (world->rank == 0) {
        Tensor *y = op_add(tape, &x, &x), *sent = op_send(tape, &mesh, MESH_PIPE, y, 1);
        tape_drop(tape, y);
        good &= *held == bytes + (int64_t)sizeof(double);
        tape_backward(tape, sent, &one);
        good &= *held == bytes; /* the gradient of x alone */
        good &= !tape->transfers;
    } else if (world->rank == 1) {
        Tensor *y = op_recv(tape, &mesh, MESH_PIPE, 0, &x), *z = op_add(tape, y, y);
        tape_drop(tape, y);
        good &= *held == bytes; /* z: an add keeps nothing */
        tape_backward(tape, z, &x);
        good &= *held == bytes; /* the gradient that is sent */
        tape_finish(tape);
        good &= *held == 0;
    }
    ok_on_all(world, good, "memory is held for as long as a message needs it");
    tape_delete(tape);
    tensor_free(&x);
    tensor_free(&one);
}

/* ---- gradients that are asked for ahead ---- */

typedef enum { NOT_EXPECTED, EXPECTED, EXPECTED_HALVES } Expecting;

static void backward(Tape *tape, Tensor *out, Tensor *seed, Expecting how) {
    if (how != EXPECTED_HALVES) {
        tape_backward(tape, out, seed);
        return;
    }
    tape_backward_inputs(tape, out, seed);
    tape_backward_params(tape);
}

/* What rank 0 sends is read twice by itself as well; then two more messages come, an activation before the gradients, of
 * which the one that came last is needed first. The gradient of each leaf is written to `gradients`. */
static bool ask_first(Tensor leaves[2], Tensor *seed, Expecting how, Tensor gradients[2]) {
    Tape *tape = tape_new(device, true), *later = tape_new(device, true);
    Tensor *x[2], *sent[2], *sum = NULL;
    bool add, good = true;
    for (int k = 0; k < 2; k++) {
        x[k] = op_add(tape, &leaves[k], &leaves[k]);
        sent[k] = op_send(tape, &mesh, MESH_PIPE, x[k], 1);
        tape_grad(tape, sent[k], &add);
    }
    sum = op_add(tape, op_add(tape, x[0], x[0]), x[1]);
    for (int k = 0; k < 2; k++) tape_drop(tape, x[k]);
    Tensor *activation = op_recv(later, &mesh, MESH_PIPE, 1, &leaves[0]);
    if (how != NOT_EXPECTED) { /* the receiver's backward comes to the last message first */
        Tensor *g1 = message_expect_gradient(tape, sent[1]), *g0 = message_expect_gradient(tape, sent[0]);
        good &= g1->arriving && g0->arriving && activation->arriving;
        tape_await(g0);
        good &= is_value(g0, 1, 7, 1);
    }
    backward(tape, sum, seed, how);
    if (how != NOT_EXPECTED) good &= !leaves[0].grad->arriving && !tape->transfers;
    good &= device->memory.now[MEMORY_COMMUNICATION] == 0 || how == NOT_EXPECTED;
    for (int k = 0; k < 2; k++) copy_elements(leaves[k].grad, &gradients[k]);
    tape_await(activation);
    good &= is_value(activation, 1, 8, 1);
    tape_delete(tape);
    tape_delete(later);
    for (int k = 0; k < 2; k++) leaves[k].grad = NULL;
    return good;
}

static void answer(Tensor gradients[2], Tensor *activation) {
    Tape *tape = tape_new(device, true), *other = tape_new(device, true);
    Tensor *came[2];
    bool add;
    for (int k = 0; k < 2; k++) came[k] = op_recv(tape, &mesh, MESH_PIPE, 0, activation);
    op_send(other, &mesh, MESH_PIPE, activation, 0);
    for (int k = 0; k < 2; k++)
        KERNELS(tape)->copy(QUEUE(tape), &gradients[k], tape_grad(tape, came[k], &add));
    for (int k = 2; k-- > 0;) tape->nodes[k]->op->backward_input(tape, tape->nodes[k]);
    tape_delete(tape);
    tape_delete(other);
}

/* Terms that round differently when they are added in another order, and gradients that differ. */
static void expected_gradients(int64_t count) {
    Tensor leaves[2], gradients[3][2], answers[2], activation = leaf_new("x", 1, 8, count);
    Tensor seed = leaf_new("seed", 0, 5, count);
    fill_normal(&seed, 1, 1, 1e-3);
    for (int k = 0; k < 2; k++) {
        leaves[k] = leaf_new("x", 0, k, count);
        answers[k] = leaf_new("answer", 1, 7 - k, count);
        for (int how = 0; how < 3; how++) gradients[how][k] = leaf_new("gradient", 0, 0, count);
    }
    bool good = true;
    for (int how = 0; how < 3; how++) {
        if (world->rank == 0) good &= ask_first(leaves, &seed, (Expecting)how, gradients[how]);
        if (world->rank == 1) answer(answers, &activation);
        for (int k = 0; k < 2; k++)
            good &= world->rank > 0 || same_elements(&gradients[how][k], &gradients[0][k]);
    }
    ok_on_all(world, good,
              "%lld gradients asked for in another order than they are needed, beside other readers",
              (long long)count);
    for (int k = 0; k < 2; k++) {
        tensor_free(&leaves[k]);
        tensor_free(&answers[k]);
        for (int how = 0; how < 3; how++) tensor_free(&gradients[how][k]);
    }
    tensor_free(&activation);
    tensor_free(&seed);
    ok_on_all(world, device->memory.now[MEMORY_ACTIVATIONS] == 0, "... and nothing is held");
}

/* Nobody sends a gradient of what is constant, nor on a tape that does not record. */
static void nothing_to_expect(void) {
    bool good = true;
    for (int recording = 0; recording < 2; recording++) {
        Tape *tape = tape_new(device, recording);
        Tensor x = leaf_new("x", 0, 1, 10);
        x.constant = recording;
        if (world->rank == 0) good &= !message_expect_gradient(tape, op_send(tape, &mesh, MESH_PIPE, &x, 1));
        if (world->rank == 1) op_recv(tape, &mesh, MESH_PIPE, 0, &x);
        tape_delete(tape);
        tensor_free(&x);
    }
    ok_on_all(world, good, "no gradient comes of what is constant, or of an evaluation");
}

/* ---- a GPT in stages ---- */

/* The same order on each stage. F forward, B backward, I its half towards the inputs, W its half towards the weights. */
static const char *const orders[] = {
    "F0 F1 F2 B0 B1 B2",          /* GPipe */
    "F0 B0 F1 B1 F2 B2",          /* one after the other */
    "F0 F1 B0 F2 B1 B2",          /* 1F1B */
    "F2 F0 F1 B1 B2 B0",          /* nothing in its order */
    "F0 F1 I0 F2 I1 W0 I2 W2 W1", /* zero-bubble */
};

static int64_t first_block(const Training *t, int stage) { return t->config.model.L * stage / world->size; }

static Tensor *stage_forward(Training *t, Tape *tape, int64_t microbatch, double *loss) {
    const Config *c = &t->config;
    int stage = world->rank, last = world->size - 1;
    Batch *part = tape_alloc(tape, sizeof *part);
    *part = batch_rows(&t->batch, microbatch * c->micro_batch, c->micro_batch);
    part->ids.place[MESH_PIPE] = private;
    Pass pass = {.training = true, .first_sample = microbatch * c->micro_batch};
    tape_begin_microbatch(tape, microbatch, c->num_microbatches);
    Tensor like = {.name = "x", .shape = SHAPE(c->micro_batch, c->model.T, c->model.C)};
    like.place[MESH_PIPE] = private;
    Tensor *x = stage == 0 ? model_embed(t->model, tape, &part->ids, &pass)
                           : op_recv(tape, &mesh, MESH_PIPE, stage - 1, &like);
    x = model_blocks(t->model, tape, x, first_block(t, stage), first_block(t, stage + 1), &pass);
    Tensor *out = stage == last ? model_loss(t->model, tape, x, &part->targets)
                                : op_send(tape, &mesh, MESH_PIPE, x, stage + 1);
    tape_drop(tape, x);
    *loss += tensor_scalar(out);
    return out;
}

/* Asks for the gradient that is needed next, if its forward is done: ahead of the work in between. */
static void expect_next(const char *order, Tape **tapes, Tensor **outs, bool *expected) {
    while (*order && *order != 'B' && *order != 'I') order++;
    int i = *order ? order[1] - '0' : 0;
    if (!*order || !outs[i] || expected[i]) return;
    expected[i] = true;
    message_expect_gradient(tapes[i], outs[i]);
}

static double stages_gradient(Training *t, const char *order, bool ahead) {
    Tape *tapes[SEVERAL];
    Tensor *outs[SEVERAL] = {NULL};
    bool expected[SEVERAL] = {false};
    double loss = 0;
    training_load(t, 0);
    for (int i = 0; i < SEVERAL; i++) tapes[i] = tape_new(t->device, true);
    for (const char *at = order; *at; at += at[2] ? 3 : 2) {
        int i = at[1] - '0';
        if (ahead && world->rank < world->size - 1) expect_next(at, tapes, outs, expected);
        if (*at == 'F') outs[i] = stage_forward(t, tapes[i], i, &loss);
        if (*at == 'B') tape_backward(tapes[i], outs[i], &t->seed);
        if (*at == 'I') tape_backward_inputs(tapes[i], outs[i], &t->seed);
        if (*at == 'W') tape_backward_params(tapes[i]);
    }
    for (int i = 0; i < SEVERAL; i++) tape_delete(tapes[i]);
    return loss / (double)t->batch.real;
}

/* Does this stage have the parameter, and so its gradient? */
static bool is_mine(const Training *t, const char *name) {
    int stage = world->rank;
    if (strncmp(name, "blocks.", 7) != 0)
        return strcmp(name, "token.weight") ? stage == world->size - 1 : stage == 0;
    int64_t block = atoi(name + 7);
    return block >= first_block(t, stage) && block < first_block(t, stage + 1);
}

static void stages(void) {
    Config c = {.model = awkward_model(),
                .micro_batch = 2,
                .global_batch = 2 * SEVERAL,
                .num_microbatches = SEVERAL,
                .seed = 5,
                .optimizer = OPTIMIZER_SGD};
    Training one = training_new(&c, c.model.T, 1, 0.2), staged = training_new(&c, c.model.T, 1, 0.2);
    double want = training_gradient(&one, 0);
    for (int way = 0; way < 4; way++)
        for (int o = 0; o < COUNT_OF(orders); o++) {
            bool recompute = way & 1, ahead = way & 2;
            int64_t held = staged.device->memory.now[MEMORY_ACTIVATIONS];
            staged.model->recompute = recompute;
            double loss = stages_gradient(&staged, orders[o], ahead);
            bool good = loss == (world->rank == world->size - 1 ? want : 0);
            int compared = 0;
            for (int i = 0; i < one.model->params.count; i++) {
                const Param *p = one.model->params.items[i], *s = staged.model->params.items[i];
                if (!is_mine(&staged, p->name)) continue;
                good &= same_elements(&p->grad[0], &s->grad[0]);
                compared++;
            }
            good &= compared > 0 || world->size > c.model.L;
            good &= staged.device->memory.now[MEMORY_ACTIVATIONS] == held;
            ok_on_all(world, good, "a GPT in stages, %s%s%s: the bits of one device", orders[o],
                      recompute ? ", recomputed" : "", ahead ? ", gradients asked for ahead" : "");
        }
    training_delete(&one);
    training_delete(&staged);
}

/* ---- the model clock ---- */

static Clock clock_;
static double now(void) { return queue_now(&device->queue); }
static void work(double seconds) { clock_pass(&clock_, seconds); }

typedef struct {
    CommKind kind;
    double begin, end;
} Heard;
static Heard heard[8];
static int heard_count;
static void hear(void *context, const CommEvent *event) {
    (void)context;
    heard[heard_count++] = (Heard){event->call.kind, event->begin, event->end};
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-12 * b; }

/* Work of this many transfers' time, between the start of messages and the first that needs them. */
static void overlap(double share) {
    int64_t count = 100000;
    DeviceModel model = *device_model("a100");
    model.flops = model.memory_bandwidth = INFINITY; /* kernels take no time */
    double moving = (double)(count * element_bytes(TYPE_REAL)) / model.inside.bandwidth;
    double arrives = moving + model.inside.latency;
    bool good = true, takes_part = world->rank < 2 && world->size > 1;
    int other = 1 - world->rank;
    Tensor x = leaf_new("x", world->rank, 1, count);
    clock_attach(device, &clock_, &model);
    mesh.axis[MESH_PIPE]->observer = (CommObserver){.done = hear};
    heard_count = 0;
    if (takes_part) { /* both send and receive at the same moment */
        Tape *tape = tape_new(device, true);
        bool add;
        Tensor *sent = op_send(tape, &mesh, MESH_PIPE, &x, other);
        Tensor *came = op_recv(tape, &mesh, MESH_PIPE, other, &x);
        tape_grad(tape, sent, &add);
        good &= now() == 0; /* nobody has waited */
        work(share * moving);
        Tensor *y = op_add(tape, came, came);
        double at = fmax(share * moving, arrives);
        good &= near(now(), at);
        tape_backward(tape, y, &x);
        good &= near(now(), at); /* the gradients have begun to move */
        work(share * moving);
        tape_await(x.grad);
        good &= near(now(), at + fmax(share * moving, arrives));
        tape_delete(tape);
        good &= near(now(), at + fmax(share * moving, arrives)); /* what was sent had left before */
        int sends = 0;
        for (int i = 0; i < heard_count; i++) { /* whenever they were waited for */
            double start = heard[i].begin < at / 2 ? 0 : at;
            sends += heard[i].kind == COMM_SEND;
            good &= near(heard[i].begin + 1, start + 1) &&
                    near(heard[i].end, start + (heard[i].kind == COMM_SEND ? moving : arrives));
        }
        good &= heard_count == 4 && sends == 2;
    }
    mesh.axis[MESH_PIPE]->observer = (CommObserver){0};
    clock_detach(&clock_);
    ok_on_all(world, good, "messages that cross, with work of %g times what they take meanwhile", share);
    tensor_free(&x);
}

/* Who only sends stands still no longer than the message takes to leave, and only where it is finished. */
static void sender_goes_on(void) {
    int64_t count = 100000;
    const DeviceModel *model = device_model("h100");
    double moving = (double)(count * element_bytes(TYPE_REAL)) / model->inside.bandwidth;
    bool good = true;
    Tensor x = leaf_new("x", 0, 1, count);
    clock_attach(device, &clock_, model);
    Tape *tape = tape_new(device, false);
    if (world->rank == 0 && world->size > 1) {
        for (int k = 0; k < SEVERAL; k++) op_send(tape, &mesh, MESH_PIPE, &x, 1);
        good &= now() < moving / 100; /* of the kernel that makes their results */
        tape_finish(tape);
        good &= near(now(), SEVERAL * moving); /* one behind the other */
    }
    if (world->rank == 1)
        for (int k = 0; k < SEVERAL; k++) op_recv(tape, &mesh, MESH_PIPE, 0, &x);
    tape_delete(tape);
    clock_detach(&clock_);
    ok_on_all(world, good, "a sender goes on, and finishes when all has left");
    tensor_free(&x);
}

int main(void) {
    world = ranks_world();
    device = device_new_cpu(0);
    mesh = mesh_new(world, (const int[MESH_AXES]){1, world->size, 1});
    if (world->size > 1) {
        crossing(1000);
        crossing(LARGE);
        reset_early(1000);
        reset_early(LARGE);
        memory_held();
        expected_gradients(1000);
        expected_gradients(LARGE);
        nothing_to_expect();
        static const double shares[] = {0, 0.5, 1, 2, 10};
        for (int i = 0; i < COUNT_OF(shares); i++) overlap(shares[i]);
        sender_goes_on();
    }
    stages();
    mesh_close(&mesh);
    device_delete(device);
    comm_close(world);
    return tap_done();
}
