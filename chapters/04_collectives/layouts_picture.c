/* All layouts in one picture: a panel for each, in it a box for each tile, in strips for the devices that hold it. */
#include "chapters/04_collectives/layouts.h"

#include "common/draw/boxes.h"

#include <inttypes.h>
#include <stdlib.h>

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

void layouts_draw(const Lesson *lesson, const int size[MESH_AXES], int64_t rows, int64_t columns) {
    enum { PANELS_WIDE = 4 };
    Mesh mesh = mesh_of_numbers(size);
    const double pitch_x = SIDE + 1.4, pitch_y = SIDE + 2.1, left = 0.8, top = 0.4;
    Box *boxes = xcalloc(MOST_BOXES, sizeof *boxes);
    char captions[LAYOUTS][2][64], axes[64];
    int count = 0, n = mesh.size[MESH_DATA] * mesh.size[MESH_TENSOR];
    double font = n > 4 ? 11 : 13;
    for (int panel = 0; panel <= LAYOUTS; panel++) {
        int row = panel / PANELS_WIDE;
        double x = left + panel % PANELS_WIDE * pitch_x, y = top + row * pitch_y;
        if (panel == 0) { /* the mesh itself, which looks like A[I_X, J_Y] */
            count += add_matrix(boxes + count, &mesh, &layouts[1], x, y, font);
            snprintf(axes, sizeof axes, "X down: %d, Y across: %d", mesh.size[MESH_DATA],
                     mesh.size[MESH_TENSOR]);
            boxes[count++] = (Box){x, y + SIDE + 0.1, SIDE, 0.7, -1, "the mesh", 13};
            boxes[count++] = (Box){x, y + SIDE + 0.75, SIDE, 0.6, -1, axes, 10};
            continue;
        }
        const Layout *layout = &layouts[panel - 1];
        Tile t = tile_of(&mesh, layout, 0);
        count += add_matrix(boxes + count, &mesh, layout, x, y, font);
        snprintf(captions[panel - 1][0], sizeof captions[0][0], "%s",
                 layout_notation('A', "IJ", layout).text);
        snprintf(captions[panel - 1][1], sizeof captions[0][1], "%" PRId64 " x %" PRId64 "%s",
                 rows / t.cuts[0], columns / t.cuts[1], layout->y_first ? "  (Y cuts first)" : "");
        boxes[count++] = (Box){x, y + SIDE + 0.1, SIDE, 0.7, -1, captions[panel - 1][0], 13};
        boxes[count++] = (Box){x, y + SIDE + 0.75, SIDE, 0.6, -1, captions[panel - 1][1], 10};
    }
    ASSERT(count <= MOST_BOXES);
    char *title = xprintf("Every way to lay a matrix out over a mesh of %d x %d devices",
                          mesh.size[MESH_DATA], mesh.size[MESH_TENSOR]);
    char *name = xprintf("shardings_%dx%d.png", mesh.size[MESH_DATA], mesh.size[MESH_TENSOR]);
    char *path = lesson_path(lesson, name);
    Boxes picture = {title, boxes, count, 2 * left + PANELS_WIDE * pitch_x - 1.4, top + 3 * pitch_y, 44};
    boxes_draw(&picture, path);
    free(title);
    free(name);
    free(path);
    free(boxes);
}
