/* A matrix and two vectors laid out over the devices that are there. */
#include "chapters/04_collectives/layouts.h"

#include "common/base/size_text.h"
#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct {
    double first[2], size[2],
        sum; /* of the slice: its first row and column, its shape, the sum of its elements */
} Piece;

static Piece ones(const Lesson *lesson, int64_t rows, int64_t columns) {
    const Mesh *mesh = &lesson->mesh;
    Tile t = tile_of(mesh, &layouts[1], lesson->world->rank);
    rows /= t.cuts[0];
    columns /= t.cuts[1];
    Tensor a = tensor_new(lesson->device, MEMORY_ACTIVATIONS, "A", TYPE_REAL, SHAPE(rows, columns));
    Piece p = {
        {(double)(t.index[0] * rows), (double)(t.index[1] * columns)}, {(double)rows, (double)columns}, 0};
    real *values = xmalloc((size_t)tensor_bytes(&a));
    for (int64_t i = 0; i < tensor_count(&a); i++) values[i] = 1;
    tensor_write(&a, 0, tensor_count(&a), values);
    tensor_read(&a, 0, tensor_count(&a), values);
    for (int64_t i = 0; i < tensor_count(&a); i++) p.sum += (double)values[i];
    free(values);
    tensor_free(&a);
    return p;
}

static bool place_ones(const Lesson *lesson, int64_t rows, int64_t columns) {
    double all = 0;
    Piece mine = ones(lesson, rows, columns), *pieces = lesson_gather(lesson, &mine, sizeof mine);
    printf("A (%" PRId64 ", %" PRId64 "), all ones, is %s. Laid out as A[I_X, J_Y]:\n", rows, columns,
           size_text((double)(rows * columns) * sizeof(real)).text);
    printf("device  %-16s %-16s %-16s %9s  %s\n", "rows", "columns", "shape", "memory", "sum");
    for (int r = 0; r < lesson->world->size; r++) {
        const Piece *p = &pieces[r];
        char row[48], column[48];
        snprintf(row, sizeof row, "%.0f .. %.0f", p->first[0], p->first[0] + p->size[0] - 1);
        snprintf(column, sizeof column, "%.0f .. %.0f", p->first[1], p->first[1] + p->size[1] - 1);
        printf("%6d  %-16s %-16s %-16s %9s  %.0f\n", r, row, column,
               shape_text(SHAPE((int64_t)p->size[0], (int64_t)p->size[1])).text,
               size_text(p->size[0] * p->size[1] * sizeof(real)).text, p->sum);
        all += p->sum;
    }
    free(pieces);
    all /= lesson->mesh.size[MESH_PIPE]; /* along which the matrix is whole */
    return all == (double)(rows * columns);
}

/* What each device has of a vector, a line each. */
static void print_vectors(const Lesson *lesson, const char *title, const Tensor *v) {
    enum { SHOWN = 32 };
    int64_t count = min64(tensor_count(v), SHOWN);
    real mine[SHOWN];
    tensor_read(v, 0, count, mine);
    real *all = lesson_gather(lesson, mine, count * (int64_t)sizeof(real));
    printf("%s\n", title);
    for (int r = 0; r < lesson->world->size; r++) {
        printf("  device %d: ", r);
        for (int64_t i = 0; i < count; i++) printf(" %3g", (double)all[r * count + i]);
        printf("%s\n", tensor_count(v) > SHOWN ? " ..." : "");
    }
    free(all);
}

/* w = u + v, cut over all devices: each adds its own elements. */
static bool add_vectors(const Lesson *lesson) {
    const Mesh *mesh = &lesson->mesh;
    int64_t count = 2 * mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    Tape *tape = tape_new(lesson->device, false);
    Tensor *part[2];
    real *values = xmalloc((size_t)count * sizeof *values);
    for (int i = 0; i < 2; i++) {
        Tensor *v = tape_tensor(tape, i ? "v" : "u", TYPE_REAL, SHAPE(count), NULL);
        for (int64_t k = 0; k < count; k++) values[k] = (real)(i ? 10 * k : k);
        tensor_write(v, 0, count, values);
        v = op_split(tape, mesh, MESH_DATA, v, 0); /* X cuts first */
        part[i] = op_split(tape, mesh, MESH_TENSOR, v, 0);
    }
    Tensor *w = tape_tensor(tape, "w", TYPE_REAL, part[0]->shape, part[0]);
    KERNELS(tape)->add(QUEUE(tape), part[0], part[1], w);
    print_vectors(
        lesson,
        "\nu = 0, 1, 2 ..., v = 0, 10, 20 ..., both laid out as u[I_XY]; w = u + v, nothing moves:", w);
    int64_t before = lesson_bytes(lesson);
    w = op_gather(tape, mesh, MESH_TENSOR, w);
    print_vectors(lesson, "gathered along Y, w[I_X]:", w);
    w = op_gather(tape, mesh, MESH_DATA, w);
    print_vectors(lesson, "and along X, w[I]:", w);
    bool right = true;
    tensor_read(w, 0, count, values);
    for (int64_t k = 0; k < count; k++) right &= values[k] == (real)(11 * k);
    free(values);
    int64_t n = mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    right &=
        lesson_check_bytes(lesson, before, mesh->size[MESH_PIPE] * n * (n - 1) * 2 * (int64_t)sizeof(real),
                           "every device gets what it lacks");
    tape_delete(tape);
    return right;
}

static int64_t round_up(int64_t size, int64_t multiple) { return ceil_div(size, multiple) * multiple; }

bool layouts_place(const Lesson *lesson, int64_t rows, int64_t columns) {
    const int *size = lesson->mesh.size;
    bool right = place_ones(lesson, round_up(rows, size[MESH_DATA]), round_up(columns, size[MESH_TENSOR]));
    return add_vectors(lesson) && right;
}
