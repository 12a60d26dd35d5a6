/* TEST variants: float, all: double asan
 * What ops make of how their inputs are placed: each output's placement, and each refusal with its hint. */
#define _GNU_SOURCE
#include "common/cpu/device_cpu.h"
#include "common/tensor/ops.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

enum { B = 2, T = 4, C = 6, HEADS = 1 };

/* An op on x (B,T,C), another one like it or ids (B,T), and parameters (C,C), (C): so placed on the axis 'tensor'. */
typedef struct {
    Tensor *(*op)(Tape *, Tensor *x, Tensor *other, Param *weight, Param *vector);
    Place x, other, weight, vector;
} Use;

/* How the output is placed on that axis. */
static Place place_of_output(const Use *use, Device *device) {
    Tape *tape = tape_new(device, false);
    Params params = {.device = device};
    Tensor *x = tape_tensor(tape, "x", TYPE_REAL, SHAPE(B, T, C), NULL),
           *other = tape_tensor(tape, "other", TYPE_REAL, SHAPE(B, T, C), NULL);
    Param *weight = params_add(&params, "weight", SHAPE(C, C)),
          *vector = params_add(&params, "vector", SHAPE(C));
    x->place[MESH_TENSOR] = use->x;
    other->place[MESH_TENSOR] = use->other;
    weight->data.place[MESH_TENSOR] = use->weight;
    vector->data.place[MESH_TENSOR] = use->vector;
    Place place = use->op(tape, x, other, weight, vector)->place[MESH_TENSOR];
    tape_delete(tape);
    params_free(&params);
    return place;
}

static Tensor *linear(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other, (void)vector;
    return op_linear(tape, x, weight, NULL);
}
static Tensor *linear_bias(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other;
    return op_linear(tape, x, weight, vector);
}
static Tensor *logits(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other;
    return op_logits(tape, x, weight, vector);
}
static Tensor *head_loss(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    return op_head_loss(tape, x, weight, vector, 0, other);
}
static Tensor *add_bias(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other, (void)weight;
    return op_add_bias(tape, x, vector);
}
static Tensor *add(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)weight, (void)vector;
    return op_add(tape, x, other);
}
static Tensor *concat(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)weight, (void)vector;
    return op_concat(tape, x, other);
}
static Tensor *look_up(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)x, (void)vector;
    Tensor *ids = tape_tensor(tape, "ids", TYPE_I32, SHAPE(B, T), other);
    static const int32_t zeros[B * T];
    if (tape->device) tensor_write(ids, 0, B * T, zeros);
    return op_embedding(tape, ids, weight, 0, NULL, 0);
}
static Tensor *look_up_position(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)x;
    return op_embedding(tape, other, weight, 0, vector, 0);
}
static Tensor *layernorm(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other, (void)weight;
    return op_layernorm(tape, x, vector, vector, 1e-5);
}
static Tensor *rmsnorm(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other, (void)weight;
    return op_rmsnorm(tape, x, vector, 1e-5);
}
static Tensor *gelu(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other, (void)weight, (void)vector;
    return op_gelu(tape, x);
}
static Tensor *attention(Tape *tape, Tensor *x, Tensor *other, Param *weight, Param *vector) {
    (void)other, (void)weight, (void)vector;
    return op_attention(tape, x, HEADS, HEADS);
}

static const Place whole = {PLACE_REPLICATE, 0}, own = {PLACE_PRIVATE, 0}, term = {PLACE_PARTIAL, 0},
                   cut_0 = {PLACE_SHARD, 0}, cut_1 = {PLACE_SHARD, 1}, cut_2 = {PLACE_SHARD, 2};

/* ---- what is refused ---- */

static void use_nothing(void *use) { place_of_output(use, NULL); }

static void refuses(Use use, const char *message) {
    Exit e = expect_exit(use_nothing, &use);
    bool good = refused(&e, 1, message) && !strstr(e.text, "(null)");
    ok(good, "%s", message);
    if (!good) fprintf(stderr, "status %d: %s\n", e.status, e.text);
}

