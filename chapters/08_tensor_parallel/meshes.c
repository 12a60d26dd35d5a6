#include "chapters/08_tensor_parallel/meshes.h"

#include "chapters/07_fsdp/unit.h"
#include "chapters/08_tensor_parallel/sequence.h"
#include "chapters/08_tensor_parallel/tp_forecast.h"
#include "chapters/08_tensor_parallel/vocabulary.h"
#include "common/run/machine.h"
#include "common/draw/plots.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_MESHES = 16, WALL_STEPS = 3 };

/* ---- one mesh ---- */

static double seconds_of(const DeviceModel *model, const Comm *comm, CommKind kind, ElementType type,
                         int64_t count) {
    CommCall call = {.kind = kind, .type = type, .count = count};
    return clock_collective_seconds(model, comm, &call);
}

/* Elements of parameters that every device along `tensor` has. */
static int64_t replicated(const Sliced *s) {
    const Params *params = &s->own->model->params;
    int64_t count = 0;
    for (int i = 0; i < params->count; i++)
        if (params->items[i]->data.place[MESH_TENSOR].kind == PLACE_REPLICATE)
            count += tensor_count(&params->items[i]->data);
    return count;
}

/* What a block waits for all-gathers in backward that run beside products. */
static double gathers_again(const Config *c, const DeviceModel *model, const Comm *comm) {
    const ModelConfig *m = &c->model;
    int64_t t = comm->size, rows = c->micro_batch * m->T, heads = m->H + 2 * m->K,
            up = m->activation == ACTIVATION_SWIGLU ? 2 * m->F : m->F, count = tp_gathers_again(c, (int)t);
    double seconds = 0;
    if (count > 0) seconds += gather_again_seconds(model, comm, model_type(m), rows, m->C, up / t);
    if (count > 1)
        seconds += gather_again_seconds(model, comm, model_type(m), rows, m->C, heads * (m->C / m->H) / t);
    return seconds;
}

/* tp_forecast.h says which these are. */
static double predict_along_tensor(const Sliced *s, const DeviceModel *model) {
    const Config *c = &s->own->config;
    const Comm *comm = s->mesh->axis[MESH_TENSOR];
    int t = comm->size;
    if (t == 1) return 0;
    int64_t rows = c->micro_batch * c->model.T, S = rows * c->model.C, places = 4 * c->model.L + 2,
            chunks = vocabulary_chunks(rows, t);
    ElementType type = model_type(&c->model);
    double each = c->sequence_parallel ? seconds_of(model, comm, COMM_ALL_GATHER, type, S / t) +
                                             seconds_of(model, comm, COMM_REDUCE_SCATTER, type, S / t)
                                       : seconds_of(model, comm, COMM_ALL_REDUCE, type, S);
    double latency = seconds_of(model, comm, COMM_ALL_REDUCE, TYPE_REAL, 0),
           numbers = seconds_of(model, comm, COMM_ALL_REDUCE, TYPE_REAL, 3 * rows) - latency,
           norm = seconds_of(model, comm, COMM_ALL_REDUCE, TYPE_F64, 1);
    double once =
        c->sequence_parallel ? seconds_of(model, comm, COMM_ALL_REDUCE, TYPE_REAL, replicated(s)) : 0;
    return (double)places * each + (double)c->model.L * gathers_again(c, model, comm) +
           2 * (double)chunks * latency + numbers + norm + once;
}

/* The gradients of each unit; the tokens that count, and the loss. */
static double predict_along_data(const Sliced *s, const DeviceModel *model) {
    const Comm *comm = s->mesh->axis[MESH_DATA];
    const Fsdp *f = s->own->fsdp;
    if (comm->size == 1) return 0;
    double seconds = 2 * seconds_of(model, comm, COMM_ALL_REDUCE, TYPE_F64, 1);
    for (int k = 0; k < f->unit_count; k++)
        for (int use = 0; use < PARAM_MAX_USES; use++)
            if (f->units[k].grad[use].params)
                seconds += seconds_of(model, comm, COMM_ALL_REDUCE, TYPE_REAL, unit_count(f, &f->units[k]));
    return seconds;
}

static Config config_for(const Config *config, int d, int t) {
    Config c = *config;
    c.tensor_parallel = t;
    c.data_parallel = d;
    c.num_microbatches = 1;
    c.micro_batch = c.global_batch / d;
    c.zero_stage = c.shard_group = 0;
    c.overlap = OVERLAP_NONE;
    return c;
}

/* The norm, and the optimizer. */
static double update_seconds(const Profile *p) {
    return profile_seconds(p, PHASE_CLIP) + profile_seconds(p, PHASE_OPTIMIZER);
}

