#include "chapters/10_3d_parallel/mesh_auto.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/10_3d_parallel/predict.h"
#include "chapters/10_3d_parallel/trainer.h"
#include "common/base/size_text.h"
#include "common/comm/clock.h"
#include "common/run/machine.h"
#include "common/draw/pictures.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* What the search chooses; the rest is the config's. Whole numbers and doubles alone: it travels between ranks. */
typedef struct {
    int64_t data, pipe, tensor, micro_batch, zero_stage, recompute;
    Prediction predicted;
} Choice;

typedef struct {
    Choice *items;
    int64_t count, too_large; /* too_large: meshes on which no device can hold its part */
} Choices;

static Config config_of(const Config *config, const Choice *choice) {
    Config c = *config;
    c.clock = CLOCK_MODEL;
    c.data_parallel = (int)choice->data;
    c.pipeline_parallel = choice->pipe;
    c.tensor_parallel = choice->tensor;
    c.micro_batch = choice->micro_batch;
    c.num_microbatches = c.global_batch / (choice->data * choice->micro_batch);
    c.zero_stage = choice->zero_stage;
    c.recompute = choice->recompute;
    if (choice->data % max64(c.shard_group, 1)) c.shard_group = 0;
    return c;
}

/* ---- the search ---- */

typedef struct {
    const Config *config;
    const Device *like;
    const Dataset *data;
    double most; /* bytes of a device */
} Search;

/* The fastest number of windows in a micro-batch, the config's or a half of it, a quarter ..., with which the devices hold
 * theirs. False: none. */
static bool choose_micro_batch(const Search *search, Choice *choice) {
    bool found = false;
    Choice try = *choice;
    for (try.micro_batch = search->config->micro_batch; try.micro_batch > 0; try.micro_batch /= 2) {
        if (search->config->global_batch % (try.data * try.micro_batch)) continue;
        Config c = config_of(search->config, &try);
        if (!trainer_is_possible(&c)) continue;
        try.predicted = predict(&c, search->like, search->data);
        if ((double)try.predicted.bytes > search->most) continue;
        if (!found || try.predicted.seconds < choice->predicted.seconds) *choice = try;
        found = true;
    }
    return found;
}

/* ... and what saves memory, if nothing else helps, the cheapest first. */
static bool choose_savings(const Search *search, Choice *choice) {
    const Config *c = search->config;
    for (int recompute = c->recompute; recompute <= 1; recompute++)
        for (int64_t stage = c->zero_stage; stage <= 3; stage++) {
            if (stage > c->zero_stage && (choice->data == 1 || stage == 2))
                continue; /* 2 sends more than 1, and keeps more than 3 */
            choice->zero_stage = stage;
            choice->recompute = recompute;
            if (choose_micro_batch(search, choice)) return true;
        }
    return false;
}

static bool can_be_cut(const Config *config, const Choice *choice) {
    Choice smallest = *choice;
    smallest.micro_batch = 1;
    if (config->global_batch % choice->data) return false;
    Config c = config_of(config, &smallest);
    return trainer_is_possible(&c);
}

static int by_seconds(const void *a, const void *b) {
    double x = ((const Choice *)a)->predicted.seconds, y = ((const Choice *)b)->predicted.seconds;
    return (x > y) - (x < y);
}

static Choices search_all(const Search *search, int64_t devices) {
    Choices all = {0};
    const Config *c = search->config;
    for (int64_t tensor = 1; tensor <= devices; tensor++)
        for (int64_t pipe = 1; devices % tensor == 0 && pipe <= min64(c->model.L, devices / tensor); pipe++) {
            if (devices / tensor % pipe) continue;
            Choice choice = {.data = devices / tensor / pipe, .pipe = pipe, .tensor = tensor};
            if (!can_be_cut(c, &choice)) continue;
            if (!choose_savings(search, &choice)) {
                all.too_large++;
                continue;
            }
            all.items = xrealloc(all.items, (size_t)(all.count + 1) * sizeof *all.items);
            all.items[all.count++] = choice;
        }
    if (all.count) qsort(all.items, (size_t)all.count, sizeof *all.items, by_seconds);
    return all;
}

/* Rank 0 searches, all know what it has found. */
static Choices search_among(const Search *search, int64_t devices, Comm *world) {
    Choices all = {0};
    if (world->rank == 0) all = search_all(search, devices);
    int64_t counts[2] = {all.count, all.too_large}, ints = sizeof(int64_t) / sizeof(int32_t);
    comm_broadcast(world, NULL, counts, 2 * ints, TYPE_I32, 0);
    all.count = counts[0];
    all.too_large = counts[1];
    all.items = xrealloc(all.items, (size_t)max64(all.count, 1) * sizeof *all.items);
    comm_broadcast(world, NULL, all.items, all.count * (int64_t)(sizeof *all.items / sizeof(int32_t)),
                   TYPE_I32, 0);
    return all;
}

/* ---- what is said ---- */

