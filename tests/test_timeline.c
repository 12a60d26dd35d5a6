/* Several devices, on one axis or two, in one trace and one picture: after trace_join there is one file, with the rows of every device, each
 * call of comm in it, and an arrow from each message's sender to its receiver, which leaves before it arrives; by the model
 * clock the spans are where the clock had them. The picture is drawn.
 *
 * TEST np: 3 4, all: 1
 * TEST variants: float asan */
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "common/draw/timeline.h"
#include "common/run/trace_devices.h"
#include "tests/ranks.h"
#include "tests/svg.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 1000, LARGE = 8 << 20, STEPS = 2 };

/* Messages around the ring, a sum. */
static void talk(Comm *comm, Queue *q) {
    static float in[COUNT], out[COUNT];
    int n = comm->size, right = (comm->rank + 1) % n, left = (comm->rank + n - 1) % n;
    if (n > 1) {
        CommRequest *sent = comm_start_send(comm, q, in, COUNT, TYPE_F32, right);
        comm_recv(comm, q, out, COUNT, TYPE_F32, left);
        comm_wait(comm, q, sent);
    }
    CommRequest *sum = comm_start_all_reduce(comm, q, in, out, COUNT, TYPE_F32, REDUCE_SUM);
    comm_about(sum, "small");
    comm_wait(comm, q, sum);
}

/* A sum that is wide enough in the picture for a letter or two. */
static void sum_much(Comm *comm, Queue *q) {
    float *much = xcalloc(LARGE, sizeof *much);
    CommRequest *sum = comm_start_all_reduce(comm, q, much, much, LARGE, TYPE_F32, REDUCE_SUM);
    comm_about(sum, "sums.7");
    comm_wait(comm, q, sum);
    free(much);
}

/* A step: phases as long as the clock is moved, talk along two axes, and something that only the world has to know. */
static void step(const Mesh *mesh, Profile *profile, Clock *clock, Queue *q) {
    profile_phase(profile, PHASE_FORWARD);
    clock->now += 1e-3 * (mesh->world->rank + 1);
    profile_phase(profile, PHASE_REDUCE);
    talk(mesh->axis[MESH_DATA], q);
    talk(mesh->axis[MESH_TENSOR], q);
    sum_much(mesh->axis[MESH_DATA], q);
    comm_barrier(mesh->world, NULL);
    int32_t word = 0;
    comm_all_reduce(mesh->world, NULL, &word, &word, 1, TYPE_I32, REDUCE_MAX);
    profile_phase(profile, PHASE_NONE);
}

static double number(const json_t *event, const char *key) {
    return json_number_value(json_object_get(event, key));
}

static bool is(const json_t *event, const char *key, const char *text) {
    const char *s = json_string_value(json_object_get(event, key));
    return s && !strcmp(s, text);
}

/* How many events have this name and phase on this device; the last of them in *last. */
static int count(const json_t *events, const char *name, const char *ph, int device, const json_t **last) {
    int found = 0;
    size_t i;
    const json_t *event;
    json_array_foreach(events, i, event) {
        if (!is(event, "name", name) || !is(event, "ph", ph) || (int)number(event, "pid") != device) continue;
        found++;
        *last = event;
    }
    return found;
}

/* Each arrow that arrives has left, once, from another device, before. */
static bool arrows_join(const json_t *events, int *joined) {
    size_t i, j;
    const json_t *to, *from;
    *joined = 0;
    json_array_foreach(events, i, to) {
        if (!is(to, "ph", "f")) continue;
        int partners = 0;
        json_array_foreach(events, j, from) {
            if (!is(from, "ph", "s") || number(from, "id") != number(to, "id")) continue;
            partners++;
            if (number(from, "pid") == number(to, "pid") || number(from, "ts") > number(to, "ts"))
                return false;
        }
        if (partners != 1) return false;
        ++*joined;
    }
    return true;
}

