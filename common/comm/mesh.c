#include "common/comm/mesh.h"

#include <stdlib.h>
#include <string.h>

/* ---- coordinates: the last axis runs fastest ---- */

int mesh_rank(const Mesh *mesh, const int coordinate[MESH_AXES]) {
    int rank = 0;
    for (int axis = 0; axis < MESH_AXES; axis++) rank = rank * mesh->size[axis] + coordinate[axis];
    return rank;
}

void mesh_coordinate(const Mesh *mesh, int rank, int coordinate[MESH_AXES]) {
    for (int axis = MESH_AXES; axis-- > 0; rank /= mesh->size[axis])
        coordinate[axis] = rank % mesh->size[axis];
}

/* ---- sizes ---- */

/* "data 2 x pipe 1 x tensor 4"; a size that is left open is a question mark. The caller frees it. */
static char *sizes_text(const int size[MESH_AXES]) {
    Str text = {0};
    for (int axis = 0; axis < MESH_AXES; axis++) {
        str_printf(&text, "%s%s ", axis ? " x " : "", mesh_axis_names[axis]);
        if (size[axis])
            str_printf(&text, "%d", size[axis]);
        else
            str_printf(&text, "?");
    }
    return text.data;
}

/* Of the sizes that are given; more than there can be devices counts as MANY. */
enum { MANY = INT32_MAX };
static int64_t sizes_product(const int size[MESH_AXES]) {
    int64_t product = 1;
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (size[axis]) product = min64(product * size[axis], MANY);
    return product;
}

/* Sizes near those asked for that make n devices: from the fastest axis on the largest that divides what is left; the
 * first axis takes the rest. */
static void sizes_that_fit(const int asked[MESH_AXES], int n, int size[MESH_AXES]) {
    for (int axis = MESH_AXES; axis-- > 1; n /= size[axis]) {
        size[axis] = (int)min64(max64(asked[axis], 1), n);
        while (n % size[axis] != 0) size[axis]--;
    }
    size[0] = n;
}

/* "", or "; or start 6 or 9 devices": numbers near n on which the sizes asked for make a mesh. The caller frees it. */
static char *numbers_that_fit(const int asked[MESH_AXES], int open, int n) {
    int64_t product = sizes_product(asked), below = n / product * product;
    if (product == MANY || open > 1) return xstrdup("");
    if (open && below)
        return xprintf("; or start %lld or %lld devices", (long long)below, (long long)(below + product));
    return xprintf("; or start %lld device%s", (long long)product, product > 1 ? "s" : "");
}

static void refuse_sizes(Comm *world, const int size[MESH_AXES], int open) {
    int fit[MESH_AXES], n = world->size;
    sizes_that_fit(size, n, fit);
    char *asked = sizes_text(size), *would = sizes_text(fit), *numbers = numbers_that_fit(size, open, n);
    comm_refuse(world, xprintf("%s would%s", would, numbers),
                xprintf("%s does not make a mesh of %d device%s", asked, n, n > 1 ? "s" : ""));
}

static void agree_on_sizes(Comm *world, int size[MESH_AXES]) {
    int open = 0, n = world->size;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        if (size[axis] < 0)
            comm_refuse(world, "1: one device along this axis",
                        xprintf("the mesh axis '%s' has size %d", mesh_axis_names[axis], size[axis]));
        open += size[axis] == 0;
    }
    int64_t product = sizes_product(size);
    if (open == 1 ? n % product != 0 : product != n || open > 1) refuse_sizes(world, size, open);
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (size[axis] == 0) size[axis] = n / (int)product;
}

/* ---- the mesh ---- */

Mesh mesh_new(Comm *world, const int size[MESH_AXES]) {
    Mesh mesh = {.world = world};
    memcpy(mesh.size, size, sizeof mesh.size);
    agree_on_sizes(world, mesh.size);
    mesh_coordinate(&mesh, world->rank, mesh.coordinate);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        int unit[MESH_AXES] = {0}; /* its rank: how far apart neighbours along the axis are */
        unit[axis] = 1;
        mesh.axis[axis] =
            comm_split_strided(world, mesh.size[axis], mesh_rank(&mesh, unit), mesh_axis_names[axis]);
    }
    return mesh;
}