static void print_mesh(const Choice *choice, const Config *config) {
    Config c = config_of(config, choice);
    char batch[48];
    snprintf(batch, sizeof batch, "%" PRId64 " x %" PRId64, c.num_microbatches, c.micro_batch);
    printf("%6" PRId64 " %6" PRId64 " %6" PRId64 "  %4" PRId64 " %9s %12s", choice->data, choice->pipe,
           choice->tensor, choice->zero_stage, choice->recompute ? "yes" : "no", batch);
}

static void print_table(const Choices *all, const Run *run, int64_t devices) {
    enum { MOST = 24 };
    const Config *c = &run->config;
    const DeviceModel *device = device_model(c->device_model);
    double useful =
        run->flops_per_token * (double)(c->global_batch * c->model.T) / (double)devices / device->flops;
    printf("%6s %6s %6s  %4s %9s %12s %12s %12s %9s %6s\n", "data", "pipe", "tensor", "ZeRO", "recompute",
           "micro-batch", "MB a device", "ms a step", "bubble, %", "MFU, %");
    for (int64_t i = 0; i < min64(all->count, MOST); i++) {
        const Choice *choice = &all->items[i];
        print_mesh(choice, c);
        printf(" %12.1f %12.3f %9.1f %6.1f\n", 1e-6 * (double)choice->predicted.kept,
               1e3 * choice->predicted.seconds, 100 * choice->predicted.bubble,
               100 * useful / choice->predicted.seconds);
    }
    if (all->count > MOST) printf("and %" PRId64 " slower ones\n", all->count - MOST);
    if (all->too_large)
        printf("%" PRId64 " more mesh%s: a device would hold more than it has\n", all->too_large,
               all->too_large > 1 ? "es" : "");
}

/* Numbers of devices along `tensor` that divide all of them, and not the model: why the first one does not. */
static void print_left_out(const Config *config, int64_t devices) {
    enum { MOST = 4 };
    Config c = *config;
    Str sizes = {0};
    char *why = NULL, *hint = NULL, *own_hint;
    int count = 0;
    for (c.tensor_parallel = 2; c.tensor_parallel <= devices; c.tensor_parallel++) {
        char *problem = devices % c.tensor_parallel ? NULL : sliced_problem(&c, &own_hint);
        if (!problem) continue;
        if (count < MOST) str_printf(&sizes, "%s%" PRId64, count ? ", " : "", c.tensor_parallel);
        if (count++ == 0)
            why = problem, hint = own_hint;
        else
            free(problem), free(own_hint);
    }
    if (count)
        printf("not along tensor: %s%s devices, as %s (hint: %s)\n", sizes.data, count > MOST ? " .." : "",
               why, hint);
    str_free(&sizes);
    free(why);
    free(hint);
}

/* ---- and run ---- */

/* Seconds of the second step, of the slowest device. */
static double run_mesh(const Config *c, Comm *world, const Dataset *data) {
    Clock clock;
    Device *device = machine_clock_device(c, 0, &clock, device_model(c->device_model));
    Mesh mesh = trainer_mesh(c, world);
    Plan *plan = pp_plan(c);
    Trainer *t = trainer_new(c, &mesh, plan, device, data);
    MetricsRow row;
    double began = 0;
    for (int64_t step = 0; step < 2; step++) {
        began = clock.now;
        trainer_step(t, step, &row);
    }
    double seconds = comm_most(world, clock.now - began);
    trainer_delete(t);
    pp_plan_delete(plan);
    mesh_close(&mesh);
    clock_detach(&clock);
    device_delete(device);
    return seconds;
}

static void run_first(const Choices *all, const Run *run, int64_t count) {
    printf("\n%6s %6s %6s  %4s %9s %12s %13s %12s %8s\n", "data", "pipe", "tensor", "ZeRO", "recompute",
           "micro-batch", "ms, predicted", "measured", "ratio");
    for (int64_t i = 0; i < min64(all->count, count); i++) {
        const Choice *choice = &all->items[i];
        Config c = config_of(&run->config, choice);
        double seconds = run_mesh(&c, run->job.world, run->data);
        print_mesh(choice, &run->config);
        printf(" %13.6f %12.6f %8.4f\n", 1e3 * choice->predicted.seconds, 1e3 * seconds,
               seconds / choice->predicted.seconds);
    }
}

void mesh_auto_run(const MeshAuto *options, const Run *run) {
    const Config *c = &run->config;
    Comm *world = run->job.world;
    const DeviceModel *device = device_model(c->device_model);
    int64_t devices = options->devices ? options->devices : world->size;
    Search search = {c, run->job.device, run->data,
                     c->device_memory ? (double)c->device_memory : device->memory};
    printf("%" PRId64 " devices of %s with %s each, %" PRId64 " windows of %" PRId64 " tokens a step\n",
           devices, device->name, size_text((int64_t)search.most).text, c->global_batch, c->model.T);
    Choices all = search_among(&search, devices, world);
    CHECK(all.count, "more devices, --device-memory, or another --global-batch-size",
          "there is no mesh of %lld devices for this model and batch", (long long)devices);
    print_table(&all, run, devices);
    print_left_out(c, devices);
    if (devices == world->size && options->run_meshes > 0) run_first(&all, run, options->run_meshes);
    free(all.items);
}
