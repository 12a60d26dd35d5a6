/* What chapter 04 draws is what the library does: the tile of every device in every layout, against op_split. Who holds a
 * tile, notations, and the rule of the sharded product against products that are carried out.
 *
 * TEST np: 4 6, all: 1 8
 * TEST variants: float asan */
#include "chapters/04_collectives/cases.h"
#include "chapters/04_collectives/layouts.h"
#include "common/comm/dist_ops.h"
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;
static Mesh mesh;
static Device *device;

/* (24, 48) = 0, 1, 2 ...; or other sizes, and numbers that a sum does not mix up */
static Tensor *counting(Tape *tape, int64_t rows, int64_t columns) {
    Tensor *t = tape_tensor(tape, "counting", TYPE_REAL, SHAPE(rows, columns), NULL);
    for (int64_t i = 0; i < rows * columns; i++) set_real_at(t, i, (real)i);
    return t;
}

static Tensor *lay_out(Tape *tape, Tensor *t, const Place place[MESH_AXES]) {
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (place[axis].kind == PLACE_SHARD) t = op_split(tape, &mesh, (MeshAxis)axis, t, place[axis].axis);
    return t;
}

static void test_tile(const Layout *layout) {
    enum { ROWS = 24, COLUMNS = 48 };
    Tape *tape = tape_new(device, false);
    Tensor *piece = lay_out(tape, counting(tape, ROWS, COLUMNS), layout->place);
    Tile t = tile_of(&mesh, layout, world->rank);
    int64_t rows = ROWS / t.cuts[0], columns = COLUMNS / t.cuts[1];
    bool right = piece->shape.size[0] == rows && piece->shape.size[1] == columns;
    for (int64_t i = 0; right && i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            right &= real_at(piece, i * columns + j) ==
                     (real)((t.index[0] * rows + i) * COLUMNS + t.index[1] * columns + j);
    ok_on_all(world, right, "%s: the tile is the library's", layout_notation('A', "IJ", layout).text);
    tape_delete(tape);
}

/* Every device holds one tile, and every tile is held. */
static void test_holders(const Layout *layout) {
    int times[MOST_DEVICES] = {0}, who[MOST_DEVICES], each = -1;
    Tile any = tile_of(&mesh, layout, 0);
    bool right = true;
    for (int r = 0; r < any.cuts[0]; r++)
        for (int c = 0; c < any.cuts[1]; c++) {
            int count = holders(&mesh, layout, r, c, who);
            right &= count > 0 && (each < 0 || count == each);
            each = count;
            for (int i = 0; i < count; i++) times[who[i]]++;
        }
    for (int r = 0; r < world->size; r++) right &= times[r] == 1;
    ok(right, "%s: each device has one tile", layout_notation('A', "IJ", layout).text);
}

/* All pairs of placements on one mesh axis, carried out: where the rule says that it can be done, the local products are
 * C as the rule says it lies; where it refuses, they are not, or do not fit. */
static void test_rule(Place a, Place b) {
    enum { N = 24 };
    Tape *tape = tape_new(device, false);
    Place place_a[MESH_AXES] = {{0}}, place_b[MESH_AXES] = {{0}}, c;
    place_a[MESH_DATA] = a, place_b[MESH_DATA] = b;
    Tensor *A = counting(tape, N, N), *B = counting(tape, N, N),
           *whole = tape_tensor(tape, "C", TYPE_REAL, SHAPE(N, N), NULL);
    KERNELS(tape)->matmul(QUEUE(tape), A, false, B, false, NULL, whole, false);
    const char *problem = product_place(a, b, &c);
    A = lay_out(tape, A, place_a), B = lay_out(tape, B, place_b);
    bool fits = tensor_columns(A) == tensor_rows(B), right = problem != NULL;
    if (fits && !problem) {
        Tensor *C = tape_tensor(tape, "C", TYPE_REAL, SHAPE(tensor_rows(A), tensor_columns(B)), NULL);
        KERNELS(tape)->matmul(QUEUE(tape), A, false, B, false, NULL, C, false);
        C->place[MESH_DATA] = c;
        if (c.kind == PLACE_PARTIAL) C = op_reduce(tape, &mesh, MESH_DATA, C);
        Tensor *want = lay_out(tape, whole, C->place);
        right = shape_equal(C->shape, want->shape);
        for (int64_t i = 0; right && i < tensor_count(C); i++)
            right &= fabs((double)real_at(C, i) - (double)real_at(want, i)) <=
                     1e-6 * fabs((double)real_at(want, i));
    } else if (
        fits) { /* only where I and K are cut by one axis: the blocks of all devices are not all of C */
        right = a.kind == PLACE_SHARD && a.axis == 0 && b.kind == PLACE_SHARD && b.axis == 1;
    }
    ok_on_all(world, right, "%s . %s: %s", notation('A', "IJ", place_a).text,
              notation('B', "JK", place_b).text, problem ? problem : "allowed");
    tape_delete(tape);
}

static void test_notation(void) {
    const Place both[MESH_AXES] = {[MESH_DATA] = {PLACE_SHARD, 1}, [MESH_TENSOR] = {PLACE_SHARD, 1}};
    const Place sum[MESH_AXES] = {[MESH_DATA] = {PLACE_PARTIAL, 0}, [MESH_TENSOR] = {PLACE_SHARD, 0}};
    const Place none[MESH_AXES] = {{0}};
    ok(strcmp(notation('A', "IJ", both).text, "A[I, J_XY]") == 0, "A[I, J_XY]");
    ok(strcmp(notation('C', "IK", sum).text, "C[I_Y, K] {U_X}") == 0, "C[I_Y, K] {U_X}");
    ok(strcmp(notation('B', "JK", none).text, "B[J, K]") == 0, "B[J, K]");
    bool differ = true;
    for (int i = 0; i < LAYOUTS; i++)
        for (int j = 0; j < i; j++)
            differ &= strcmp(layout_notation('A', "IJ", &layouts[i]).text,
                             layout_notation('A', "IJ", &layouts[j]).text) != 0;
    ok(differ, "%d layouts, no two alike", LAYOUTS);
}

int main(void) {
    static const Place places[] = {{PLACE_REPLICATE, 0}, {PLACE_SHARD, 0}, {PLACE_SHARD, 1}};
    world = ranks_world();
    mesh = mesh_new(world, (const int[MESH_AXES]){world->size > 1 ? 2 : 1, 1, 0});
    device = device_new_cpu(0);
    for (int i = 0; i < LAYOUTS; i++) {
        if (!layouts[i].y_first) test_tile(&layouts[i]);
        test_holders(&layouts[i]);
    }
    if (world->size > 1)
        for (int a = 0; a < COUNT_OF(places); a++)
            for (int b = 0; b < COUNT_OF(places); b++) test_rule(places[a], places[b]);
    Place c;
    ok(product_place((Place){PLACE_PARTIAL, 0}, places[0], &c) &&
           product_place(places[0], (Place){PLACE_PARTIAL, 0}, &c),
       "a sum that is not added up is refused");
    test_notation();
    device_delete(device);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
