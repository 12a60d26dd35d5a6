#include "chapters/04_collectives/layouts.h"

#include "common/boxes.h"
#include "common/dist_ops.h"
#include "common/kernels.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- all of them ---- */

#define WHOLE                                                                                                \
    { PLACE_REPLICATE, 0 }
#define ROWS                                                                                                 \
    { PLACE_SHARD, 0 }
#define COLUMNS                                                                                              \
    { PLACE_SHARD, 1 }
#define LAYOUT(x, y, y_first)                                                                                \
    { {[MESH_DATA] = x, [MESH_TENSOR] = y}, y_first }
const Layout layouts[LAYOUTS] = {
    LAYOUT(WHOLE, WHOLE, false),     LAYOUT(ROWS, COLUMNS, false),   LAYOUT(COLUMNS, ROWS, false),
    LAYOUT(ROWS, WHOLE, false),      LAYOUT(WHOLE, ROWS, false),     LAYOUT(COLUMNS, WHOLE, false),
    LAYOUT(WHOLE, COLUMNS, false),   LAYOUT(ROWS, ROWS, false),      LAYOUT(ROWS, ROWS, true),
    LAYOUT(COLUMNS, COLUMNS, false), LAYOUT(COLUMNS, COLUMNS, true),
};

static const char axis_letters[MESH_AXES] = {[MESH_DATA] = 'X', [MESH_PIPE] = 'P', [MESH_TENSOR] = 'Y'};

static void add_subscripts(Str *s, const Place place[MESH_AXES], PlaceKind kind, int dim, bool y_first) {
    char found[MESH_AXES + 1] = "";
    size_t count = 0;
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (place[axis].kind == kind && place[axis].axis == dim) found[count++] = axis_letters[axis];
    if (count) str_printf(s, "_%s", y_first && count == 2 ? "YX" : found);
}

static Notation layout_notation(char name, const char *dims, const Layout *layout) {
    Str s = {0};
    Notation n;
    str_printf(&s, "%c[", name);
    for (int dim = 0; dims[dim]; dim++) {
        str_printf(&s, "%s%c", dim ? ", " : "", dims[dim]);
        add_subscripts(&s, layout->place, PLACE_SHARD, dim, layout->y_first);
    }
    str_printf(&s, "]");
    size_t whole = s.count;
    str_printf(&s, " {U");
    size_t mark = s.count;
    add_subscripts(&s, layout->place, PLACE_PARTIAL, 0, false);
    if (s.count == mark)
        s.data[whole] = 0; /* no axis has it as a sum */
    else
        str_printf(&s, "}");
    snprintf(n.text, sizeof n.text, "%s", s.data);
    str_free(&s);
    return n;
}

Notation notation(char name, const char *dims, const Place place[MESH_AXES]) {
    Layout layout = {.y_first = false};
    memcpy(layout.place, place, sizeof layout.place);
    return layout_notation(name, dims, &layout);
}

/* ---- who has what ---- */

/* The matrix as a grid of tiles, and the tile of each device. */
typedef struct {
    int cuts[2];  /* tiles along the rows and along the columns */
    int index[2]; /* of the device's tile */
} Tile;

static Tile tile_of(const Mesh *mesh, const Layout *layout, int rank) {
    Tile t = {{1, 1}, {0, 0}};
    int c[MESH_AXES];
    mesh_coordinate(mesh, rank, c);
    for (int i = 0; i < MESH_AXES; i++) {
        int axis = layout->y_first ? MESH_AXES - 1 - i : i;
        if (layout->place[axis].kind != PLACE_SHARD) continue;
        int dim = layout->place[axis].axis;
        t.cuts[dim] *= mesh->size[axis];
        t.index[dim] = t.index[dim] * mesh->size[axis] + c[axis];
    }
    return t;
}

/* The devices that hold tile (row, column): their ranks in who, in ascending order, and how many. */
enum { MOST_DEVICES = 8 };
static int holders(const Mesh *mesh, const Layout *layout, int row, int column, int who[MOST_DEVICES]) {
    int count = 0, n = mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    for (int rank = 0; rank < n; rank++) {
        Tile t = tile_of(mesh, layout, rank);
        if (t.index[0] == row && t.index[1] == column) who[count++] = rank;
    }
    return count;
}

