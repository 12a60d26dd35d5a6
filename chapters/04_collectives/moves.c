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

/* Prints `count` numbers of each device. marks (count) or NULL: a character behind each of this device's numbers. */
static void print_devices(const Lesson *lesson, const char *when, const int32_t *mine, const int32_t *marks,
                          int64_t count) {
    int32_t *all = lesson_gather(lesson, mine, count * (int64_t)sizeof *mine);
    int32_t *all_marks = marks ? lesson_gather(lesson, marks, count * (int64_t)sizeof *marks) : NULL;
    for (int r = 0; r < lesson->world->size; r++) {
        printf("  %-6s device %d: ", r ? "" : when, r);
        for (int64_t i = 0; i < count; i++) {
            printf(" %3d", all[r * count + i]);
            if (marks) printf("%c", all_marks[r * count + i]);
        }
        printf("\n");
    }
    free(all);
    free(all_marks);
}

typedef struct {
    const char *title, *formula;
    CommKind kind;
    int64_t in, out; /* elements that a device has before and after */
    int64_t bytes;   /* of all devices */
} Move;

static void carry_out(const Lesson *lesson, const Move *m, const int32_t *in, int32_t *out) {
    Comm *comm = lesson->world;
    Queue *q = &lesson->device->queue;
    switch (m->kind) {
    case COMM_ALL_GATHER: comm_all_gather(comm, q, in, out, 1, TYPE_I32); break;
    case COMM_ALL_REDUCE: comm_all_reduce(comm, q, in, out, m->in, TYPE_I32, REDUCE_SUM); break;
    case COMM_REDUCE_SCATTER: comm_reduce_scatter(comm, q, in, out, 1, TYPE_I32, REDUCE_SUM); break;
    default: comm_all_to_all(comm, q, in, out, 1, TYPE_I32);
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

bool moves_show(const Lesson *lesson) {
    const int64_t e = sizeof(int32_t);
    int n = lesson->world->size, rank = lesson->world->rank;
    const Move moves[] = {
        {"all-gather: everyone gets what each one has", "(n-1) S", COMM_ALL_GATHER, 1, n, (n - 1) * n * e},
        {"all-reduce: everyone gets the sum of all rows", "2 (n-1) S", COMM_ALL_REDUCE, n, n,
         2 * (n - 1) * n * e},
        {"reduce-scatter: the sum, a slice on each device", "(n-1) S", COMM_REDUCE_SCATTER, n, 1,
         (n - 1) * n * e},
        {"all-to-all: rows become columns", "(n-1) S", COMM_ALL_TO_ALL, n, n, (n - 1) * n * e},
    };
    int32_t *in = xmalloc((size_t)n * sizeof *in), *out = xmalloc((size_t)n * sizeof *out);
    bool right = true;
    for (int m = 0; m < COUNT_OF(moves); m++) {
        for (int i = 0; i < n; i++)
            in[i] = moves[m].kind == COMM_ALL_GATHER ? single(n, rank) : number(n, rank, i);
        printf("%s%s\n", m ? "\n" : "", moves[m].title);
        print_devices(lesson, "before", in, NULL, moves[m].in);
        int64_t before = lesson_bytes(lesson);
        carry_out(lesson, &moves[m], in, out);
        print_devices(lesson, "after", out, NULL, moves[m].out);
        right &= lesson_check_bytes(lesson, before, moves[m].bytes, moves[m].formula);
        for (int i = 0; i < moves[m].out; i++) right &= out[i] == expected(moves[m].kind, n, rank, i);
    }
    free(in);
    free(out);
    return lesson_largest(lesson, !right) == 0;
}

/* ---- by hand ---- */

/* What everyone has after each step; a star behind each sum that is whole. */
static bool show_steps(const Lesson *lesson) {
    Comm *comm = lesson->world;
    int n = comm->size;
    int32_t *data = xmalloc((size_t)n * sizeof *data), scratch[1];
    int32_t *marks = xmalloc((size_t)n * sizeof *marks);
    for (int i = 0; i < n; i++) data[i] = number(n, comm->rank, i), marks[i] = ' ';
    print_devices(lesson, "start", data, marks, n);
    for (int step = 0; step < 2 * (n - 1); step++) {
        char when[32];
        ring_step(comm, &lesson->device->queue, data, scratch, n, TYPE_I32, step);
        if (step >= n - 2) marks[(comm->rank + 1 - (step - (n - 2)) + n) % n] = '*';
        snprintf(when, sizeof when, "%s %d", step < n - 1 ? "sum" : "pass", step % (n - 1) + 1);
        print_devices(lesson, when, data, marks, n);
    }
    bool right = true;
    for (int i = 0; i < n; i++) right &= data[i] == expected(COMM_ALL_REDUCE, n, comm->rank, i);
    free(data);
    free(marks);
    return right;
}

typedef void AllReduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type);

static bool hold_against_library(const Lesson *lesson, const char *name, AllReduce *by_hand, int64_t count,
                                 int longest) {
    Comm *comm = lesson->world;
    Queue *q = &lesson->device->queue;
    size_t bytes = (size_t)count * sizeof(real);
    real *mine = xmalloc(bytes), *want = xmalloc(bytes), *scratch = xmalloc(bytes);
    rng_fill_uniform(1, rng_stream("by hand"), (uint64_t)(comm->rank * count), count, -1, 1, mine);
    comm_all_reduce(comm, q, mine, want, count, TYPE_REAL, REDUCE_SUM);
    int64_t before = lesson_bytes(lesson);
    by_hand(comm, q, mine, scratch, count, TYPE_REAL);
    double most = 0;
    for (int64_t i = 0; i < count; i++) most = lesson_worse(most, fabs((double)mine[i] - (double)want[i]));
    most = lesson_largest(lesson, most);
    printf(
        "%s of %" PRId64
        " numbers: largest difference from the library's all-reduce %.1e; %d messages one after the other\n",
        name, count, most, longest);
    bool right = lesson_check_bytes(lesson, before, 2 * (comm->size - 1) * (int64_t)bytes, "2 (n-1) S");
    free(mine);
    free(want);
    free(scratch);
    return right && most <= 64 * comm->size * (sizeof(real) == 4 ? 0x1p-24 : 0x1p-53);
}

bool moves_by_hand(const Lesson *lesson, int64_t count) {
    int n = lesson->world->size;
    bool right = lesson_largest(lesson, !show_steps(lesson)) == 0;
    right &= hold_against_library(lesson, "ring", ring_all_reduce, count, 2 * (n - 1));
    return hold_against_library(lesson, "tree", tree_all_reduce, count, tree_depth(n)) && right;
}
