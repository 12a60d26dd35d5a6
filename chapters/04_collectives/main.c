/* Chapter 04: devices, and what they say to each other.
 *
 *   devices      which devices there are, and the mesh that they form
 *   shardings    every way to spread a matrix over a mesh
 *   products     the four cases of a product of matrices in pieces, and the collective that each one needs
 *   collectives  all-gather, all-reduce, reduce-scatter, all-to-all: before and after
 *   ring         the all-reduce by hand, as a ring and as a tree, in messages
 *   costs        latency and bandwidth, fitted to what is measured
 *   playground   some matrix products in a row, with batch and weights cut in every way
 *
 *   make ch04                                                        on 4 devices, about ten seconds
 *   make ch04 NP=8 ARGS="--part shardings"                           one part, on 8
 *   build/mpiexec -n 4 build/04_collectives --part playground --fsdp-size 4 --num-layers 8
 *
 * Pictures and report.json go to runs/04_collectives. */
#include "chapters/04_collectives/cases.h"
#include "chapters/04_collectives/choices.h"
#include "chapters/04_collectives/costs.h"
#include "chapters/04_collectives/layouts.h"
#include "chapters/04_collectives/moves.h"
#include "common/comm/clock.h"
#include "common/draw/pictures.h"
#include "common/run/job.h"
#include "common/run/machine.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static Choices choices;

/* ---- who is there ---- */

/* Whose time it is; NULL: this machine's. */
static const DeviceModel *clock_model(const Lesson *lesson) {
    const Clock *clock = lesson->device->queue.clock;
    return clock ? clock->model : NULL;
}

typedef struct {
    char host[64];
    int32_t threads, neighbours; /* of its host: others on its machine, with whom it shares memory */
} Seat;

static void list_devices(const Lesson *lesson) {
    struct utsname system;
    int others = lesson->world->size - 1;
    Seat mine = {.threads = lesson->device->queue.threads, .neighbours = lesson->world->local_size - 1};
    if (uname(&system) == 0) snprintf(mine.host, sizeof mine.host, "%.60s", system.nodename);
    Seat *all = lesson_gather(lesson, &mine, sizeof mine);
    printf("%d device%s\nrank  threads  speaks with the others through      host\n", others + 1,
           others ? "s" : "");
    for (int r = 0; r <= others; r++) {
        char through[64] = "nobody is there";
        if (others && all[r].neighbours == others) snprintf(through, sizeof through, "shared memory");
        if (all[r].neighbours < others) snprintf(through, sizeof through, "messages");
        if (all[r].neighbours && all[r].neighbours < others)
            snprintf(through, sizeof through, "shared memory with %d, messages", all[r].neighbours);
        if (lesson->world->on_device) snprintf(through, sizeof through, "NCCL");
        printf("%4d  %7d  %-33s  %s\n", r, all[r].threads, through, all[r].host);
    }
    free(all);
    const DeviceModel *model = clock_model(lesson);
    if (model)
        printf("times are those of a model: %s (%s)\n", model->name, model->about);
    else
        printf("times are those of this machine\n");
}

static void show_mesh(const Mesh *mesh) {
    char *picture = mesh_picture(mesh);
    printf("\nthe mesh: %d along X (its axis `data`), %d along Y (its axis `tensor`)\n%s",
           mesh->size[MESH_DATA], mesh->size[MESH_TENSOR], picture);
    free(picture);
}

/* ---- the report ---- */

/* What the parts found out, for the report. */
typedef struct {
    Costs costs;
    json_t *playground; /* a list */
} Results;

/* began: the time of this machine when it did */
static void write_report(const Lesson *lesson, const Results *results, int argc, char **argv, double began) {
    CommCount counts[COMM_KINDS];
    lesson_counts(lesson, counts);
    json_t *report = report_new("04_collectives", argc, argv);
    json_t *comm = report_comm(lesson->console, counts);
    json_t *memory = report_memory_of_all(lesson->console, &lesson->device->memory);
    const int *size = lesson->mesh.size;
    report_set_integer(report, "devices", lesson->world->size);
    report_set_integer(report, "threads_per_device", lesson->device->queue.threads);
    report_set(report, "mesh",
               json_pack("{s:i, s:i, s:i}", "data", size[MESH_DATA], "pipe", size[MESH_PIPE], "tensor",
                         size[MESH_TENSOR]));
    report_set_real(report, "wall_s", now_seconds() - began);
    if (clock_model(lesson)) report_set_real(report, "model_s", queue_now(&lesson->device->queue));
    report_set(report, "memory", memory);
    report_set(report, "comm", comm);
    if (results->costs.sizes) json_object_set_new(report, "collectives", costs_json(&results->costs));
    if (json_array_size(results->playground)) json_object_set(report, "playground", results->playground);
    if (lesson->world->rank == 0) report_write(report, lesson->folder);
    json_decref(report);
}

/* ---- all parts ---- */

static void show_costs(const Lesson *lesson, Costs *costs) {
    *costs = costs_measure(lesson, choices.largest, (int)choices.tries);
    costs_print(costs, clock_model(lesson));
    if (lesson->world->rank == 0) costs_draw(lesson, costs);
}

