/* What the mesh and its ops refuse: sizes that make no mesh, placements that an op does not take, axes that cannot be
 * cut; an op that reads what has not arrived. Each error names the op, the tensor, what is wrong, and what would help. The groups here have a size and no
 * devices: everything is refused before anyone is asked.
 *
 * TEST variants: float asan */
#define _GNU_SOURCE
#include "common/comm/dist_ops.h"
#include "common/comm/message_ops.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

/* ---- sizes of a mesh ---- */

typedef struct {
    int devices, size[MESH_AXES];
} Sizes;

static void close_nothing(Comm *comm) { (void)comm; }

static void make_mesh(void *argument) {
    static const CommBackend nobody = {.name = "nobody", .close = close_nothing};
    const Sizes *s = argument;
    Comm world = {.backend = &nobody, .name = "world", .size = s->devices};
    mesh_new(&world, s->size);
}

static void refused_mesh(Sizes s, const char *message) {
    Exit e = expect_exit(make_mesh, &s);
    ok(refused(&e, 2, message), "%d devices: %s", s.devices, message);
    if (!refused(&e, 2, message)) fprintf(stderr, "%s\n", e.text);
}

static void meshes(void) {
    refused_mesh((Sizes){8, {3, 1, 2}}, "data 3 x pipe 1 x tensor 2 does not make a mesh of 8 devices "
                                        "(hint: data 4 x pipe 1 x tensor 2 would; or start 6 devices)");
    refused_mesh((Sizes){8, {0, 1, 3}}, "data ? x pipe 1 x tensor 3 does not make a mesh of 8 devices "
                                        "(hint: data 4 x pipe 1 x tensor 2 would; or start 6 or 9 devices)");
    refused_mesh((Sizes){4, {0, 3, 2}}, "(hint: data 1 x pipe 2 x tensor 2 would; or start 6 devices)");
    refused_mesh((Sizes){1, {1, 2, 1}}, "does not make a mesh of 1 device (hint: data 1 x pipe 1 x tensor 1 "
                                        "would; or start 2 devices)");
    refused_mesh((Sizes){8, {2, 0, 0}}, "data 2 x pipe ? x tensor ? does not make a mesh of 8 devices "
                                        "(hint: data 8 x pipe 1 x tensor 1 would)");
    refused_mesh((Sizes){6, {INT32_MAX, INT32_MAX, INT32_MAX}}, "(hint: data 1 x pipe 1 x tensor 6 would)");
    refused_mesh((Sizes){6, {1, -2, 3}}, "the mesh axis 'pipe' has size -2 (hint: ");
    refused_mesh((Sizes){6, {INT32_MIN, 1, 1}}, "the mesh axis 'data' has size -2147483648 (hint: ");
}

/* ---- tensors that an op does not take ---- */

typedef struct {
    const char *op, *wanted;
    PlaceKind takes;
    Tensor *(*call)(Tape *, const Mesh *, MeshAxis, Tensor *);
} Case;

static Tensor *reduce_scatter_1(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_reduce_scatter(tape, m, along, x, 1);
}
static Tensor *split_1(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_split(tape, m, along, x, 1);
}
static Tensor *split_2(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_split(tape, m, along, x, 2);
}
static Tensor *split_minus_1(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_split(tape, m, along, x, -1);
}
static Tensor *all_to_all_1(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_all_to_all(tape, m, along, x, 1);
}
static Tensor *send_1(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_send(tape, m, along, x, 1);
}
static Tensor *recv_0(Tape *tape, const Mesh *m, MeshAxis along, Tensor *x) {
    return op_recv(tape, m, along, 0, x);
}

static const Case cases[] = {
    {"op_copy", "Replicate", PLACE_REPLICATE, op_copy},
    {"op_reduce", "Partial", PLACE_PARTIAL, op_reduce},
    {"op_all_gather", "Shard", PLACE_SHARD, op_all_gather},
    {"op_gather", "Shard", PLACE_SHARD, op_gather},
    {"op_reduce_scatter", "Partial", PLACE_PARTIAL, reduce_scatter_1},
    {"op_split", "Replicate", PLACE_REPLICATE, split_1},
    {"op_all_to_all", "Shard", PLACE_SHARD, all_to_all_1},
    {"op_send", "Private", PLACE_PRIVATE, send_1},
    {"op_recv", "Private", PLACE_PRIVATE, recv_0},
};

/* An op on x (4, 8) along an axis of a mesh of 3 x 1 x 3. */
typedef struct {
    const Case *op;
    MeshAxis along;
    Place place[MESH_AXES];
} Use;

static void use_op(void *argument) {
    const Use *use = argument;
    Comm three = {.name = "three", .size = 3, .rank = 1}, one = {.name = "one", .size = 1};
    Mesh mesh = {.size = {3, 1, 3}, .coordinate = {1, 0, 1}, .axis = {&three, &one, &three}};
    Tensor x = tensor_new(NULL, MEMORY_ACTIVATIONS, "blocks.0.qkv", TYPE_REAL, SHAPE(4, 8));
    memcpy(x.place, use->place, sizeof x.place);
    use->op->call(tape_new(NULL, true), &mesh, use->along, &x);
}

/* Refused with a message that begins, after the program's name, with this, and has a hint. */
static void refused_use(Use use, const char *message) {
    Exit e = expect_exit(use_op, &use);
    bool good = refused(&e, 1, message) && strstr(e.text, " (hint: ") && !strstr(e.text, "(null)");
    ok(good, "%s", message);
    if (!good) fprintf(stderr, "status %d: %s\n", e.status, e.text);
}

