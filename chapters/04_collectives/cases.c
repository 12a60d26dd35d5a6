#include "chapters/04_collectives/cases.h"

#include "chapters/04_collectives/layouts.h"
#include "common/comm/dist_ops.h"
#include "common/tensor/kernels.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- the rule ---- */

const char *product_place(Place a, Place b, Place *c) {
    bool rows = a.kind == PLACE_SHARD && a.axis == 0, summed_in_a = a.kind == PLACE_SHARD && a.axis == 1;
    bool columns = b.kind == PLACE_SHARD && b.axis == 1, summed_in_b = b.kind == PLACE_SHARD && b.axis == 0;
    if (a.kind == PLACE_PARTIAL || b.kind == PLACE_PARTIAL) return "a sum is not added up yet: all-reduce it";
    if (summed_in_a && !summed_in_b) return "J is cut in A, not in B: all-gather A";
    if (summed_in_b && !summed_in_a) return "J is cut in B, not in A: all-gather B";
    if (rows && columns) return "one mesh axis would cut I and K: all-gather A or B";
    *c = summed_in_a ? (Place){PLACE_PARTIAL, 0} : rows ? a : columns ? b : (Place){PLACE_REPLICATE, 0};
    return NULL;
}

/* a (I,J) b (J,K) -> (I,K), each as far as this device has it; refuses what the rule refuses. */
static Tensor *multiply(Tape *tape, const Tensor *a, const Tensor *b) {
    Tensor *c = tape_tensor(tape, "C", TYPE_REAL, SHAPE(a->shape.size[0], b->shape.size[1]), NULL);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const char *problem = product_place(a->place[axis], b->place[axis], &c->place[axis]);
        CHECK(!problem, problem, "no product of %s and %s", notation('A', "IJ", a->place).text,
              notation('B', "JK", b->place).text);
    }
    KERNELS(tape)->matmul(QUEUE(tape), a, false, b, false, NULL, c, false);
    return c;
}

/* ---- the matrices: A = 0, 1, 2 ..., B goes on where A ends ---- */

typedef struct {
    const Lesson *lesson;
    const Mesh *mesh;
    Tape *tape;
    int64_t N;             /* all are (N, N) */
    Tensor *A, *B, *whole; /* Replicate; whole = A B */
    int64_t before;        /* bytes sent before the case began */
    bool right;
} Cases;

static int64_t common_multiple(int64_t a, int64_t b) {
    int64_t m = a;
    while (m % b != 0) m += a;
    return m;
}

static Tensor *counting(Tape *tape, const char *name, int64_t N, int64_t first) {
    Tensor *t = tape_tensor(tape, name, TYPE_REAL, SHAPE(N, N), NULL);
    real *values = xmalloc((size_t)(N * N) * sizeof *values);
    for (int64_t i = 0; i < N * N; i++) values[i] = (real)(first + i);
    tensor_write(t, 0, N * N, values);
    free(values);
    return t;
}

static Cases cases_new(const Lesson *lesson) {
    Cases c = {
        .lesson = lesson, .mesh = &lesson->mesh, .tape = tape_new(lesson->device, false), .right = true};
    int64_t fits = common_multiple(c.mesh->size[MESH_DATA], c.mesh->size[MESH_TENSOR]);
    c.N = ceil_div(4, fits) * fits;
    c.A = counting(c.tape, "A", c.N, 0);
    c.B = counting(c.tape, "B", c.N, c.N * c.N);
    c.whole = multiply(c.tape, c.A, c.B);
    return c;
}

/* A slice of this device: `dim` of t cut along X or Y. No byte moves, everyone has the whole. */
static Tensor *cut(Cases *c, MeshAxis along, Tensor *t, int dim) {
    return op_split(c->tape, c->mesh, along, t, dim);
}

/* values (rows, columns of t), in the host's memory. */
static void print_matrix(const Tensor *t, const real *values) {
    for (int64_t i = 0; i < tensor_rows(t); i++) {
        printf("    ");
        for (int64_t j = 0; j < tensor_columns(t); j++)
            printf(" %6g", (double)values[i * tensor_columns(t) + j]);
        printf("\n");
    }
}

/* Prints what each device along X has; those that differ in another coordinate have the same. */
static void print_along_x(const Cases *c, const Tensor *t, const char *what) {
    int64_t count = tensor_count(t);
    real *mine = tensor_to_host(t), *all = lesson_gather(c->lesson, mine, tensor_bytes(t));
    for (int x = 0; x < c->mesh->size[MESH_DATA]; x++) {
        printf("  device X = %d, %s:\n", x, what);
        print_matrix(t, all + mesh_rank(c->mesh, (int[MESH_AXES]){x, 0, 0}) * count);
    }
    free(mine);
    free(all);
}

/* ---- a case ---- */

static void begin(Cases *c, const char *title, const Tensor *a, const Tensor *b) {
    printf("\n%s: %s . %s\n", title, notation('A', "IJ", a->place).text, notation('B', "JK", b->place).text);
    c->before = lesson_bytes(c->lesson);
}