static bool runs(Part part) { return choices.part == PART_ALL || choices.part == part; }

static bool begin(Part part, const char *title) {
    if (!runs(part)) return false;
    printf("%s---- %s ----\n", choices.part == PART_ALL && part != PART_DEVICES ? "\n" : "", title);
    fflush(stdout);
    return true;
}

static void show_shardings(const Lesson *lesson, bool *right) {
    static const int meshes[][MESH_AXES] = {{2, 1, 2}, {2, 1, 4}};
    for (int i = 0; i < COUNT_OF(meshes); i++) {
        printf("%sa mesh of %d x %d devices\n", i ? "\n" : "", meshes[i][MESH_DATA], meshes[i][MESH_TENSOR]);
        layouts_show(meshes[i], choices.rows, choices.columns);
        if (lesson->world->rank == 0) layouts_draw(lesson, meshes[i], choices.rows, choices.columns);
    }
    printf("\nthe devices that are here, %d x %d\n", lesson->mesh.size[MESH_DATA],
           lesson->mesh.size[MESH_TENSOR]);
    *right &= layouts_place(lesson, choices.rows, choices.columns);
}

/* The most square mesh of n devices has this many columns. */
static int columns_for(int n) {
    int columns = 1;
    for (int c = 1; c * c <= n; c++)
        if (n % c == 0) columns = n / c;
    return columns;
}

/* What cannot work is refused before anything is printed. */
static void check_choices(Comm *world) {
    enum { CUTS = 8 }; /* of the meshes that are drawn */
    const Playground *p = &choices.playground;
    if (runs(PART_SHARDINGS) && (choices.rows % CUTS || choices.columns % CUTS))
        comm_refuse(world,
                    xprintf("%" PRId64 " x %" PRId64 " can", ceil_div(choices.rows, CUTS) * CUTS,
                            ceil_div(choices.columns, CUTS) * CUTS),
                    xprintf("a matrix of --matrix-rows %" PRId64 " x --matrix-columns %" PRId64
                            " cannot be cut into %d equal slices either way",
                            choices.rows, choices.columns, CUTS));
    bool chosen = p->data || p->fsdp || p->tensor;
    if (runs(PART_PLAYGROUND) && chosen && !playground_count(p, world->size))
        comm_refuse(
            world,
            xprintf("data x fsdp x tensor must be %d; data x fsdp must divide --global-batch-size %" PRId64
                    ", fsdp --hidden-size %" PRId64 ", tensor --intermediate-size %" PRId64,
                    world->size, p->batch, p->D, p->F),
            xprintf("no sharding of the playground over %d device%s fits", world->size,
                    world->size > 1 ? "s" : ""));
}

static Lesson lesson_new(void) {
    Lesson lesson = {.world = comm_world(), .folder = choices.run.output_dir};
    check_choices(lesson.world);
    lesson.device = machine_device(&choices.run);
    comm_account(lesson.world, lesson.device);
    comm_on_device(lesson.world, job_device_calls(&choices.run));
    int columns = choices.tensor_size ? (int)choices.tensor_size : columns_for(lesson.world->size);
    lesson.mesh = mesh_new(lesson.world, (const int[MESH_AXES]){0, 1, columns});
    lesson.console = comm_split(lesson.world, 0, lesson.world->rank, "console");
    if (lesson.world->rank != 0) /* rank 0 speaks for all */
        CHECK(freopen("/dev/null", "w", stdout), NULL, "cannot open /dev/null");
    return lesson;
}

static void lesson_free(Lesson *lesson) {
    comm_close(lesson->console);
    mesh_close(&lesson->mesh);
    comm_close(lesson->world);
    device_delete(lesson->device);
}

int main(int argc, char **argv) {
    choices = choices_parse(argc, argv);
    Lesson lesson = lesson_new();
    file_make_folder(lesson.folder);
    double began = now_seconds();
    bool right = true;
    Results results = {.playground = json_array()};

    if (begin(PART_DEVICES, "devices")) {
        list_devices(&lesson);
        show_mesh(&lesson.mesh);
    }
    if (begin(PART_SHARDINGS, "every way to lay out a matrix")) show_shardings(&lesson, &right);
    if (begin(PART_PRODUCTS, "four cases of a sharded product")) right &= cases_show(&lesson);
    if (begin(PART_COLLECTIVES, "collectives, before and after")) right &= moves_show(&lesson);
    if (begin(PART_RING, "the all-reduce by hand")) right &= moves_by_hand(&lesson, choices.count);
    if (begin(PART_COSTS, "what a collective costs")) {
        if (lesson.world->size > 1)
            show_costs(&lesson, &results.costs);
        else
            printf("one device has nobody to speak with: try make ch04 NP=4\n");
    }
    if (begin(PART_PLAYGROUND, "a playground"))
        right &= playground_run(&lesson, &choices.playground, results.playground);

    write_report(&lesson, &results, argc, argv, began);
    if (!right) printf("\nsomething above is not as it should be\n");
    printf("\n");
    pictures_print_place(lesson.folder, "report.json", NULL);
    json_decref(results.playground);
    lesson_free(&lesson);
    return right ? 0 : 1;
}