static void wrong_placements(void) {
    static const Place places[] = {
        {PLACE_REPLICATE, 0}, {PLACE_SHARD, 1}, {PLACE_PARTIAL, 0}, {PLACE_PRIVATE, 0}};
    for (int c = 0; c < COUNT_OF(cases); c++)
        for (int p = 0; p < COUNT_OF(places); p++) {
            if (places[p].kind == cases[c].takes) continue;
            Use use = {&cases[c], MESH_TENSOR, {{PLACE_REPLICATE, 0}}};
            use.place[MESH_TENSOR] = places[p];
            char *message = xprintf(
                "error: %s: 'blocks.0.qkv' is %s on the mesh axis 'tensor', must be %s (hint: ", cases[c].op,
                place_text(places[p]).text, cases[c].wanted);
            refused_use(use, message);
            free(message);
        }
}

static void wrong_axes(void) {
    static const Case far = {"op_split", "", PLACE_REPLICATE, split_2},
                      negative = {"op_split", "", PLACE_REPLICATE, split_minus_1};
    enum { REDUCE_SCATTER = 4, SPLIT = 5, ALL_TO_ALL = 6, GATHER = 3 };
    const Place replicate = {PLACE_REPLICATE, 0}, partial = {PLACE_PARTIAL, 0}, rows = {PLACE_SHARD, 0},
                columns = {PLACE_SHARD, 1};
    refused_use(
        (Use){&cases[SPLIT], MESH_TENSOR, {replicate}},
        "op_split: axis 1 of 'blocks.0.qkv' (4, 8) cannot be cut into 3 equal slices, one for each device "
        "along 'tensor' (hint: 6 and 9 can)");
    refused_use(
        (Use){&cases[REDUCE_SCATTER], MESH_DATA, {partial}},
        "op_reduce_scatter: axis 1 of 'blocks.0.qkv' (4, 8) cannot be cut into 3 equal slices, one for each "
        "device along 'data' (hint: 6 and 9 can)");
    refused_use((Use){&cases[ALL_TO_ALL], MESH_DATA, {rows}},
                "op_all_to_all: axis 1 of 'blocks.0.qkv' (4, 8)");
    refused_use((Use){&cases[ALL_TO_ALL], MESH_PIPE, {replicate, columns}},
                "op_all_to_all: 'blocks.0.qkv' is Shard(1) already");
    refused_use((Use){&far, MESH_TENSOR, {replicate}}, "op_split: axis 2 of 'blocks.0.qkv' (4, 8)");
    refused_use((Use){&negative, MESH_TENSOR, {replicate}}, "op_split: axis -1 of 'blocks.0.qkv' (4, 8)");
    refused_use((Use){&cases[GATHER], MESH_DATA, {columns, replicate, columns}},
                "op_gather along 'data': 'blocks.0.qkv' is Shard(1) on the mesh axis 'tensor' as well");
    refused_use((Use){&cases[SPLIT], MESH_PIPE, {replicate, replicate, columns}},
                "op_split along 'pipe': 'blocks.0.qkv' is Shard(1) on the mesh axis 'tensor' as well");
}

/* ---- an op that reads what has not arrived ---- */

static void *start_nothing(Comm *comm, Queue *q, const CommCall *call, double ready) {
    (void)comm, (void)q, (void)call, (void)ready;
    return NULL;
}

/* A tensor that comes from rank 0, and never arrives. */
static Tensor *receive(Tape *tape) {
    static const CommBackend silent = {.name = "silent", .start = start_nothing};
    static const int ranks[2] = {0, 1};
    static Comm two = {.backend = &silent, .name = "two", .size = 2, .rank = 1, .world_rank = ranks};
    Mesh mesh = {.size = {1, 2, 1}, .axis[MESH_PIPE] = &two};
    Tensor like = {.name = "blocks.2.x", .shape = SHAPE(4, 8)};
    like.place[MESH_PIPE].kind = PLACE_PRIVATE;
    return op_recv(tape, &mesh, MESH_PIPE, 0, &like);
}

static void host_reads(void *argument) {
    (void)argument;
    real value;
    tensor_read(receive(tape_new(device_new_cpu(0), false)), 0, 1, &value);
}

static void forgetful(void *argument) {
    static const Op op = {.name = "forgetful"};
    Tape *tape = tape_new(device_new_cpu(0), *(const bool *)argument);
    Tensor *x = receive(tape), *y = tape_tensor(tape, "y", TYPE_REAL, x->shape, x);
    KERNELS(tape)->copy(QUEUE(tape), x, y); /* without tape_await */
    tape_node(tape, &op, x, NULL, y);
}

static void read_too_early(void) {
    static const char message[] = "error: op_forgetful has read 'blocks.2.x', which is still on its way from "
                                  "another device (hint: ";
    for (int recording = 0; recording < 2; recording++) {
        Exit e = expect_exit(forgetful, &(bool){recording});
        ok(refused(&e, 1, message), "%s%s", message, recording ? "" : ", by a tape that does not record");
    }
    Exit e = expect_exit(host_reads, NULL);
    ok(refused(&e, 1, "the host reads or writes 'blocks.2.x', which is still on its way"), "%s", e.text);
}

int main(void) {
    base_set_program("test");
    meshes();
    wrong_placements();
    wrong_axes();
    read_too_early();
    return tap_done();
}
