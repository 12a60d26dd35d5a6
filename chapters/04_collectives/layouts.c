#include "chapters/04_collectives/layouts.h"

#include "common/base/size_text.h"

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

Notation layout_notation(char name, const char *dims, const Layout *layout) {
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

Notation notation(char name, const char *dims, const Place *place) {
    Layout layout = {.y_first = false};
    memcpy(layout.place, place, sizeof layout.place);
    return layout_notation(name, dims, &layout);
}

/* ---- who has what ---- */

Tile tile_of(const Mesh *mesh, const Layout *layout, int rank) {
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

int holders(const Mesh *mesh, const Layout *layout, int row, int column, int who[MOST_DEVICES]) {
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

Mesh mesh_of_numbers(const int size[MESH_AXES]) {
    ASSERT(size[MESH_DATA] * size[MESH_TENSOR] <= MOST_DEVICES);
    return (Mesh){.size = {size[MESH_DATA], 1, size[MESH_TENSOR]}};
}

/* Its thinnest tiles have room for a digit. */
static bool fits_terminal(const Mesh *mesh, const Layout *layout) {
    Tile t = tile_of(mesh, layout, 0);
    return t.cuts[0] <= (HIGH + 1) / 2 && t.cuts[1] <= (HIGH + 1) / 2;
}

static void print_table(const Mesh *mesh, int64_t rows, int64_t columns) {
    int n = mesh->size[MESH_DATA] * mesh->size[MESH_TENSOR];
    double whole = (double)(rows * columns) * sizeof(real);
    printf("%-14s %-18s %12s %9s %12s\n", "", "on each device", "memory", "copies", "in all");
    for (int i = 0; i < LAYOUTS; i++) {
        Tile t = tile_of(mesh, &layouts[i], 0);
        double piece = whole / (t.cuts[0] * t.cuts[1]);
        printf("%-14s %-18s %12s %9d %12s%s\n", layout_notation('A', "IJ", &layouts[i]).text,
               shape_text(SHAPE(rows / t.cuts[0], columns / t.cuts[1])).text, size_text(piece).text,
               n / (t.cuts[0] * t.cuts[1]), size_text(piece * n).text,
               layouts[i].y_first ? "   not one of the library's" : "");
    }
}

void layouts_show(const int size[MESH_AXES], int64_t rows, int64_t columns) {
    Mesh mesh = mesh_of_numbers(size);
    Layout shown[LAYOUTS];
    int count = 0;
    for (int i = 0; i < LAYOUTS; i++)
        if (fits_terminal(&mesh, &layouts[i])) shown[count++] = layouts[i];
    for (int i = 0; i < count; i += BESIDE)
        print_layouts(&mesh, &shown[i], (int)min64(BESIDE, count - i), lesson_colors());
    if (count < LAYOUTS) printf("(%d more are in the picture)\n", LAYOUTS - count);
    print_table(&mesh, rows, columns);
}