/* ---- in the terminal: WIDE x HIGH characters inside a frame ---- */

enum { WIDE = 19, HIGH = 7, BESIDE = 4, SPACE = 3 };

static const int terminal_colors[MOST_DEVICES] = {117, 216, 115, 182, 222, 153, 250, 228};

/* The tile that character `at` of `count` belongs to, when they are cut into `cuts` with a line between; -1: that line. */
static int tile_at(int at, int count, int cuts, int *within, int *size) {
    *size = (count - (cuts - 1)) / cuts;
    *within = at % (*size + 1);
    return *within == *size ? -1 : at / (*size + 1);
}

/* A corner or a line, by what of lines goes up, down, left, right of it. */
static const char *line_char(bool up, bool down, bool left, bool right) {
    static const char *const chars[16] = {" ", "─", "─", "─", "│", "┌", "┐", "┬",
                                          "│", "└", "┘", "┴", "│", "├", "┤", "┼"};
    return chars[up * 8 + down * 4 + left * 2 + right];
}

/* Is there a line at this place of the frame, whose own lines are at -1 and `count`? */
static bool line_at(int at, int count, int cuts) {
    int within, size;
    return at < 0 || at >= count || tile_at(at, count, cuts, &within, &size) < 0;
}

/* Character (row, column) inside the frame (or of it) of one layout. */
static void add_character(Str *s, const Mesh *mesh, const Layout *layout, int row, int column, bool colors) {
    Tile any = tile_of(mesh, layout, 0);
    bool across = line_at(row, HIGH, any.cuts[0]), down = line_at(column, WIDE, any.cuts[1]);
    if (across || down) {
        str_printf(
            s, "%s",
            line_char(down && row > -1, down && row < HIGH, across && column > -1, across && column < WIDE));
        return;
    }
    int y, high, x, wide, who[MOST_DEVICES];
    int r = tile_at(row, HIGH, any.cuts[0], &y, &high), c = tile_at(column, WIDE, any.cuts[1], &x, &wide);
    int count = holders(mesh, layout, r, c, who), strip = x * count / wide; /* one for each of them */
    bool digit = y == high / 2 && x == (2 * strip + 1) * wide / (2 * count);
    int device = who[strip];
    if (colors) str_printf(s, "\033[48;5;%dm\033[30m", terminal_colors[device]);
    str_printf(s, "%c", digit ? '0' + device : ' ');
    if (colors) str_printf(s, "\033[0m");
}

static void print_layouts(const Mesh *mesh, const Layout *first, int count, bool colors) {
    Str s = {0};
    for (int i = 0; i < count; i++) {
        Notation n = layout_notation('A', "IJ", &first[i]);
        str_printf(&s, "%-*s", i + 1 < count ? WIDE + 2 + SPACE : 0, n.text);
    }
    str_printf(&s, "\n");
    for (int row = -1; row <= HIGH; row++) {
        for (int i = 0; i < count; i++) {
            for (int column = -1; column <= WIDE; column++)
                add_character(&s, mesh, &first[i], row, column, colors);
            if (i + 1 < count) str_printf(&s, "%*s", SPACE, "");
        }
        str_printf(&s, "\n");
    }
    fputs(s.data, stdout);
    str_free(&s);
}

/* Its thinnest tiles have room for a digit. */
static bool fits_terminal(const Mesh *mesh, const Layout *layout) {
    Tile t = tile_of(mesh, layout, 0);
    return t.cuts[0] <= (HIGH + 1) / 2 && t.cuts[1] <= (HIGH + 1) / 2;
}