StepTimes meshes_step(const Config *config, Comm *world, const Dataset *data, int d, int t,
                      const DeviceModel *model, StepTimes *predicted) {
    Config c = config_for(config, d, t);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){d, 1, t});
    Clock clock;
    Device *device = machine_clock_device(&c, c.device_memory, &clock, model);
    Sliced *s = sliced_new(&c, &mesh, device, data);
    MetricsRow row;
    int64_t step = 0, steps = model ? 1 : WALL_STEPS;
    if (!model) sliced_step(s, step++, &row); /* memory is touched for the first time */
    s->own->profile = profile_new(device, NULL, NULL, NULL, NULL);
    double tensor = mesh.axis[MESH_TENSOR]->seconds, along = mesh.axis[MESH_DATA]->seconds;
    comm_barrier(world, NULL);
    double began = queue_now(&device->queue);
    for (int64_t i = 0; i < steps; i++, step++) {
        profile_step_begin(s->own->profile, step + 1);
        sliced_step(s, step, &row);
        profile_step_end(s->own->profile);
    }
    double n = (double)steps;
    StepTimes times = {.step = (queue_now(&device->queue) - began) / n,
                       .update = update_seconds(s->own->profile) / n,
                       .along_tensor = (mesh.axis[MESH_TENSOR]->seconds - tensor) / n,
                       .along_data = (mesh.axis[MESH_DATA]->seconds - along) / n};
    if (model && t > 1) /* is counted along tensor */
        times.update -= seconds_of(model, mesh.axis[MESH_TENSOR], COMM_ALL_REDUCE, TYPE_F64, 1);
    times.passes = times.step - times.update - times.along_tensor - times.along_data;
    if (predicted)
        *predicted = (StepTimes){.along_tensor = predict_along_tensor(s, model),
                                 .along_data = predict_along_data(s, model)};
    profile_delete(s->own->profile);
    sliced_delete(s);
    if (model) clock_detach(&clock);
    device_delete(device);
    mesh_close(&mesh);
    return times;
}

/* ---- by formula, from what a device would do alone ---- */

/* Kernels of its share of the batch, with whole matrices: seconds. */
typedef struct {
    double divided; /* forward and backward: what tensor parallelism divides: products, attention, the loss */
    double stream;  /* the residual stream: norms, sums, dropout; sequence parallel divides these too */
    double copies;  /* that f and g make on their way */
    double update;
} ShareTimes;

static bool is_one_of(const char *op, const char *const *names) {
    for (; *names; names++)
        if (strcmp(op, *names) == 0) return true;
    return false;
}

static ShareTimes share_alone(const Config *config, const Dataset *data, int64_t windows,
                              const DeviceModel *model) {
    static const char *const stream[] = {"layernorm", "rmsnorm",      "add",      "dropout",
                                         "embedding", "add_position", "add_bias", NULL},
                             *const copies[] = {"copy", "reduce", NULL};
    Config c = config_for(config, 1, 1);
    c.global_batch = c.micro_batch = windows;
    c.sequence_parallel = false;
    c.overlap_tensor = 1;
    Mesh alone = mesh_new(comm_self(), (int[MESH_AXES]){1, 1, 1});
    Clock clock;
    Device *device = machine_clock_device(&c, 0, &clock, model);
    Sliced *s = sliced_new(&c, &alone, device, data);
    Profile *profile = s->own->profile = profile_new(device, s->own->tape, NULL, NULL, NULL);
    MetricsRow row;
    profile_step_begin(profile, 1);
    sliced_step(s, 0, &row);
    profile_step_end(profile);
    ShareTimes times = {.update = update_seconds(profile)};
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    for (int i = 0; i < count; i++) {
        if (rows[i].phase == PHASE_CLIP || rows[i].phase == PHASE_OPTIMIZER) continue;
        *(is_one_of(rows[i].op, stream)   ? &times.stream
          : is_one_of(rows[i].op, copies) ? &times.copies
                                          : &times.divided) += rows[i].seconds;
    }
    profile_delete(profile);
    sliced_delete(s);
    clock_detach(&clock);
    device_delete(device);
    Comm *self = alone.world;
    mesh_close(&alone);
    comm_close(self);
    return times;
}

static void predict_kernels(const ShareTimes *share, const Config *c, int t, int64_t windows,
                            StepTimes *predicted) {
    bool sp = c->sequence_parallel;
    int64_t again = tp_gathers_again(c, t) * c->model.L, places = 4 * c->model.L + 2;
    /* slices of one window's sequence are blocks of memory, which a collective takes as they are */
    double copies = !sp ? 1 : windows == 1 ? 0 : 2 + (double)again / (double)places;
    predicted->passes = share->divided / t + share->stream / (sp ? t : 1) + share->copies * copies;
    predicted->update = share->update / t;
    predicted->step = predicted->passes + predicted->update + predicted->along_tensor + predicted->along_data;
}

/* ---- all meshes ---- */

typedef struct {
    int d, t;
    StepTimes measured, predicted;
    double wall;
} Point;

