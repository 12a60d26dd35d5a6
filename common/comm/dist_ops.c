#include "common/comm/dist_ops.h"

#include "common/tensor/kernels.h"
#include "common/tensor/places.h"

#include <string.h>

/* ---- the linear maps: y (+)= f(x), among the devices of one axis of the mesh ---- */

/* Which axis of the shape is in slices in x, and which in y. */
typedef struct {
    Comm *comm;
    int in, out;
} Way;

typedef void Map(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add);

static Tensor buffer_new(Tape *tape, const char *name, const Tensor *like, int64_t count) {
    return tensor_new(tape->device, MEMORY_COMMUNICATION, name, like->type, SHAPE(count));
}

/* Each slice along the axis is one block of memory: nothing needs to be moved. */
static bool slices_are_blocks(const Tensor *t, int axis) {
    for (int i = 0; i < axis; i++)
        if (t->shape.size[i] != 1) return false;
    return true;
}

/* Row r of the buffer (n, ..) as a slice of t, which has n slices along `axis`. */
static Tensor row_of(const Tensor *buffer, const Tensor *t, int axis, int n, int r) {
    Shape shape = t->shape;
    shape.size[axis] /= n;
    return tensor_view(buffer, r * shape_count(shape), shape);
}

/* Each row of the buffer becomes a slice of y. */
static void join_rows(Tape *tape, const Tensor *buffer, int n, Tensor *y, int axis, bool add) {
    int64_t size = y->shape.size[axis] / n;
    for (int r = 0; r < n; r++) {
        Tensor row = row_of(buffer, y, axis, n, r);
        KERNELS(tape)->copy_slice(QUEUE(tape), &row, 0, y, r * size, axis, size, add);
    }
}

/* Each slice of x becomes a row of the buffer. */
static void cut_to_rows(Tape *tape, const Tensor *x, int axis, int n, Tensor *buffer) {
    int64_t size = x->shape.size[axis] / n;
    for (int r = 0; r < n; r++) {
        Tensor row = row_of(buffer, x, axis, n, r);
        KERNELS(tape)->copy_slice(QUEUE(tape), x, r * size, &row, 0, axis, size, false);
    }
}

static void identity(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add) {
    (void)way;
    if (add)
        KERNELS(tape)->accumulate(QUEUE(tape), x, y);
    else
        KERNELS(tape)->copy(QUEUE(tape), x, y);
}

static void slice(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add) {
    int64_t size = y->shape.size[way.out];
    KERNELS(tape)->copy_slice(QUEUE(tape), x, way.comm->rank * size, y, 0, way.out, size, add);
}

static void all_reduce(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add) {
    int64_t count = tensor_count(x);
    if (!add) {
        comm_all_reduce(way.comm, QUEUE(tape), x->data, y->data, count, x->type, REDUCE_SUM);
        return;
    }
    Tensor sum = buffer_new(tape, "all_reduce", x, count);
    comm_all_reduce(way.comm, QUEUE(tape), x->data, sum.data, count, x->type, REDUCE_SUM);
    KERNELS(tape)->accumulate(QUEUE(tape), &sum, y);
    tensor_free(&sum);
}

static Gather gather_start(Tape *tape, Comm *comm, const Tensor *x, int axis, const Tensor *y, bool add) {
    Gather g = {.comm = comm, .axis = axis};
    bool joined = add || !slices_are_blocks(y, axis);
    if (joined) g.rows = buffer_new(tape, "all_gather", x, tensor_count(y));
    g.request = comm_start_all_gather(comm, QUEUE(tape), x->data, joined ? g.rows.data : y->data,
                                      tensor_count(x), x->type);
    return g;
}

static void gather_wait(Tape *tape, Gather *g, Tensor *y, bool add) {
    comm_wait(g->comm, QUEUE(tape), g->request);
    if (!g->rows.data) return;
    join_rows(tape, &g->rows, g->comm->size, y, g->axis, add);
    tensor_free(&g->rows);
}

Gather dist_gather_start(Tape *tape, Comm *comm, const Tensor *x, int axis, const Tensor *y) {
    return gather_start(tape, comm, x, axis, y, false);
}

void dist_gather_wait(Tape *tape, Gather *gather, Tensor *y) { gather_wait(tape, gather, y, false); }

static void all_gather(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add) {
    Gather g = gather_start(tape, way.comm, x, way.in, y, add);
    gather_wait(tape, &g, y, add);
}

static void reduce_scatter(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add) {
    int64_t count = tensor_count(y);
    Tensor rows = {.data = x->data}, sum = {.data = y->data};
    bool cut = !slices_are_blocks(x, way.out);
    if (cut) {
        rows = buffer_new(tape, "reduce_scatter", x, tensor_count(x));
        cut_to_rows(tape, x, way.out, way.comm->size, &rows);
    }
    if (add) sum = buffer_new(tape, "reduce_scatter.sum", x, count);
    comm_reduce_scatter(way.comm, QUEUE(tape), rows.data, sum.data, count, x->type, REDUCE_SUM);
    if (cut) tensor_free(&rows);
    if (!add) return;
    KERNELS(tape)->accumulate(QUEUE(tape), &sum, y);
    tensor_free(&sum);
}

void dist_reduce_scatter(Tape *tape, Comm *comm, const Tensor *x, int axis, Tensor *y, bool add) {
    reduce_scatter(tape, (Way){.comm = comm, .out = axis}, x, y, add);
}

static void all_to_all(Tape *tape, Way way, const Tensor *x, Tensor *y, bool add) {
    int n = way.comm->size;
    Tensor rows = buffer_new(tape, "all_to_all", x, tensor_count(x));
    cut_to_rows(tape, x, way.out, n, &rows);
    comm_all_to_all(way.comm, QUEUE(tape), rows.data, rows.data, tensor_count(x) / n, x->type);
    join_rows(tape, &rows, n, y, way.in, add);
    tensor_free(&rows);
}