static void print_table(const Mesh *mesh, int64_t rows, int64_t columns) {
    int n = mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    double whole = (double)(rows * columns) * sizeof(real);
    printf("%-14s %-18s %12s %9s %12s\n", "", "on each device", "MB", "copies", "MB in all");
    for (int i = 0; i < LAYOUTS; i++) {
        Tile t = tile_of(mesh, &layouts[i], 0);
        double mb = whole / (t.cuts[0] * t.cuts[1]) * 0x1p-20;
        printf("%-14s %-18s %12.2f %9d %12.2f%s\n", layout_notation('A', "IJ", &layouts[i]).text,
               shape_text(SHAPE(rows / t.cuts[0], columns / t.cuts[1])).text, mb, n / (t.cuts[0] * t.cuts[1]),
               mb * n, layouts[i].y_first ? "   not one of the library's" : "");
    }
}

/* ---- as a picture ---- */

enum { SIDE = 4, MOST_BOXES = LAYOUTS * (2 * MOST_DEVICES + 4) + 32 };

/* The tiles of one matrix, its upper left corner at (x, y): each with a strip for every device that holds it. */
static int add_matrix(Box *boxes, const Mesh *mesh, const Layout *layout, double x, double y, double font) {
    int count = 0, who[MOST_DEVICES];
    static const char *const digits[MOST_DEVICES] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    Tile any = tile_of(mesh, layout, 0);
    double high = (double)SIDE / any.cuts[0], wide = (double)SIDE / any.cuts[1];
    for (int r = 0; r < any.cuts[0]; r++)
        for (int c = 0; c < any.cuts[1]; c++) {
            int n = holders(mesh, layout, r, c, who);
            for (int i = 0; i < n; i++)
                boxes[count++] = (Box){x + c * wide + i * wide / n,
                                       y + r * high,
                                       wide / n,
                                       high,
                                       who[i] + 1,
                                       digits[who[i]],
                                       font};
            boxes[count++] = (Box){x + c * wide, y + r * high, wide, high, 0, NULL, 0};
        }
    return count;
}

static void draw_layouts(const Lesson *lesson, const Mesh *mesh, int64_t rows, int64_t columns) {
    enum { PANELS_WIDE = 4 };
    const double pitch_x = SIDE + 1.4, pitch_y = SIDE + 2.1, left = 0.8, top = 0.4;
    Box *boxes = xcalloc(MOST_BOXES, sizeof *boxes);
    char captions[LAYOUTS][2][64], axes[64];
    int count = 0, n = mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    double font = n > 4 ? 11 : 13;
    for (int panel = 0; panel <= LAYOUTS; panel++) {
        double x = left + panel % PANELS_WIDE * pitch_x, y = top + panel / PANELS_WIDE * pitch_y;
        if (panel == 0) { /* the mesh itself, which looks like A[I_X, J_Y] */
            count += add_matrix(boxes + count, mesh, &layouts[1], x, y, font);
            snprintf(axes, sizeof axes, "X down: %d, Y across: %d", mesh->size[MESH_DATA],
                     mesh->size[MESH_TENSOR]);
            boxes[count++] = (Box){x, y + SIDE + 0.1, SIDE, 0.7, -1, "the mesh", 13};
            boxes[count++] = (Box){x, y + SIDE + 0.75, SIDE, 0.6, -1, axes, 10};
            continue;
        }
        const Layout *layout = &layouts[panel - 1];
        Tile t = tile_of(mesh, layout, 0);
        count += add_matrix(boxes + count, mesh, layout, x, y, font);
        snprintf(captions[panel - 1][0], sizeof captions[0][0], "%s",
                 layout_notation('A', "IJ", layout).text);
        snprintf(captions[panel - 1][1], sizeof captions[0][1], "%" PRId64 " x %" PRId64 "%s",
                 rows / t.cuts[0], columns / t.cuts[1], layout->y_first ? "  (Y cuts first)" : "");
        boxes[count++] = (Box){x, y + SIDE + 0.1, SIDE, 0.7, -1, captions[panel - 1][0], 13};
        boxes[count++] = (Box){x, y + SIDE + 0.75, SIDE, 0.6, -1, captions[panel - 1][1], 10};
    }
    ASSERT(count <= MOST_BOXES);
    char *title = xprintf("Every way to lay a matrix out over a mesh of %d x %d devices",
                          mesh->size[MESH_DATA], mesh->size[MESH_TENSOR]);
    char *name = xprintf("shardings_%dx%d.png", mesh->size[MESH_DATA], mesh->size[MESH_TENSOR]);
    char *path = lesson_path(lesson, name);
    Boxes picture = {title, boxes, count, 2 * left + PANELS_WIDE * pitch_x - 1.4, top + 3 * pitch_y, 44};
    boxes_draw(&picture, path);
    free(title);
    free(name);
    free(path);
    free(boxes);
}

