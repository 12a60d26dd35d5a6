/* Collectives as ops, along every axis of the mesh and over every axis of shapes of 1 to 4 axes: forward and backward
 * against what each rank computes by itself from where an element belongs; the dot-product identity; placements;
 * bytes sent and memory held against their formulas. Values are small whole numbers, so everything is exact.
 *
 * TEST np: 1 3 4, all: 2 5
 * TEST variants: double asan, all: float */
#include "common/comm/dist_ops.h"
#include "common/comm/message_ops.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/ops.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;
static Device *device;

typedef enum { COPY, REDUCE, ALL_GATHER, GATHER, REDUCE_SCATTER, SPLIT, ALL_TO_ALL, OPS } Kind;
enum { NO_CALL = COMM_KINDS };
typedef struct {
    const char *name;
    PlaceKind in, out;
    int forward, backward; /* the collectives that it makes */
} Row;
static const Row table[OPS] = {
    [COPY] = {"op_copy", PLACE_REPLICATE, PLACE_PRIVATE, NO_CALL, COMM_ALL_REDUCE},
    [REDUCE] = {"op_reduce", PLACE_PARTIAL, PLACE_REPLICATE, COMM_ALL_REDUCE, NO_CALL},
    [ALL_GATHER] = {"op_all_gather", PLACE_SHARD, PLACE_PRIVATE, COMM_ALL_GATHER, COMM_REDUCE_SCATTER},
    [GATHER] = {"op_gather", PLACE_SHARD, PLACE_REPLICATE, COMM_ALL_GATHER, NO_CALL},
    [REDUCE_SCATTER] = {"op_reduce_scatter", PLACE_PARTIAL, PLACE_SHARD, COMM_REDUCE_SCATTER,
                        COMM_ALL_GATHER},
    [SPLIT] = {"op_split", PLACE_REPLICATE, PLACE_SHARD, NO_CALL, COMM_ALL_GATHER},
    [ALL_TO_ALL] = {"op_all_to_all", PLACE_SHARD, PLACE_SHARD, COMM_ALL_TO_ALL, COMM_ALL_TO_ALL},
};

static Tensor *call_op(Kind kind, Tape *tape, const Mesh *m, MeshAxis along, Tensor *x, int axis) {
    switch (kind) {
    case COPY: return op_copy(tape, m, along, x);
    case REDUCE: return op_reduce(tape, m, along, x);
    case ALL_GATHER: return op_all_gather(tape, m, along, x);
    case GATHER: return op_gather(tape, m, along, x);
    case REDUCE_SCATTER: return op_reduce_scatter(tape, m, along, x, axis);
    case SPLIT: return op_split(tape, m, along, x, axis);
    default: return op_all_to_all(tape, m, along, x, axis);
    }
}

/* ---- where an element belongs, and what it is ---- */

/* Element i of the whole value that `owner` has: a whole number from -8 to 8. */
static double element(int seed, int owner, int64_t i) {
    uint64_t x = ((uint64_t)seed << 40 ^ (uint64_t)owner << 32 ^ (uint64_t)i) + 1;
    x *= 0x9e3779b97f4a7c15u;
    return (double)((x ^ x >> 29) % 17) - 8;
}

static Shape shape_of_part(Shape whole, Place place, int n) {
    if (place.kind == PLACE_SHARD) whole.size[place.axis] /= n;
    return whole;
}

/* Element i of this rank's part: which one of the whole is it? */
static int64_t index_in_whole(int64_t i, Shape whole, Place place, int n, int rank) {
    Shape part = shape_of_part(whole, place, n);
    int64_t at = 0, step = 1;
    for (int axis = whole.rank; axis-- > 0; i /= part.size[axis], step *= whole.size[axis]) {
        int64_t here = i % part.size[axis];
        if (place.kind == PLACE_SHARD && axis == place.axis) here += rank * part.size[axis];
        at += here * step;
    }
    return at;
}

/* Element i of a value made from `seed` that is placed as `from` and then brought to `to`. */
static double expected(int seed, Place from, Place to, Shape whole, int n, int rank, int64_t i) {
    int64_t at = index_in_whole(i, whole, to, n, rank);
    double sum = 0;
    for (int owner = 0; owner < (from.kind == PLACE_PARTIAL ? n : 1); owner++)
        sum += element(seed, owner, at);
    return sum;
}

static Tensor part_new(const char *name, int seed, Shape whole, Place place, MeshAxis along, int n,
                       int rank) {
    Tensor t = tensor_new(device, MEMORY_PARAMETERS, name, TYPE_REAL, shape_of_part(whole, place, n));
    int owner = place.kind == PLACE_PARTIAL || place.kind == PLACE_PRIVATE ? rank : 0;
    for (int64_t i = 0; i < tensor_count(&t); i++)
        set_real_at(&t, i, (real)element(seed, owner, index_in_whole(i, whole, place, n, rank)));
    t.place[along] = place;
    return t;
}

