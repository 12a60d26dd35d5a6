/* The mesh: every way to cut the world in three, its coordinates and groups against the formula of DESIGN, a size left
 * open, pictures, and the memory that its groups hold.
 *
 * TEST np: 1 4 8, all: 2 3
 * TEST variants: float asan */
#include "common/comm/mesh.h"
#include "common/cpu/device_cpu.h"
#include "tests/ranks.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;

/* Do the groups hold whom they should, in order? Each rank says its number. */
static bool groups_are_right(const Mesh *m) {
    bool good = true;
    int32_t me = world->rank, *members = xmalloc((size_t)world->size * sizeof *members);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        int other[MESH_AXES];
        memcpy(other, m->coordinate, sizeof other);
        good &= m->axis[axis]->size == m->size[axis] && m->axis[axis]->rank == m->coordinate[axis];
        comm_all_gather(m->axis[axis], NULL, &me, members, 1, TYPE_I32);
        for (other[axis] = 0; other[axis] < m->size[axis]; other[axis]++)
            good &= members[other[axis]] ==
                    (other[MESH_DATA] * m->size[MESH_PIPE] + other[MESH_PIPE]) * m->size[MESH_TENSOR] +
                        other[MESH_TENSOR];
    }
    free(members);
    return good;
}

static void try_sizes(int data, int pipe, int tensor) {
    const int sizes[MESH_AXES] = {data, pipe, tensor};
    for (int open = -1; open < MESH_AXES; open++) { /* -1: none */
        int asked[MESH_AXES], c[MESH_AXES];
        memcpy(asked, sizes, sizeof asked);
        if (open >= 0) asked[open] = 0;
        Mesh m = mesh_new(world, asked);
        bool good = memcmp(m.size, sizes, sizeof sizes) == 0 && mesh_rank(&m, m.coordinate) == world->rank;
        for (int rank = 0; rank < world->size; rank++) {
            mesh_coordinate(&m, rank, c);
            good &= (c[MESH_DATA] * pipe + c[MESH_PIPE]) * tensor + c[MESH_TENSOR] == rank;
            for (int axis = 0; axis < MESH_AXES; axis++) good &= c[axis] >= 0 && c[axis] < sizes[axis];
        }
        good &= groups_are_right(&m);
        ok_on_all(world, good, "data %d x pipe %d x tensor %d%s%s", data, pipe, tensor,
                  open >= 0 ? ", open: " : "", open >= 0 ? mesh_axis_names[open] : "");
        mesh_close(&m);
    }
}

static void picture(int data, int pipe, int tensor, const char *want) {
    Mesh m = {.size = {data, pipe, tensor}};
    char *got = mesh_picture(&m);
    ok(strcmp(got, want) == 0, "picture of data %d x pipe %d x tensor %d", data, pipe, tensor);
    if (strcmp(got, want) != 0) fprintf(stderr, "got\n%swanted\n%s", got, want);
    free(got);
}

/* Many stages do not fit one line: every device is there, once, and no line is wider than 100 columns. */
static void wide_picture(void) {
    enum { DATA = 2, PIPE = 40, TENSOR = 3, DEVICES = DATA * PIPE * TENSOR };
    Mesh m = {.size = {DATA, PIPE, TENSOR}};
    char *picture_text = mesh_picture(&m);
    int seen[DEVICES] = {0}, columns = 0, widest = 0;
    for (const char *p = picture_text; *p; p++) {
        if (strncmp(p, "│ ", strlen("│ ")) == 0) {
            int rank = atoi(p + strlen("│ "));
            if (rank >= 0 && rank < DEVICES && p[strlen("│ ")] != '\n') seen[rank]++;
        }
        columns =
            *p == '\n' ? 0 : columns + ((*p & 0xc0) != 0x80); /* the rest of a character takes no column */
        widest = columns > widest ? columns : widest;
    }
    bool once = true;
    for (int rank = 1; rank < DEVICES; rank++) once &= seen[rank] == 1;
    ok(once && widest <= 100 && widest > 80, "a wide picture: every device once, %d columns", widest);
    free(picture_text);
}

static void pictures(void) {
    picture(1, 1, 1,
            "tensor      0\n"
            "          ┌───┐\n"
            "data 0    │ 0 │\n"
            "          └───┘\n");
    picture(2, 1, 2,
            "tensor      0   1\n"
            "          ┌───┬───┐\n"
            "data 0    │ 0 │ 1 │\n"
            "          ├───┼───┤\n"
            "data 1    │ 2 │ 3 │\n"
            "          └───┴───┘\n");
    picture(2, 3, 2,
            "          pipe 0        pipe 1        pipe 2\n"
            "tensor       0    1        0    1        0    1\n"
            "          ┌────┬────┐   ┌────┬────┐   ┌────┬────┐\n"
            "data 0    │  0 │  1 │   │  2 │  3 │   │  4 │  5 │\n"
            "          ├────┼────┤   ├────┼────┤   ├────┼────┤\n"
            "data 1    │  6 │  7 │   │  8 │  9 │   │ 10 │ 11 │\n"
            "          └────┴────┘   └────┴────┘   └────┴────┘\n");
    picture(1, 2, 1,
            "          pipe 0   pipe 1\n"
            "tensor      0        0\n"
            "          ┌───┐    ┌───┐\n"
            "data 0    │ 0 │    │ 1 │\n"
            "          └───┘    └───┘\n");
    wide_picture();
}

/* Two slots of a group of n, by the formula of comm.h. */
static int64_t slots(int64_t n) {
    enum { MB = 1 << 20, LINE = 64 };
    return 2 * (MB + ceil_div(MB / n + LINE, LINE) * LINE);
}

/* What the groups hold is communication memory of the device, until they are closed. A group of one holds nothing. */
static void memory_is_counted(void) {
    Device *device = device_new_cpu(0);
    const int64_t *now = &device->memory.now[MEMORY_COMMUNICATION];
    int n = world->size;
    comm_account(world, device);
    bool good = *now == slots(n);
    Mesh m = mesh_new(world, (int[MESH_AXES]){n, 1, 1});
    good &= *now == slots(n) + (n > 1 ? slots(n) : 0);
    if (n > 1 && m.coordinate[MESH_DATA] < 2) { /* a channel, for the one who sends */
        bool sends = m.coordinate[MESH_DATA] == 0;
        int32_t number = 1;
        if (sends)
            comm_send(m.axis[MESH_DATA], NULL, &number, 1, TYPE_I32, 1);
        else
            comm_recv(m.axis[MESH_DATA], NULL, &number, 1, TYPE_I32, 0);
        int64_t channel = *now - 2 * slots(n);
        good &= sends ? channel >= 2 << 20 && channel < (2 << 20) + 4096 : channel == 0;
    }
    mesh_close(&m);
    good &= *now == slots(n);
    comm_account(world, NULL);
    good &= *now == 0;
    ok_on_all(world, good, "slots and channels are communication memory of the device");
    device_delete(device);
}

int main(void) {
    world = ranks_world();
    int n = world->size;
    if (world->local_size == n) memory_is_counted();
    for (int data = 1; data <= n; data++)
        for (int pipe = 1; data * pipe <= n; pipe++)
            if (n % (data * pipe) == 0) try_sizes(data, pipe, n / (data * pipe));
    pictures();
    comm_close(world);
    return tap_done();
}