void layouts_show(const Lesson *lesson, const int size[MESH_AXES], int64_t rows, int64_t columns) {
    Mesh mesh = {.size = {size[MESH_DATA], 1, size[MESH_TENSOR]}}; /* of numbers alone: nobody speaks on it */
    ASSERT(size[MESH_DATA] * size[MESH_TENSOR] <= MOST_DEVICES);
    Layout shown[LAYOUTS];
    int count = 0;
    for (int i = 0; i < LAYOUTS; i++)
        if (fits_terminal(&mesh, &layouts[i])) shown[count++] = layouts[i];
    for (int i = 0; i < count; i += BESIDE)
        print_layouts(&mesh, &shown[i], (int)min64(BESIDE, count - i), lesson_colors());
    if (count < LAYOUTS) printf("(%d more are in the picture)\n", LAYOUTS - count);
    print_table(&mesh, rows, columns);
    if (lesson->world->rank == 0) draw_layouts(lesson, &mesh, rows, columns);
}

/* ---- on the devices that are there ---- */

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
    for (int64_t i = 0; i < tensor_count(&a); i++) tensor_reals(&a)[i] = 1;
    for (int64_t i = 0; i < tensor_count(&a); i++) p.sum += (double)tensor_reals(&a)[i];
    tensor_free(&a);
    return p;
}

static bool place_ones(const Lesson *lesson, int64_t rows, int64_t columns) {
    double all = 0, mb = (double)sizeof(real) * 0x1p-20;
    Piece mine = ones(lesson, rows, columns), *pieces = lesson_gather(lesson, &mine, sizeof mine);
    printf("A (%" PRId64 ", %" PRId64 "), all ones, is %.2f MB. Laid out as A[I_X, J_Y]:\n", rows, columns,
           (double)(rows * columns) * mb);
    printf("device  %-16s %-16s %-16s %9s  %s\n", "rows", "columns", "shape", "MB", "sum");
    for (int r = 0; r < lesson->world->size; r++) {
        const Piece *p = &pieces[r];
        char row[48], column[48];
        snprintf(row, sizeof row, "%.0f .. %.0f", p->first[0], p->first[0] + p->size[0] - 1);
        snprintf(column, sizeof column, "%.0f .. %.0f", p->first[1], p->first[1] + p->size[1] - 1);
        printf("%6d  %-16s %-16s %-16s %9.2f  %.0f\n", r, row, column,
               shape_text(SHAPE((int64_t)p->size[0], (int64_t)p->size[1])).text, p->size[0] * p->size[1] * mb,
               p->sum);
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
    real *all = lesson_gather(lesson, v->data, count * (int64_t)sizeof(real));
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
    for (int i = 0; i < 2; i++) {
        Tensor *v = tape_tensor(tape, i ? "v" : "u", TYPE_REAL, SHAPE(count), NULL);
        for (int64_t k = 0; k < count; k++) tensor_reals(v)[k] = (real)(i ? 10 * k : k);
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
    for (int64_t k = 0; k < count; k++) right &= tensor_reals(w)[k] == (real)(11 * k);
    int64_t n = mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    right &=
        lesson_check_bytes(lesson, before, mesh->size[MESH_PIPE] * n * (n - 1) * 2 * (int64_t)sizeof(real),
                           "every device gets what it lacks");
    tape_delete(tape);
    return right;
}

bool layouts_place(const Lesson *lesson, int64_t rows, int64_t columns) {
    bool right = place_ones(lesson, rows, columns);
    return add_vectors(lesson) && right;
}
