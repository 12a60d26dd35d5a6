/* The account of a run on several devices (chapter 05), by a trainer that is none: on a mesh of two axes it counts the calls of
 * every kind in the steps, and neither those between them nor those of the world; seconds are those of the model clock; the
 * report has what it was told, and for each device what it did.
 *
 * TEST np: 1 4, all: 2 3 8
 * TEST variants: float */
#include "chapters/05_data_parallel/account.h"
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "tests/ranks.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 1000, STEPS = 3, OTHERS = 5 };

static float in[COUNT], out[16 * COUNT];

/* An all-reduce along data, two all-gathers along tensor; what the world says is not of the step. */
static void step(const Mesh *mesh, const Account *a, Clock *clock, Queue *q) {
    int32_t word = 0;
    profile_phase(a->profile, PHASE_FORWARD);
    clock->now += 1e-3 * (mesh->world->rank + 1);
    profile_phase(a->profile, PHASE_REDUCE);
    comm_all_reduce(mesh->axis[MESH_DATA], q, in, out, COUNT, TYPE_F32, REDUCE_SUM);
    for (int i = 0; i < 2; i++) comm_all_gather(mesh->axis[MESH_TENSOR], q, in, out, COUNT, TYPE_F32);
    comm_all_reduce(mesh->world, NULL, &word, &word, 1, TYPE_I32, REDUCE_MAX);
    profile_phase(a->profile, PHASE_NONE);
}

/* As an evaluation does. */
static void between(const Mesh *mesh, Clock *clock, Queue *q) {
    clock->now += 0.5;
    comm_all_reduce(mesh->axis[MESH_DATA], q, in, out, OTHERS, TYPE_F32, REDUCE_SUM);
    comm_barrier(mesh->axis[MESH_TENSOR], q);
}

/* ---- what it counts ---- */

static double all_reduce_bytes(const Mesh *mesh, int64_t count) { /* 2 (n-1) S in each group along data */
    int n = mesh->size[MESH_DATA];
    return (double)mesh->world->size / n * 2 * (n - 1) * (double)count * sizeof(float);
}

static void check_counts(const Mesh *mesh, const Account *a) {
    int n = mesh->size[MESH_TENSOR];
    double gathered = (double)mesh->world->size * 2 * (n - 1) * COUNT * sizeof(float);
    for (CommKind kind = 0; kind < COMM_KINDS; kind++) {
        StepCount got = account_step_count(a, kind), want = {0, 0};
        if (kind == COMM_ALL_REDUCE) want = (StepCount){1, all_reduce_bytes(mesh, COUNT)};
        if (kind == COMM_ALL_GATHER) want = (StepCount){2, gathered};
        ok_on_all(mesh->world, got.calls == want.calls && got.bytes == want.bytes,
                  "%s: %d calls of a device in a step, %.0f bytes of all", comm_kind_names[kind],
                  (int)got.calls, got.bytes);
    }
}

/* ---- the report ---- */

static double sum_of(const json_t *list, const char *key, const char *part) {
    double sum = 0;
    size_t i;
    const json_t *device;
    json_array_foreach(list, i, device) {
        const json_t *value = json_object_get(device, key);
        sum += json_number_value(part ? json_object_get(value, part) : value);
    }
    return sum;
}

static int64_t whole(const json_t *report, const char *key) {
    return json_integer_value(json_object_get(report, key));
}

static void check_report(const Mesh *mesh, const char *folder, double seconds) {
    char *path = xprintf("%s/report.json", folder);
    json_t *report = json_load_file(path, 0, NULL);
    const json_t *sizes = json_object_get(report, "mesh"), *comm = json_object_get(report, "comm"),
                 *spent = json_object_get(report, "seconds");
    const char *chapter = json_string_value(json_object_get(report, "chapter"));
    size_t n = (size_t)mesh->world->size;
    ok(chapter && !strcmp(chapter, "99_another"), "the report is of chapter '%s'", chapter ? chapter : "");
    ok(whole(report, "parameters") == 123456 && whole(report, "matmul_parameters") == 100000,
       "its parameters are those that the program said");
    ok(whole(sizes, "data") == mesh->size[MESH_DATA] && whole(sizes, "pipe") == 1 &&
           whole(sizes, "tensor") == mesh->size[MESH_TENSOR],
       "its mesh is %d x 1 x %d", mesh->size[MESH_DATA], mesh->size[MESH_TENSOR]);
    ok(json_array_size(comm) == n && json_array_size(spent) == n &&
           json_array_size(json_object_get(report, "memory")) == n,
       "it has each device");
    ok(sum_of(comm, "all_reduce", "bytes") ==
           STEPS * (all_reduce_bytes(mesh, COUNT) + all_reduce_bytes(mesh, OTHERS)),
       "its bytes are those of the whole run");
    ok(whole(report, "steps") == 7 + STEPS && whole(report, "tokens") == 1000, "steps and tokens of the row");
    double model_s = json_number_value(json_object_get(report, "model_s")),
           first = json_number_value(json_object_get(json_array_get(spent, 0), "compute"));
    ok(fabs(model_s - seconds) < 1e-12, "model_s, %.6f, is the sum of the steps", model_s);
    ok(fabs(first - STEPS * 1e-3) < 1e-12, "device 0 has computed for %.6f s", first);
    ok(fabs(sum_of(spent, "compute", NULL) + sum_of(spent, "comm", NULL) + sum_of(spent, "idle", NULL) -
            (double)n * model_s) < 1e-9,
       "compute, comm and idle are all there is");
    ok(n == 1 || sum_of(spent, "idle", NULL) > 1e-3, "some wait for others");
    json_decref(report);
    free(path);
}

int main(void) {
    Comm *world = ranks_world();
    char *folder = ranks_folder(world);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, world->size % 2 ? 1 : 2});
    Config config = *config_preset("tiny");
    config.output_dir = folder;
    config.clock = CLOCK_MODEL;
    Device *device = device_new_cpu(0);
    Clock clock;
    clock_attach(device, &clock, device_model("a100"));

    Account account;
    double seconds = 0;
    account_begin(&account, &mesh, device, NULL, &config);
    for (int s = 0; s < STEPS; s++) {
        account_step_begin(&account, s + 1);
        step(&mesh, &account, &clock, &device->queue);
        seconds += account_step_end(&account);
        between(&mesh, &clock, &device->queue);
    }
    check_counts(&mesh, &account);
    Result result = {.chapter = "99_another",
                     .parameters = 123456,
                     .matmul_parameters = 100000,
                     .row = {.step = 7 + STEPS, .tokens = 1000},
                     .argc = 1};
    account_report(&account, &result);
    account_end(&account);
    if (world->rank == 0) check_report(&mesh, folder, seconds);
    ranks_folder_remove(world, folder);
    clock_detach(&clock);
    device_delete(device);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