static void refusals(void) {
    refuses(
        (Use){linear, cut_2, whole, whole, whole},
        "op_linear: 'x' is Shard(2) on the mesh axis 'tensor', and 'weight' is not cut (hint: op_all_gather");
    refuses(
        (Use){linear, whole, whole, cut_1, whole},
        "op_linear: 'x' is Replicate on the mesh axis 'tensor', must be Private where 'weight' is Shard(1) "
        "(hint: op_copy makes");
    refuses(
        (Use){linear, cut_1, whole, cut_1, whole},
        "op_linear: 'x' is Shard(1) on the mesh axis 'tensor', must be Private where 'weight' is Shard(1) "
        "(hint: op_all_gather puts");
    refuses(
        (Use){linear, whole, whole, cut_0, whole},
        "op_linear: 'x' is Replicate on the mesh axis 'tensor', must be Shard(2) where 'weight' is Shard(0) "
        "(hint: op_split cuts it)");
    refuses((Use){linear, cut_1, whole, cut_0, whole},
            "must be Shard(2) where 'weight' is Shard(0) (hint: op_all_to_all cuts the other axis instead)");
    refuses((Use){linear, own, whole, cut_0, whole},
            "must be Shard(2) where 'weight' is Shard(0) (hint: each device has a value of its own");
    refuses((Use){linear, term, whole, cut_1, whole},
            "op_linear: 'x' is Partial on the mesh axis 'tensor' (hint: ");
    refuses((Use){linear, own, whole, own, whole},
            "op_linear: 'weight' is Private on the mesh axis 'tensor' (hint: a weight is whole, or cut");
    refuses(
        (Use){linear_bias, cut_2, whole, cut_0, whole},
        "op_linear: 'vector' would be added once for each device along 'tensor', since 'weight' is Shard(0) "
        "(hint: add it behind op_reduce, with op_add_bias)");
    refuses((Use){linear_bias, own, whole, cut_1, whole},
            "op_linear: 'vector' is Replicate on the mesh axis 'tensor', must be Shard(0) where 'weight' is "
            "Shard(1) (hint: a bias is cut");
    refuses((Use){linear_bias, own, whole, whole, cut_0},
            "op_linear: 'vector' is Shard(0) on the mesh axis 'tensor', must be Replicate where 'weight' is "
            "Replicate (hint: a bias is cut");
    refuses(
        (Use){logits, whole, whole, cut_0, cut_0},
        "op_logits: 'x' is Replicate on the mesh axis 'tensor', must be Private where 'weight' is Shard(0)");
    refuses(
        (Use){head_loss, own, whole, cut_0, cut_0},
        "op_head_loss: 'weight' is Shard(0) on the mesh axis 'tensor', must be Replicate (hint: where each");
    refuses(
        (Use){head_loss, own, whole, whole, cut_0},
        "op_head_loss: 'vector' is Shard(0) on the mesh axis 'tensor', must be Replicate (hint: where each");
    refuses((Use){head_loss, cut_2, whole, whole, whole}, "op_head_loss: 'x' is Shard(2) on the mesh axis");
    refuses((Use){add_bias, term, whole, whole, whole},
            "op_add_bias: 'x' is Partial on the mesh axis 'tensor' (hint: each device holds a term");
    refuses((Use){add_bias, cut_2, whole, whole, whole},
            "op_add_bias: 'vector' is Replicate on the mesh axis 'tensor', must be Shard(0) where 'x' is "
            "Shard(2) (hint: ");
    refuses((Use){add_bias, cut_1, whole, whole, cut_0}, "must be Replicate where 'x' is Shard(1) (hint: ");
    refuses((Use){add, whole, term, whole, whole},
            "op_add: 'x' is Replicate on the mesh axis 'tensor' and 'other' is Partial, must be placed alike "
            "(hint: op_reduce adds");
    refuses((Use){add, term, whole, whole, whole},
            "'other' is Replicate, must be placed alike (hint: op_reduce");
    refuses((Use){add, cut_1, cut_2, whole, whole},
            "'x' is Shard(1) on the mesh axis 'tensor' and 'other' is Shard(2), must be placed alike (hint: "
            "op_all_to_all");
    refuses((Use){add, cut_1, term, whole, whole}, "must be placed alike (hint: op_reduce_scatter adds");
    refuses(
        (Use){concat, whole, own, whole, whole},
        "op_concat: 'x' is Replicate on the mesh axis 'tensor' and 'other' is Private, must be placed alike");
    refuses((Use){concat, cut_1, own, whole, whole}, "op_concat: 'x' is Shard(1) on the mesh axis 'tensor'");
    refuses((Use){look_up, whole, own, cut_0, whole},
            "op_embedding: 'ids' is Private on the mesh axis 'tensor', must be Replicate where 'weight' is "
            "Shard(0) (hint: ");
    refuses(
        (Use){look_up, whole, whole, cut_1, whole},
        "op_embedding: 'weight' is Shard(1) on the mesh axis 'tensor' (hint: a table is whole, or cut by");
    refuses((Use){look_up_position, whole, whole, cut_0, whole},
            "op_embedding: 'vector' would be added once for each device along 'tensor', since 'weight' is "
            "Shard(0) (hint: add it behind op_reduce)");
    refuses(
        (Use){look_up_position, whole, whole, whole, cut_0},
        "op_embedding: 'vector' is Shard(0) on the mesh axis 'tensor', must be Replicate where 'weight' is "
        "Replicate (hint: ");
    refuses((Use){layernorm, cut_2, whole, whole, whole},
            "op_layernorm: 'x' is Shard(2) on the mesh axis 'tensor', must not be cut along this axis (hint: "
            "op_gather puts");
    refuses((Use){layernorm, cut_1, whole, whole, cut_0},
            "op_layernorm: 'vector' is Shard(0) on the mesh axis 'tensor', must be Replicate where 'x' is "
            "Shard(1)");
    refuses(
        (Use){rmsnorm, own, whole, whole, cut_0},
        "op_rmsnorm: 'vector' is Shard(0) on the mesh axis 'tensor', must be Replicate where 'x' is Private");
    refuses((Use){rmsnorm, term, whole, whole, whole},
            "op_rmsnorm: 'x' is Partial on the mesh axis 'tensor'");
    refuses(
        (Use){attention, cut_1, whole, whole, whole},
        "op_attention: 'x' is Shard(1) on the mesh axis 'tensor', must not be cut along this axis (hint: a "
        "token attends");
}