/* t is the value made from `seed` at `from`, brought to `to`, `times` over. */
static bool is_expected(const Tensor *t, int seed, Place from, Place to, MeshAxis along, Shape whole, int n,
                        int rank, int times) {
    bool good = shape_equal(t->shape, shape_of_part(whole, to, n)) && t->place[along].kind == to.kind &&
                t->place[along].axis == to.axis;
    for (int64_t i = 0; good && i < tensor_count(t); i++)
        good &= real_at(t, i) == (real)(times * expected(seed, from, to, whole, n, rank, i));
    return good;
}

/* ---- one op on one shape ---- */

/* What one op is tried for; each is false when it went wrong once. */
typedef struct {
    bool forward, backward, identity, bytes, memory;
} Verdict;

/* <a, b> over the devices of a group; where the values are Replicate, once. */
static double inner_product(Comm *comm, const Tensor *a, const Tensor *b, PlaceKind place) {
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(a); i++) sum += (double)real_at(a, i) * (double)real_at(b, i);
    if (place == PLACE_REPLICATE && comm->rank != 0) sum = 0;
    comm_all_reduce(comm, NULL, &sum, &sum, 1, TYPE_F64, REDUCE_SUM);
    return sum;
}

/* Bytes that all devices together send in one collective; S: the bytes of the whole value. */
static int64_t ring_bytes(int kind, int64_t n, int64_t S) {
    if (kind == COMM_ALL_REDUCE) return 2 * (n - 1) * S;
    if (kind == COMM_ALL_TO_ALL) return (n - 1) * (S / n);
    return (n - 1) * S;
}

static bool bytes_are_right(Comm *comm, const CommCount *before, const Row *row, int times, int64_t S) {
    CommCount made[COMM_KINDS];
    for (int kind = 0; kind < COMM_KINDS; kind++)
        made[kind] = (CommCount){comm->counts[kind].calls - before[kind].calls,
                                 comm->counts[kind].bytes - before[kind].bytes};
    bool good = true;
    for (int kind = 0; kind < COMM_KINDS; kind++) {
        int calls = times * ((kind == row->forward) + (kind == row->backward));
        double bytes = (double)made[kind].bytes;
        comm_all_reduce(comm, NULL, &bytes, &bytes, 1, TYPE_F64, REDUCE_SUM);
        good &= made[kind].calls == calls && bytes == (double)(calls * ring_bytes(kind, comm->size, S));
    }
    return good;
}

/* What the op's buffer holds: nothing where slices lie one behind the other already. */
static int64_t buffer_bytes(Kind kind, Shape whole, int axis, int n, int64_t S) {
    int64_t outer = 1;
    for (int i = 0; i < axis; i++) outer *= whole.size[i];
    if (kind == ALL_TO_ALL) return S / n;
    return kind == COPY || kind == REDUCE || outer == 1 ? 0 : S;
}

/* The op on a value of this shape, sliced along in_axis or out_axis where it is Shard; `times`: applied so often to the
 * same x, whose gradients add up. */
static void try_shape(Verdict *v, Kind kind, const Mesh *m, MeshAxis along, Shape whole, int in_axis,
                      int out_axis, int times) {
    const Row *row = &table[kind];
    Comm *comm = m->axis[along];
    int n = comm->size, rank = comm->rank;
    Place in = {row->in, row->in == PLACE_SHARD ? in_axis : 0},
          out = {row->out, row->out == PLACE_SHARD ? out_axis : 0}, din = place_of_grad(in),
          dout = place_of_grad(out);
    int64_t S = shape_count(whole) * element_bytes(TYPE_REAL);
    CommCount before[COMM_KINDS];
    memcpy(before, comm->counts, sizeof before);
    device->memory.peak[MEMORY_COMMUNICATION] = 0;
    Tape *tape = tape_new(device, true);
    Tensor x = part_new("x", 1, whole, in, along, n, rank),
           dy = part_new("dy", 2, whole, dout, along, n, rank);
    Tensor *y = call_op(kind, tape, m, along, &x, out_axis);
    v->forward &= is_expected(y, 1, in, out, along, whole, n, rank, 1);
    for (int again = 1; again < times; again++)
        y = op_add(tape, y, call_op(kind, tape, m, along, &x, out_axis));
    Tensor kept = tensor_new(device, MEMORY_PARAMETERS, "kept", TYPE_REAL, y->shape); /* backward frees y */
    copy_elements(y, &kept);
    tape_backward(tape, y, &dy);
    v->backward &= x.grad && is_expected(x.grad, 2, dout, din, along, whole, n, rank, times);
    v->bytes &= bytes_are_right(comm, before, row, times, S);
    v->memory &= device->memory.now[MEMORY_COMMUNICATION] == 0;
    if (times == 1)
        v->memory &= device->memory.peak[MEMORY_COMMUNICATION] ==
                     buffer_bytes(kind, whole, row->in == PLACE_SHARD ? in_axis : out_axis, n, S);
    if (x.grad)
        v->identity &= inner_product(comm, &kept, &dy, out.kind) == inner_product(comm, &x, x.grad, in.kind);
    tape_delete(tape);
    tensor_free(&x);
    tensor_free(&dy);
    tensor_free(&kept);
}