static void draw(const Config *c, const Point *points, int count, const char *device) {
    double t[MOST_MESHES], ms[6][MOST_MESHES];
    for (int i = 0; i < count; i++) {
        const StepTimes *m = &points[i].measured;
        const double parts[] = {m->step,   points[i].predicted.step, m->passes,
                                m->update, m->along_tensor,          m->along_data};
        t[i] = points[i].t;
        for (int k = 0; k < 6; k++) ms[k][i] = 1e3 * parts[k];
    }
    static const char *const names[] = {"a step",        "by formula",   "forward and backward",
                                        "the optimizer", "along tensor", "along data"};
    PlotSeries series[6];
    for (int k = 0; k < 6; k++)
        series[k] = (PlotSeries){names[k], t, ms[k], count, k == 1 ? PLOT_DASHED : PLOT_LINE_POINTS, 0, NULL};
    char *title = xprintf("A step on %d devices of %s, by how many share each layer",
                          points[0].d * points[0].t, device);
    char *path = xprintf("%s/meshes.png", c->output_dir);
    Plot plot = {.title = title,
                 .x_label = "devices along tensor; the others are along data",
                 .y_label = "milliseconds",
                 .y_from_zero = true,
                 .series = series,
                 .series_count = 6};
    plot_draw(&plot, path);
    free(title);
    free(path);
}

static void print_head(void) {
    printf("%14s  %-10s %9s %9s %9s %12s %10s  %6s %9s\n", "data x tensor", "ms", "step", "passes", "update",
           "along tensor", "along data", "MFU %", "wall ms");
}

static void print_times(const char *mesh, const char *how, const StepTimes *s) {
    printf("%14s  %-10s %9.4f %9.4f %9.4f %12.4f %10.4f", mesh, how, 1e3 * s->step, 1e3 * s->passes,
           1e3 * s->update, 1e3 * s->along_tensor, 1e3 * s->along_data);
}

static void print_point(const Point *p, double ideal) {
    char mesh[32];
    snprintf(mesh, sizeof mesh, "%d x %d", p->d, p->t);
    print_times(mesh, "measured", &p->measured);
    printf("  %6.1f %9.1f\n", 100 * ideal / p->measured.step, 1e3 * p->wall);
    print_times("", "by formula", &p->predicted);
    printf("\n");
}

/* Of the first mesh, and of the best one: where the difference comes from. */
static void explain(const Point *points, int best) {
    const Point *a = &points[0], *b = &points[best];
    if (best == 0) {
        printf("with %d along tensor nothing is saved: what is divided there costs more to add up\n",
               points[1].t);
        b = &points[1];
    }
    const StepTimes *x = &a->measured, *y = &b->measured;
    printf(
        "from %d x %d to %d x %d, ms: passes %+.4f, optimizer %+.4f, along tensor %+.4f, along data %+.4f\n",
        a->d, a->t, b->d, b->t, 1e3 * (y->passes - x->passes), 1e3 * (y->update - x->update),
        1e3 * (y->along_tensor - x->along_tensor), 1e3 * (y->along_data - x->along_data));
    printf(
        "  %d along data divide the batch alone: each of them updates all weights, and sums all gradients;\n"
        "  %d along tensor divide these as well, and the vocabulary; norms and residual sums they do not\n",
        a->d, b->t);
}

json_t *meshes_sweep(const Config *c, Comm *world, const Dataset *data) {
    const DeviceModel *device = device_model(c->device_model);
    Point points[MOST_MESHES];
    int n = world->size, count = 0, best = 0, expected = 0;
    Model *whole = model_new(NULL, &c->model, c->seed, &layers_serial);
    double ideal = model_flops_per_token(whole) * (double)(c->global_batch * c->model.T) / n / device->flops;
    model_delete(whole);
    printf("\n---- meshes of data x tensor, %" PRId64 " windows a step ----\n", c->global_batch);
    print_head();
    for (int t = 1; t <= n && count < MOST_MESHES; t++) {
        if (n % t) continue;
        Config cut = *c;
        cut.tensor_parallel = t;
        char *hint, *problem = sliced_problem(&cut, &hint);
        if (problem || c->global_batch % (n / t)) {
            printf("%10d x %d  %s\n", n / t, t, problem ? problem : "the batch cannot be shared by so many");
            if (problem) free(problem), free(hint);
            continue;
        }
        Point *p = &points[count];
        *p = (Point){.d = n / t, .t = t};
        p->measured = meshes_step(c, world, data, p->d, t, device, &p->predicted);
        p->wall = meshes_step(c, world, data, p->d, t, NULL, NULL).step;
        ShareTimes share = {0};
        if (world->rank == 0) share = share_alone(c, data, c->global_batch / p->d, device);
        comm_broadcast(world, NULL, &share, sizeof share / sizeof(double), TYPE_F64, 0);
        predict_kernels(&share, c, t, c->global_batch / p->d, &p->predicted);
        print_point(p, ideal);
        if (p->measured.step < points[best].measured.step) best = count;
        if (p->predicted.step < points[expected].predicted.step) expected = count;
        count++;
    }
    if (count == 0) return json_object();
    printf("best: %d x %d; by the formula: %d x %d\n", points[best].d, points[best].t, points[expected].d,
           points[expected].t);
    if (count > 1) explain(points, best);
    if (world->rank == 0) draw(c, points, count, device->name);
    return json_pack("{s:i, s:i, s:f, s:f}", "best_tensor", points[best].t, "predicted_tensor",
                     points[expected].t, "best_step_s", points[best].measured.step, "first_step_s",
                     points[0].measured.step);
}