/* Compares C with its slice of the unsharded product, on every device. */
static void compare(Cases *c, const Tensor *got) {
    Tensor *want = c->whole;
    double most = 0;
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (got->place[axis].kind == PLACE_SHARD) want = cut(c, (MeshAxis)axis, want, got->place[axis].axis);
    bool same_shape = shape_equal(got->shape, want->shape);
    real *is = tensor_to_host(got), *should_be = tensor_to_host(want), scale; /* the largest element */
    for (int64_t i = 0; same_shape && i < tensor_count(got); i++)
        most = lesson_worse(most, fabs((double)is[i] - (double)should_be[i]));
    free(is);
    free(should_be);
    most = lesson_largest(c->lesson, most);
    tensor_read(c->whole, tensor_count(c->whole) - 1, 1, &scale);
    bool equal = same_shape && most <= 1e-6 * (double)scale;
    printf("  %s: largest difference from the unsharded product on any device: %g\n",
           notation('C', "IK", got->place).text, most);
    c->right &= equal;
}

/* groups: how many there are along X; each moves `each` bytes. */
static void check_bytes(Cases *c, int64_t each, const char *formula) {
    int64_t groups = c->lesson->world->size / c->mesh->size[MESH_DATA];
    c->right &= lesson_check_bytes(c->lesson, c->before, groups * each, formula);
    c->before = lesson_bytes(c->lesson);
}

static int64_t others(const Cases *c) { return c->mesh->size[MESH_DATA] - 1; }

static void case_1(Cases *c) {
    Tensor *a = cut(c, MESH_DATA, c->A, 0), *b = cut(c, MESH_TENSOR, c->B, 1);
    begin(c, "case 1, J is not sharded", a, b);
    printf("  every device has whole rows of A and whole columns of B: it multiplies what it has\n");
    compare(c, multiply(c->tape, a, b));
    check_bytes(c, 0, "no collective");
}

static void case_2(Cases *c) {
    Tensor *a = cut(c, MESH_DATA, c->A, 1);
    begin(c, "case 2, J is sharded in A", a, c->B);
    print_along_x(c, a, "its columns of A");
    printf("  %s times %s: ", shape_text(a->shape).text, shape_text(c->B->shape).text);
    Place place;
    const char *problem = product_place(a->place[MESH_DATA], c->B->place[MESH_DATA], &place);
    printf("%s\n", problem ? problem : "it fits");
    a = op_gather(c->tape, c->mesh, MESH_DATA, a);
    printf("  all-gather along X: %s, and\n", notation('A', "IJ", a->place).text);
    Tensor *C = multiply(c->tape, a, c->B);
    real *values = tensor_to_host(C);
    print_matrix(C, values);
    free(values);
    compare(c, C);
    check_bytes(c, others(c) * tensor_bytes(a), "(n-1) S for each group along X");
}

static void case_3(Cases *c) {
    Tensor *a = cut(c, MESH_DATA, c->A, 1), *b = cut(c, MESH_DATA, c->B, 0);
    begin(c, "case 3, J is sharded in both", a, b);
    Tensor *partial = multiply(c->tape, a, b);
    printf("  columns of A meet the same rows of B: %s, a term of the sum on each device\n",
           notation('C', "IK", partial->place).text);
    print_along_x(c, partial, "its term of C");
    compare(c, op_reduce(c->tape, c->mesh, MESH_DATA, partial));
    check_bytes(c, 2 * others(c) * tensor_bytes(partial), "all-reduce, 2 (n-1) S for each group");
    compare(c, op_reduce_scatter(c->tape, c->mesh, MESH_DATA, partial, 0));
    check_bytes(c, others(c) * tensor_bytes(partial), "reduce-scatter, (n-1) S for each group");
}

static void case_4(Cases *c) {
    Tensor *a = cut(c, MESH_DATA, c->A, 0), *b = cut(c, MESH_DATA, c->B, 1);
    begin(c, "case 4, X cuts I and K", a, b);
    Place place;
    const char *problem = product_place(a->place[MESH_DATA], b->place[MESH_DATA], &place);
    printf("  not allowed: %s\n", problem ? problem : "it fits");
    printf("  each device could form one block of C on the diagonal, %s of %s, and nobody the others\n",
           shape_text(SHAPE(tensor_rows(a), tensor_columns(b))).text, shape_text(c->whole->shape).text);
    printf("  first way out: all-gather B\n");
    compare(c, multiply(c->tape, a, op_gather(c->tape, c->mesh, MESH_DATA, b)));
    check_bytes(c, others(c) * tensor_bytes(c->B), "(n-1) S for each group along X");
    printf("  second way out: all-gather A\n");
    compare(c, multiply(c->tape, op_gather(c->tape, c->mesh, MESH_DATA, a), b));
    check_bytes(c, others(c) * tensor_bytes(c->A), "(n-1) S for each group along X");
}

bool cases_show(const Lesson *lesson) {
    Cases c = cases_new(lesson);
    printf("C = A B, each (%" PRId64 ", %" PRId64 "): A = 0 .. %" PRId64 ", B = %" PRId64 " .. %" PRId64 "\n",
           c.N, c.N, c.N * c.N - 1, c.N * c.N, 2 * c.N * c.N - 1);
    case_1(&c);
    case_2(&c);
    case_3(&c);
    case_4(&c);
    tape_delete(c.tape);
    return c.right;
}