/* A constant has no gradient, and none is sent. */
static bool constant_is_quiet(Kind kind, const Mesh *m, MeshAxis along) {
    Comm *comm = m->axis[along];
    Place in = {table[kind].in, 0},
          dout = place_of_grad((Place){table[kind].out, table[kind].out == PLACE_SHARD});
    Shape whole = SHAPE(2 * comm->size, 3 * comm->size);
    Tape *tape = tape_new(device, true);
    Tensor x = part_new("x", 1, whole, in, along, comm->size, comm->rank);
    Tensor dy = part_new("dy", 2, whole, dout, along, comm->size, comm->rank);
    x.constant = true;
    Tensor *y = call_op(kind, tape, m, along, &x, 1);
    CommCount before[COMM_KINDS];
    memcpy(before, comm->counts, sizeof before);
    tape_backward(tape, y, &dy);
    bool good = memcmp(before, comm->counts, sizeof before) == 0 && !x.grad;
    tape_delete(tape);
    tensor_free(&x);
    tensor_free(&dy);
    return good;
}

static void every_shape(Kind kind, const Mesh *m, MeshAxis along) {
    static const Shape shapes[] = {{1, {5}},          {2, {2, 3}}, {3, {3, 1, 2}},
                                   {4, {1, 2, 3, 2}}, {2, {3, 0}}, {2, {130, 140}}};
    /* the last is large enough for threads: along one axis only */
    int count = COUNT_OF(shapes) - (along != MESH_TENSOR);
    Verdict v = {true, true, true, true, true};
    int n = m->axis[along]->size;
    for (int s = 0; s < count; s++)
        for (int i = 0; i < shapes[s].rank; i++)
            for (int j = 0; j < shapes[s].rank; j++) {
                if (kind == ALL_TO_ALL ? i == j : i != j) continue;
                Shape whole = shapes[s];
                whole.size[i] *= n;
                if (j != i) whole.size[j] *= n;
                for (int times = 1; times <= 2; times++) try_shape(&v, kind, m, along, whole, i, j, times);
            }
    const char *name = table[kind].name, *axis = mesh_axis_names[along];
    ok_on_all(world, v.forward, "%s along '%s': values and placement", name, axis);
    ok_on_all(world, v.backward, "%s along '%s': gradients and their placement", name, axis);
    ok_on_all(world, v.identity, "%s along '%s': <forward(x), y> = <x, backward(y)>", name, axis);
    ok_on_all(world, v.bytes, "%s along '%s': calls and bytes", name, axis);
    ok_on_all(world, v.memory, "%s along '%s': memory", name, axis);
    ok_on_all(world, constant_is_quiet(kind, m, along), "%s along '%s': a constant's gradient is not sent",
              name, axis);
}

/* ---- send and recv: a chain of stages, each of which doubles x ---- */

static void chain(const Mesh *m, MeshAxis along) {
    Comm *comm = m->axis[along];
    int n = comm->size, stage = comm->rank;
    Shape shape = SHAPE(3, 7);
    Place private = {PLACE_PRIVATE, 0};
    Tape *tape = tape_new(device, true);
    /* every rank knows the first stage's x and the last one's dy */
    Tensor x = part_new("x", 1, shape, private, along, n, 0),
           dy = part_new("dy", 2, shape, private, along, n, 0);
    Tensor one = tensor_new(device, MEMORY_PARAMETERS, "one", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&one, 1);
    CommCount sent = comm->counts[COMM_SEND], received = comm->counts[COMM_RECV];
    Tensor *in = stage > 0 ? op_recv(tape, m, along, stage - 1, &x) : &x;
    Tensor *y = op_add(tape, in, in);
    bool good = true, last = stage == n - 1;
    for (int64_t i = 0; i < tensor_count(y); i++) good &= real_at(y, i) == ldexp(real_at(&x, i), stage + 1);
    if (last) {
        tape_backward(tape, y, &dy);
    } else {
        Tensor *loss = op_send(tape, m, along, y, stage + 1);
        good &= tensor_scalar(loss) == 0 && loss->place[along].kind == PLACE_PARTIAL;
        tape_backward(tape, loss, &one);
    }
    ok_on_all(world, good, "op_send, op_recv along '%s': values", mesh_axis_names[along]);
    good = in->grad != NULL && in->place[along].kind == PLACE_PRIVATE;
    if (stage == 0 && x.grad)
        for (int64_t i = 0; i < tensor_count(&x); i++)
            good &= real_at(x.grad, i) == ldexp(real_at(&dy, i), n);
    ok_on_all(world, good, "op_send, op_recv along '%s': gradients", mesh_axis_names[along]);
    int messages = (stage > 0) + !last;
    ok_on_all(world,
              comm->counts[COMM_SEND].calls - sent.calls == messages &&
                  comm->counts[COMM_SEND].bytes - sent.bytes == messages * tensor_bytes(&x) &&
                  comm->counts[COMM_RECV].calls - received.calls == messages &&
                  device->memory.now[MEMORY_COMMUNICATION] == 0,
              "op_send, op_recv along '%s': calls and bytes", mesh_axis_names[along]);
    tape_delete(tape);
    tensor_free(&x);
    tensor_free(&dy);
    tensor_free(&one);
}