void mesh_close(Mesh *mesh) {
    for (int axis = 0; axis < MESH_AXES; axis++) comm_close(mesh->axis[axis]);
}

/* ---- the picture ---- */

enum { LINE_WIDTH = 100, LABEL_WIDTH = 10, GAP = 3 };
typedef enum { LINE_PIPE, LINE_TENSOR, LINE_TOP, LINE_RANKS, LINE_BETWEEN, LINE_BOTTOM } LineKind;

static int digits(int64_t number) {
    int count = 1;
    while (number /= 10) count++;
    return count;
}

/* The columns of a cell, and of a stage's table, which has room for its title. */
static int cell_width(const Mesh *mesh) { return 2 + digits(sizes_product(mesh->size) - 1); }
static int table_width(const Mesh *mesh) { return mesh->size[MESH_TENSOR] * (cell_width(mesh) + 1) + 1; }
static int stage_width(const Mesh *mesh) {
    return (int)max64(table_width(mesh), 5 + digits(mesh->size[MESH_PIPE] - 1));
}

/* What one line shows of one stage; `data` is the row that it shows. */
static void add_stage(Str *s, const Mesh *mesh, LineKind kind, int data, int stage) {
    static const char *const borders[][3] = {
        [LINE_TOP] = {"┌", "┬", "┐"}, [LINE_BETWEEN] = {"├", "┼", "┤"}, [LINE_BOTTOM] = {"└", "┴", "┘"}};
    int tensors = mesh->size[MESH_TENSOR], width = cell_width(mesh);
    if (kind == LINE_PIPE) {
        str_printf(s, "pipe %-*d", stage_width(mesh) - 5, stage);
        return;
    }
    for (int t = 0; t < tensors; t++) {
        int rank = mesh_rank(mesh, (int[MESH_AXES]){data, stage, t});
        if (kind == LINE_TENSOR) str_printf(s, " %*d ", width - 1, t);
        if (kind == LINE_RANKS) str_printf(s, "│%*d ", width - 1, rank);
        if (kind == LINE_TENSOR || kind == LINE_RANKS) continue;
        str_printf(s, "%s", borders[kind][t > 0]);
        for (int i = 0; i < width; i++) str_printf(s, "─");
    }
    str_printf(s, "%s%*s",
               kind == LINE_TENSOR  ? " "
               : kind == LINE_RANKS ? "│"
                                    : borders[kind][2],
               stage_width(mesh) - table_width(mesh), "");
}

/* One line through the tables of the stages first .. last - 1; no blanks at its end. */
static void add_line(Str *s, const Mesh *mesh, LineKind kind, int data, int first, int last) {
    const char *axis = kind == LINE_TENSOR ? mesh_axis_names[MESH_TENSOR] : "";
    if (kind == LINE_RANKS)
        str_printf(s, "%s %-*d", mesh_axis_names[MESH_DATA], LABEL_WIDTH - 5, data);
    else
        str_printf(s, "%-*s", LABEL_WIDTH, axis);
    for (int stage = first; stage < last; stage++) {
        if (stage > first) str_printf(s, "%*s", GAP, "");
        add_stage(s, mesh, kind, data, stage);
    }
    while (s->count && s->data[s->count - 1] == ' ') s->data[--s->count] = 0;
    str_printf(s, "\n");
}

char *mesh_picture(const Mesh *mesh) {
    Str s = {0};
    int stages = mesh->size[MESH_PIPE],
        fit = (int)max64((LINE_WIDTH - LABEL_WIDTH + GAP) / (stage_width(mesh) + GAP), 1);
    for (int first = 0; first < stages; first += fit) { /* as many tables beside each other as fit the line */
        int last = (int)min64(first + fit, stages);
        if (first) str_printf(&s, "\n");
        if (stages > 1) add_line(&s, mesh, LINE_PIPE, 0, first, last);
        add_line(&s, mesh, LINE_TENSOR, 0, first, last);
        for (int data = 0; data < mesh->size[MESH_DATA]; data++) {
            add_line(&s, mesh, data ? LINE_BETWEEN : LINE_TOP, data, first, last);
            add_line(&s, mesh, LINE_RANKS, data, first, last);
        }
        add_line(&s, mesh, LINE_BOTTOM, 0, first, last);
    }
    return s.data;
}