/* ---- the table ---- */

typedef struct {
    Op op; /* comes first: a node's Op is one of these */
    PlaceKind in, out;
    Map *forward, *backward;
} DistOp;

static void backward(Tape *tape, Node *n) { /* dx += the transpose of the op, on dy */
    bool add;
    Tensor *dx = tape_grad(tape, n->in[0], &add);
    const DistOp *op = (const DistOp *)n->op;
    const Way *way = n->args;
    if (dx) op->backward(tape, (Way){way->comm, way->out, way->in}, n->out->grad, dx, add);
}

#define DIST_OP(name, in, out, forward, transpose)                                                           \
    static const DistOp name##_op = {{#name, backward, NULL}, in, out, forward, transpose}

DIST_OP(copy, PLACE_REPLICATE, PLACE_PRIVATE, identity, all_reduce);
DIST_OP(reduce, PLACE_PARTIAL, PLACE_REPLICATE, all_reduce, identity);
DIST_OP(all_gather, PLACE_SHARD, PLACE_PRIVATE, all_gather, reduce_scatter);
DIST_OP(gather, PLACE_SHARD, PLACE_REPLICATE, all_gather, slice);
DIST_OP(reduce_scatter, PLACE_PARTIAL, PLACE_SHARD, reduce_scatter, all_gather);
DIST_OP(split, PLACE_REPLICATE, PLACE_SHARD, slice, all_gather);
DIST_OP(all_to_all, PLACE_SHARD, PLACE_SHARD, all_to_all, all_to_all);

/* ---- what is refused ---- */

void dist_check_place(const char *op, MeshAxis along, const Tensor *x, PlaceKind wanted) {
    Place is = x->place[along];
    CHECK(is.kind == wanted, place_remedy(is.kind, wanted),
          "op_%s: '%s' is %s on the mesh axis '%s', must be %s", op, x->name, place_text(is).text,
          mesh_axis_names[along], place_kind_names[wanted]);
}

/* x can be cut along an axis into n slices. */
static void check_cut(const char *op, const Tensor *x, int axis, int n, MeshAxis along) {
    CHECK(axis >= 0 && axis < x->shape.rank, "count from 0", "op_%s: axis %d of '%s' %s", op, axis, x->name,
          shape_text(x->shape).text);
    int64_t size = x->shape.size[axis], below = size / n * n;
    char hint[96];
    if (below)
        snprintf(hint, sizeof hint, "%lld and %lld can", (long long)below, (long long)(below + n));
    else
        snprintf(hint, sizeof hint, "%d can", n);
    CHECK(size % n == 0, hint,
          "op_%s: axis %d of '%s' %s cannot be cut into %d equal slices, one for each device along '%s'", op,
          axis, x->name, shape_text(x->shape).text, n, mesh_axis_names[along]);
}

/* Where several mesh axes cut this axis of the shape, `along` is the last of them. */
static void check_innermost(const char *op, MeshAxis along, const Tensor *x, int axis) {
    for (int later = (int)along + 1; later < MESH_AXES; later++)
        CHECK(
            x->place[later].kind != PLACE_SHARD || x->place[later].axis != axis,
            "where two mesh axes cut one axis, the first cuts first: gather the other before, split it after",
            "op_%s along '%s': '%s' is Shard(%d) on the mesh axis '%s' as well, which cuts within its slices",
            op, mesh_axis_names[along], x->name, axis, mesh_axis_names[later]);
}

/* ---- the ops ---- */

static Tensor *apply(const DistOp *op, Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x,
                     int out_axis) {
    const char *name = op->op.name;
    Way way = {mesh->axis[along], x->place[along].axis, out_axis};
    int n = way.comm->size;
    Shape shape = x->shape;
    dist_check_place(name, along, x, op->in);
    tape_await(x);
    if (op->out == PLACE_SHARD) {
        check_cut(name, x, way.out, n, along);
        check_innermost(name, along, x, way.out);
        shape.size[way.out] /= n;
    }
    if (op->in == PLACE_SHARD) {
        CHECK(op->out != PLACE_SHARD || way.in != way.out, "name the axis that is to be cut instead",
              "op_%s: '%s' is Shard(%d) already", name, x->name, way.in);
        check_innermost(name, along, x, way.in);
        shape.size[way.in] *= n;
    }
    Tensor *y = tape_tensor(tape, x->name, x->type, shape, x);
    y->place[along] = (Place){op->out, op->out == PLACE_SHARD ? way.out : 0};
    op->forward(tape, way, x, y, false);
    Node *node = tape_node(tape, &op->op, x, NULL, y);
    if (!node) return y;
    node->args = tape_alloc(tape, sizeof way);
    *(Way *)node->args = way;
    return y;
}

Tensor *op_copy(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x) {
    return apply(&copy_op, tape, mesh, along, x, 0);
}

Tensor *op_reduce(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x) {
    return apply(&reduce_op, tape, mesh, along, x, 0);
}

Tensor *op_all_gather(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x) {
    return apply(&all_gather_op, tape, mesh, along, x, 0);
}

Tensor *op_gather(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x) {
    return apply(&gather_op, tape, mesh, along, x, 0);
}

Tensor *op_reduce_scatter(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int axis) {
    return apply(&reduce_scatter_op, tape, mesh, along, x, axis);
}

Tensor *op_split(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int axis) {
    return apply(&split_op, tape, mesh, along, x, axis);
}

Tensor *op_all_to_all(Tape *tape, const Mesh *mesh, MeshAxis along, Tensor *x, int axis) {
    return apply(&all_to_all_op, tape, mesh, along, x, axis);
}