/* ---- what is taken ---- */

static Device *device;

static void gives(Use use, Place want, const char *what) {
    Place is = place_of_output(&use, device);
    ok(is.kind == want.kind && is.axis == want.axis, "%s: %s, must be %s", what, place_text(is).text,
       place_text(want).text);
}

static void outputs(void) {
    gives((Use){linear_bias, whole, whole, whole, whole}, whole, "linear of a whole x");
    gives((Use){linear_bias, own, whole, whole, whole}, own, "linear of a device's own x");
    gives((Use){linear_bias, cut_1, whole, whole, whole}, cut_1, "linear of slices of a sequence");
    gives((Use){linear_bias, own, whole, cut_1, cut_0}, cut_2, "linear, column parallel");
    gives((Use){linear, cut_2, whole, cut_0, whole}, term, "linear, row parallel");
    gives((Use){logits, own, whole, cut_0, cut_0}, cut_2, "logits of some of the vocabulary");
    gives((Use){add_bias, cut_2, whole, whole, cut_0}, cut_2, "a bias in slices");
    gives((Use){add_bias, cut_1, whole, whole, whole}, cut_1, "a bias on slices of a sequence");
    gives((Use){add, term, term, whole, whole}, term, "add terms");
    gives((Use){add, cut_1, cut_1, whole, whole}, cut_1, "add slices");
    gives((Use){concat, cut_2, cut_2, whole, whole}, cut_2, "concat of slices");
    gives((Use){concat, cut_2, own, whole, whole}, cut_2, "concat of a slice and a device's own");
    gives((Use){concat, own, cut_2, whole, whole}, cut_2, "concat of a device's own and a slice");
    gives((Use){concat, own, own, whole, whole}, own, "concat of each device's own");
    gives((Use){look_up, whole, whole, cut_0, whole}, term, "embedding from some of the rows");
    gives((Use){look_up, whole, cut_1, whole, whole}, cut_1, "embedding of slices of a sequence");
    gives((Use){layernorm, cut_1, whole, whole, whole}, cut_1, "layer norm of slices of a sequence");
    gives((Use){rmsnorm, own, whole, whole, whole}, own, "rms norm of a device's own x");
    gives((Use){gelu, cut_2, whole, whole, whole}, cut_2, "gelu of slices");
    gives((Use){attention, cut_2, whole, whole, whole}, cut_2, "attention, some of the heads");
}

int main(void) {
    base_set_program("test");
    refusals();
    device = device_new_cpu(0);
    outputs();
    device_delete(device);
    return tap_done();
}