static void check_trace(const char *path, const Mesh *mesh, double last_end) {
    int n = mesh->world->size, rings = (mesh->size[MESH_DATA] > 1) + (mesh->size[MESH_TENSOR] > 1);
    json_t *root = json_load_file(path, 0, NULL), *events = json_object_get(root, "traceEvents");
    ok(events, "trace.json is JSON");
    for (int device = 0; device < n; device++) {
        const json_t *e = NULL;
        ok(count(events, "step 1", "X", device, &e) == 1 &&
               count(events, "forward", "X", device, &e) == STEPS,
           "device %d: steps and phases", device);
        ok(fabs(number(e, "dur") - 1e3 * (device + 1)) < 1e-6, "... as long as the clock had them");
        ok(count(events, "send", "X", device, &e) == rings * STEPS &&
               count(events, "all_reduce", "X", device, &e) == 3 * STEPS,
           "... and its calls, but not those of the world");
        ok(is(json_object_get(e, "args"), "about", "sums.7"), "... with what they are about");
        ok(fabs(number(e, "ts") + number(e, "dur") - 1e6 * last_end) < 2e-3,
           "... which end when the clock says");
        ok(count(events, "process_name", "M", device, &e) == 1, "... under its name");
    }
    int joined = 0;
    ok(arrows_join(events, &joined) && joined == n * rings * STEPS, "%d arrows, from sender to receiver",
       joined);
    json_decref(root);
}

int main(void) {
    Comm *world = ranks_world();
    char *folder = ranks_folder(world);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){0, 1, world->size % 2 ? 1 : 2});
    Device *device = device_new_cpu(0);
    Clock clock;
    clock_attach(device, &clock, device_model("a100"));
    Trace *trace = trace_new_among(world, &device->queue, folder);
    Tape *tape = tape_new(device, true);
    Profile *profile = profile_new(device, tape, NULL, NULL, trace);
    Timeline *timeline = timeline_new(&mesh, profile, trace);
    for (int s = 0; s < STEPS; s++) {
        timeline_clear(timeline);
        profile_step_begin(profile, s + 1);
        step(&mesh, profile, &clock, &device->queue);
        profile_step_end(profile);
        timeline_hold(timeline);
    }
    double end = clock.now, latest = end;
    comm_all_reduce(world, NULL, &latest, &latest, 1, TYPE_F64, REDUCE_MAX);
    ok_on_all(world, end == latest, "after the sum all clocks show the same");
    char *picture = xprintf("%s/timeline.png", folder), *path = xprintf("%s/trace.json", folder);
    timeline_draw(timeline, "a title with 'quotes'", picture);
    char *drawing = xprintf("%s/timeline.svg", folder);
    timeline_draw(timeline, "a title", drawing);
    timeline_delete(timeline);
    trace_join(trace, world);
    if (world->rank == 0) {
        size_t bytes = 0;
        char *png = file_exists(picture) ? file_read(picture, &bytes) : NULL;
        ok(bytes > 1000 && !memcmp(png, "\x89PNG", 4), "the picture is a PNG of %zu bytes", bytes);
        free(png);
        char *svg = file_exists(drawing) ? file_read(drawing, NULL) : xstrdup("");
        double x, unit, key;
        ok(svg_text_place(svg, "milliseconds", &x, &unit) && svg_text_place(svg, "forward", &x, &key) &&
               key > unit + 16,
           "the key stands below the name of the axis");
        int about = 0;
        for (const char *at = svg; (at = strstr(at, "<text>7</text>")); at++) about++;
        ok(mesh.size[MESH_DATA] == 1 || about == world->size,
           "what a call is about stands in its span, as far as there is room");
        ok(!strstr(svg, "small") && !strstr(svg, "sums"), "... and nowhere else");
        free(svg);
        check_trace(path, &mesh, end);
        char *other = xprintf("%s/trace.1.json", folder);
        ok(!file_exists(other), "there is one trace");
        free(other);
    }
    ranks_folder_remove(world, folder);
    free(picture);
    free(drawing);
    free(path);
    profile_delete(profile);
    tape_delete(tape);
    clock_detach(&clock);
    device_delete(device);
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
