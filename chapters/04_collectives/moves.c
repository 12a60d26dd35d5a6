#include "chapters/04_collectives/moves.h"

#include "chapters/04_collectives/ring.h"
#include "common/base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Row r is what device r has at first. Four devices have the sixteen numbers that are easy to remember; others have
 * digits of a kind. */
static int32_t number(int n, int r, int i) {
    static const int32_t sixteen[4][4] = {{3, 1, 4, 1}, {5, 9, 2, 6}, {5, 3, 5, 8}, {9, 7, 1, 2}};
    return n == 4 ? sixteen[r][i] : (7 * r + 3 * i + r * i) % 10;
}

/* What device r has alone, for the all-gather. */
static int32_t single(int n, int r) {
    static const int32_t four[4] = {3, 9, 5, 2};
    return n == 4 ? four[r] : (5 * r + 3) % 10;
}

/* Numbers that lie on this device. */
static Tensor numbers_new(const Lesson *lesson, const char *name, int64_t count) {
    return tensor_new(lesson->device, MEMORY_ACTIVATIONS, name, TYPE_REAL, SHAPE(count));
}

/* Prints the numbers of each device. mine (count); marks (count) or NULL: a character behind each of this device's numbers. */
static void print_devices(const Lesson *lesson, const char *when, const Tensor *mine, const int32_t *marks) {
    int64_t count = tensor_count(mine);
    real *values = tensor_to_host(mine), *all = lesson_gather(lesson, values, tensor_bytes(mine));
    int32_t *all_marks = marks ? lesson_gather(lesson, marks, count * (int64_t)sizeof *marks) : NULL;
    for (int r = 0; r < lesson->world->size; r++) {
        printf("  %-6s device %d: ", r ? "" : when, r);
        for (int64_t i = 0; i < count; i++) {
            printf(" %3.0f", (double)all[r * count + i]);
            if (marks) printf("%c", all_marks[r * count + i]);
        }
        printf("\n");
    }
    free(values);
    free(all);
    free(all_marks);
}

typedef struct {
    const char *title, *formula;
    CommKind kind;
    int64_t in, out; /* elements that a device has before and after */
    int64_t bytes;   /* of all devices */
} Move;

static void carry_out(const Lesson *lesson, const Move *m, const void *in, void *out) {
    Comm *comm = lesson->world;
    Queue *q = &lesson->device->queue;
    switch (m->kind) {
    case COMM_ALL_GATHER: comm_all_gather(comm, q, in, out, 1, TYPE_REAL); break;
    case COMM_ALL_REDUCE: comm_all_reduce(comm, q, in, out, m->in, TYPE_REAL, REDUCE_SUM); break;
    case COMM_REDUCE_SCATTER: comm_reduce_scatter(comm, q, in, out, 1, TYPE_REAL, REDUCE_SUM); break;
    default: comm_all_to_all(comm, q, in, out, 1, TYPE_REAL);
    }
}

/* Element i of what device `rank` must have afterwards. */
static int32_t expected(CommKind kind, int n, int rank, int i) {
    if (kind == COMM_ALL_GATHER) return single(n, i);
    if (kind == COMM_ALL_TO_ALL) return number(n, i, rank);
    int32_t sum = 0;
    for (int r = 0; r < n; r++) sum += number(n, r, kind == COMM_REDUCE_SCATTER ? rank : i);
    return sum;
}

/* Prints it, before and after, and its bytes. */
static bool show_move(const Lesson *lesson, const Move *m) {
    int n = lesson->world->size, rank = lesson->world->rank;
    Tensor in = numbers_new(lesson, "before", m->in), out = numbers_new(lesson, "after", m->out);
    real *values = xmalloc((size_t)n * sizeof *values); /* in the host's memory, of before or after */
    for (int i = 0; i < m->in; i++)
        values[i] = (real)(m->kind == COMM_ALL_GATHER ? single(n, rank) : number(n, rank, i));
    tensor_write(&in, 0, m->in, values);
    print_devices(lesson, "before", &in, NULL);
    int64_t before = lesson_bytes(lesson);
    carry_out(lesson, m, in.data, out.data);
    print_devices(lesson, "after", &out, NULL);
    bool right = lesson_check_bytes(lesson, before, m->bytes, m->formula);
    tensor_read(&out, 0, m->out, values);
    for (int i = 0; i < m->out; i++) right &= values[i] == (real)expected(m->kind, n, rank, i);
    free(values);
    tensor_free(&in);
    tensor_free(&out);
    return right;
}