/* A stage that sends the same x twice gets two gradients; a constant one gets none. */
static void sent_twice(const Mesh *m, MeshAxis along) {
    Comm *comm = m->axis[along];
    int n = comm->size, stage = comm->rank;
    bool good = true;
    for (int constant = 0; constant < 2; constant++) {
        Tape *tape = tape_new(device, true);
        Tensor x = part_new("x", 1, SHAPE(4), (Place){PLACE_PRIVATE, 0}, along, n, 0);
        x.constant = constant;
        if (stage == 0) {
            Tensor one = tensor_new(device, MEMORY_PARAMETERS, "one", TYPE_REAL, SHAPE(1));
            tensor_set_scalar(&one, 1);
            Tensor *a = op_send(tape, m, along, &x, 1), *b = op_send(tape, m, along, &x, 1);
            bool add;
            tape_grad(tape, b, &add); /* b takes part in the backward, which starts from one result only */
            tape_backward(tape, a, &one);
            if (!constant) tape_await(x.grad); /* no op of this stage reads it */
            for (int64_t i = 0; i < 4 && !constant; i++)
                good &= x.grad && real_at(x.grad, i) == 2 * real_at(&x, i);
            good &= !constant || !x.grad;
            tensor_free(&one);
        } else if (stage == 1) {
            Tensor *a = op_recv(tape, m, along, 0, &x), *b = op_recv(tape, m, along, 0, &x);
            tape_backward(tape, op_add(tape, a, b), &x);
        }
        tape_delete(tape);
        tensor_free(&x);
    }
    ok_on_all(world, good, "op_send along '%s': the gradients of two uses add up", mesh_axis_names[along]);
}

/* ---- two axes of the mesh on one axis of the shape: data cuts first ---- */

static void nested(const Mesh *m) {
    int n = world->size;
    Shape whole = SHAPE(3, 2 * n);
    Tape *tape = tape_new(device, true);
    Tensor x = part_new("x", 1, whole, (Place){PLACE_REPLICATE, 0}, MESH_DATA, n, world->rank);
    Tensor *part = op_split(tape, m, MESH_TENSOR, op_split(tape, m, MESH_DATA, &x, 1), 1);
    bool good = part->shape.size[1] == 2;
    for (int64_t i = 0; i < tensor_count(part); i++)
        good &= real_at(part, i) ==
                (real)element(1, 0, index_in_whole(i, whole, (Place){PLACE_SHARD, 1}, n, world->rank));
    Tensor *again = op_gather(tape, m, MESH_DATA, op_gather(tape, m, MESH_TENSOR, part));
    good &= same_elements(again, &x);
    ok_on_all(world, good, "an axis cut by 'data' and within by 'tensor', and put together again");
    tape_delete(tape);
    tensor_free(&x);
}

int main(void) {
    world = ranks_world();
    device = device_new_cpu(0);
    int n = world->size;
    for (int along = 0; along < MESH_AXES; along++) {
        int size[MESH_AXES] = {1, 1, 1};
        size[along] = n;
        Mesh m = mesh_new(world, size);
        for (int kind = 0; kind < OPS; kind++) every_shape((Kind)kind, &m, (MeshAxis)along);
        chain(&m, (MeshAxis)along);
        if (n > 1) sent_twice(&m, (MeshAxis)along);
        mesh_close(&m);
    }
    if (n % 2 == 0) { /* groups that are parts of the world */
        Mesh m = mesh_new(world, (const int[MESH_AXES]){2, 1, n / 2});
        for (int kind = 0; kind < OPS; kind++) {
            every_shape((Kind)kind, &m, MESH_DATA);
            every_shape((Kind)kind, &m, MESH_TENSOR);
        }
        nested(&m);
        mesh_close(&m);
    }
    device_delete(device);
    comm_close(world);
    return tap_done();
}