bool moves_show(const Lesson *lesson) {
    const int64_t e = sizeof(real);
    int n = lesson->world->size;
    const Move moves[] = {
        {"all-gather: everyone gets what each one has", "(n-1) S", COMM_ALL_GATHER, 1, n, (n - 1) * n * e},
        {"all-reduce: everyone gets the sum of all rows", "2 (n-1) S", COMM_ALL_REDUCE, n, n,
         2 * (n - 1) * n * e},
        {"reduce-scatter: the sum, a slice on each device", "(n-1) S", COMM_REDUCE_SCATTER, n, 1,
         (n - 1) * n * e},
        {"all-to-all: rows become columns", "(n-1) S", COMM_ALL_TO_ALL, n, n, (n - 1) * n * e},
    };
    bool right = true;
    for (int m = 0; m < COUNT_OF(moves); m++) {
        printf("%s%s\n", m ? "\n" : "", moves[m].title);
        right &= show_move(lesson, &moves[m]);
    }
    return lesson_largest(lesson, !right) == 0;
}

/* ---- by hand ---- */

/* What everyone has after each step; a star behind each sum that is whole. */
static bool show_steps(const Lesson *lesson) {
    Comm *comm = lesson->world;
    int n = comm->size;
    Tensor data = numbers_new(lesson, "data", n), scratch = numbers_new(lesson, "scratch", 1);
    real *values = xmalloc((size_t)n * sizeof *values); /* the data in the host's memory, first and last */
    int32_t *marks = xmalloc((size_t)n * sizeof *marks);
    for (int i = 0; i < n; i++) values[i] = (real)number(n, comm->rank, i), marks[i] = ' ';
    tensor_write(&data, 0, n, values);
    print_devices(lesson, "start", &data, marks);
    for (int step = 0; step < 2 * (n - 1); step++) {
        char when[32];
        ring_step(comm, &lesson->device->queue, data.data, scratch.data, n, TYPE_REAL, step);
        if (step >= n - 2) marks[(comm->rank + 1 - (step - (n - 2)) + n) % n] = '*';
        snprintf(when, sizeof when, "%s %d", step < n - 1 ? "sum" : "pass", step % (n - 1) + 1);
        print_devices(lesson, when, &data, marks);
    }
    bool right = true;
    tensor_read(&data, 0, n, values);
    for (int i = 0; i < n; i++) right &= values[i] == (real)expected(COMM_ALL_REDUCE, n, comm->rank, i);
    free(values);
    free(marks);
    tensor_free(&data);
    tensor_free(&scratch);
    return right;
}

/* Of two tensors' elements, on any device. */
static double largest_difference(const Lesson *lesson, const Tensor *a, const Tensor *b) {
    double most = 0;
    real *x = tensor_to_host(a), *y = tensor_to_host(b);
    for (int64_t i = 0; i < tensor_count(a); i++)
        most = lesson_worse(most, fabs((double)x[i] - (double)y[i]));
    free(x);
    free(y);
    return lesson_largest(lesson, most);
}

typedef void AllReduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type);

static bool hold_against_library(const Lesson *lesson, const char *name, AllReduce *by_hand, int64_t count,
                                 int longest) {
    Comm *comm = lesson->world;
    Queue *q = &lesson->device->queue;
    Tensor mine = numbers_new(lesson, "mine", count), want = numbers_new(lesson, "the library's sum", count),
           scratch = numbers_new(lesson, "scratch", count);
    real *values = xmalloc((size_t)tensor_bytes(&mine));
    rng_fill_uniform(1, rng_stream("by hand"), (uint64_t)(comm->rank * count), count, -1, 1, values);
    tensor_write(&mine, 0, count, values);
    free(values);
    comm_all_reduce(comm, q, mine.data, want.data, count, TYPE_REAL, REDUCE_SUM);
    int64_t before = lesson_bytes(lesson);
    by_hand(comm, q, mine.data, scratch.data, count, TYPE_REAL);
    double most = largest_difference(lesson, &mine, &want);
    printf(
        "%s of %" PRId64
        " numbers: largest difference from the library's all-reduce %.1e; %d messages one after the other\n",
        name, count, most, longest);
    bool right = lesson_check_bytes(lesson, before, 2 * (comm->size - 1) * tensor_bytes(&mine), "2 (n-1) S");
    tensor_free(&mine);
    tensor_free(&want);
    tensor_free(&scratch);
    return right && most <= 64 * comm->size * (sizeof(real) == 4 ? 0x1p-24 : 0x1p-53);
}

bool moves_by_hand(const Lesson *lesson, int64_t count) {
    int n = lesson->world->size;
    bool right = lesson_largest(lesson, !show_steps(lesson)) == 0;
    right &= hold_against_library(lesson, "ring", ring_all_reduce, count, 2 * (n - 1));
    return hold_against_library(lesson, "tree", tree_all_reduce, count, tree_depth(n)) && right;
}
