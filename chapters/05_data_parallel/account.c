#include "chapters/05_data_parallel/account.h"

#include "common/comm/clock.h"
#include "common/run/report.h"
#include "common/run/trace_devices.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Since the start. */
static CommSpent spent_so_far(const Mesh *mesh) {
    CommSpent spent = {0};
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const Comm *comm = mesh->axis[axis];
        for (int kind = 0; kind < COMM_KINDS; kind++) {
            spent.counts[kind].calls += comm->counts[kind].calls;
            spent.counts[kind].bytes += comm->counts[kind].bytes;
        }
        spent.seconds += comm->seconds;
        spent.idle_seconds += comm->idle_seconds;
    }
    return spent;
}

static void add_since(CommSpent *sum, const CommSpent *before, const CommSpent *now) {
    for (int kind = 0; kind < COMM_KINDS; kind++) {
        sum->counts[kind].calls += now->counts[kind].calls - before->counts[kind].calls;
        sum->counts[kind].bytes += now->counts[kind].bytes - before->counts[kind].bytes;
    }
    sum->seconds += now->seconds - before->seconds;
    sum->idle_seconds += now->idle_seconds - before->idle_seconds;
}

void account_begin(Account *a, const Mesh *mesh, Device *device, Tape *tape, const Config *config) {
    *a = (Account){.mesh = mesh, .device = device, .config = config};
    if (config->trace) a->trace = trace_new_among(mesh->world, &device->queue, config->output_dir);
    a->profile = profile_new(device, a->trace ? tape : NULL, NULL, NULL, a->trace);
    a->timeline = timeline_new(mesh, a->profile, a->trace);
}

void account_step_begin(Account *a, int64_t step) {
    timeline_clear(a->timeline);
    profile_step_begin(a->profile, step);
    a->before = spent_so_far(a->mesh);
    a->queue_before = a->device->queue.counts;
    a->began = queue_now(&a->device->queue);
}

double account_step_end(Account *a) {
    double seconds = queue_now(&a->device->queue) - a->began;
    CommSpent now = spent_so_far(a->mesh);
    add_since(&a->comm, &a->before, &now);
    a->last = (CommSpent){0};
    a->queue_last = queue_counts_since(&a->device->queue, a->queue_before);
    add_since(&a->last, &a->before, &now);
    a->seconds += seconds;
    a->steps++;
    profile_step_end(a->profile);
    timeline_hold(a->timeline);
    return seconds;
}

/* ---- the tables ---- */

/* What a device has spent in a phase. */
typedef struct {
    double seconds, core_seconds;
} Spent;

static void print_time(const Account *a) {
    Comm *world = a->mesh->world;
    int n = world->size;
    Spent mine[PHASES], *all = xmalloc((size_t)n * sizeof mine), sum = {0, 0};
    for (Phase phase = 0; phase < PHASES; phase++)
        mine[phase] = (Spent){profile_seconds(a->profile, phase), profile_core_seconds(a->profile, phase)};
    comm_all_gather(world, NULL, mine, all, PHASES * (int64_t)(sizeof(Spent) / sizeof(double)), TYPE_F64);

    double whole = a->seconds; /* the mean over the devices, as that of each phase */
    comm_all_reduce(world, NULL, &whole, &whole, 1, TYPE_F64, REDUCE_SUM);
    whole /= n;
    bool modelled = a->device->queue.clock;
    double per_step = 1e3 / (double)max64(a->steps, 1);
    printf("\n%-22s %9s %8s %18s%s\n", "phase", "ms a step", "%", "least - most",
           modelled ? "" : "  core ms, all devices");
    for (Phase phase = 0; phase < PHASES; phase++) {
        Spent spent = {0, 0};
        double least = INFINITY, most = 0;
        for (int d = 0; d < n; d++) {
            const Spent *s = &all[d * PHASES + (int)phase];
            spent.seconds += s->seconds / n;
            spent.core_seconds += s->core_seconds;
            least = fmin(least, s->seconds);
            most = fmax(most, s->seconds);
        }
        if (phase == PHASE_NONE || spent.seconds == 0) continue;
        sum.seconds += spent.seconds;
        sum.core_seconds += spent.core_seconds;
        printf("%-22s %9.3f %8.1f %9.3f -%7.3f", phase_names[phase], per_step * spent.seconds,
               100 * spent.seconds / whole, per_step * least, per_step * most);
        printf(modelled ? "\n" : "  %20.3f\n", per_step * spent.core_seconds);
    }
    printf("%-22s %9.3f %8.1f %18s", "step", per_step * sum.seconds, 100 * sum.seconds / whole, "");
    printf(modelled ? "\n" : "  %20.3f\n", per_step * sum.core_seconds);
    if (a->device->backend->stamp && !modelled && !a->trace)
        printf("these are times of the host, which issues a GPU's work and waits for it in the rest: with "
               "--trace they are the GPU's\n");
    free(all);
}

StepCount account_step_count(const Account *a, CommKind kind) {
    double moved = (double)a->last.counts[kind].bytes;
    comm_all_reduce(a->mesh->world, NULL, &moved, &moved, 1, TYPE_F64, REDUCE_SUM);
    return (StepCount){a->last.counts[kind].calls, moved};
}

void account_end(Account *a) {
    const Clock *clock = a->device->queue.clock;
    int n = a->mesh->world->size;
    if (a->steps > 0) {
        char *path = xprintf("%s/timeline.png", a->config->output_dir);
        char *title = xprintf("One step on %d device%s%s%s", n, n > 1 ? "s" : "", clock ? ", clock of " : "",
                              clock ? clock->model->name : "");
        timeline_draw(a->timeline, title, path);
        free(title);
        free(path);
    }
    timeline_delete(a->timeline);
    trace_join(a->trace, a->mesh->world);
    if (a->steps > 0) print_time(a);
    profile_delete(a->profile);
}

/* ---- the report ---- */

/* For each device {compute, comm, idle} of the steps. */
static json_t *seconds_of_devices(const Account *a) {
    Comm *world = a->mesh->world;
    const CommSpent *comm = &a->comm;
    double mine[] = {a->seconds - comm->seconds, comm->seconds - comm->idle_seconds, comm->idle_seconds};
    double *all = xmalloc((size_t)world->size * sizeof mine);
    comm_all_gather(world, NULL, mine, all, COUNT_OF(mine), TYPE_F64);
    json_t *list = json_array();
    for (int d = 0; d < world->size; d++)
        json_array_append_new(list, json_pack("{s:f, s:f, s:f}", "compute", all[3 * d], "comm",
                                              all[3 * d + 1], "idle", all[3 * d + 2]));
    free(all);
    return list;
}

void account_report(const Account *a, const Result *result) {
    const Config *c = a->config;
    const MetricsRow *row = &result->row;
    const int *size = a->mesh->size;
    Comm *world = a->mesh->world;
    CommSpent spent = spent_so_far(a->mesh);
    json_t *memory = report_memory_of_all(world, &a->device->memory);
    json_t *comm = report_comm(world, spent.counts), *seconds = seconds_of_devices(a),
           *queue = report_queue_of_all(world, &a->queue_last);
    json_t *report = report_new(result->chapter, result->argc, result->argv);
    double tokens = (double)(a->steps * c->global_batch * c->model.T), flops = result->flops_per_token;
    double time = c->clock == CLOCK_MODEL ? a->seconds : result->seconds;
    report_set_integer(report, "devices", world->size);
    report_set_integer(report, "threads_per_device", a->device->queue.threads);
    report_set(report, "mesh",
               json_pack("{s:i, s:i, s:i}", "data", size[MESH_DATA], "pipe", size[MESH_PIPE], "tensor",
                         size[MESH_TENSOR]));
    report_set_integer(report, "parameters", result->parameters);
    report_set_integer(report, "matmul_parameters", result->matmul_parameters);
    report_set_real(report, "flops_per_token", flops);
    report_set_integer(report, "steps", row->step);
    report_set_integer(report, "tokens", row->tokens);
    report_set_real(report, "wall_s", result->seconds);
    if (c->clock == CLOCK_MODEL) report_set_real(report, "model_s", time);
    report_set_real(report, "tokens_per_s", tokens / time);
    if (result->saves) {
        report_set_integer(report, "saves", result->saves);
        report_set_real(report, "save_s", result->save_seconds);
    }
    report_set_real(report, "peak_gflops", result->peak_gflops);
    report_set_real(report, "mfu", flops * tokens / time * 1e-9 / result->peak_gflops);
    report_set_real(report, "loss", row->loss);
    report_set_real(report, "val_loss", row->val_loss);
    report_set_real(report, "bits_per_byte", row->val_loss / log(2) / result->bytes_per_token);
    report_set_real(report, "entropy_floor", result->entropy_floor);
    report_set_real(report, "trigram_loss", result->trigram_loss);
    report_set(report, "memory", memory);
    report_set(report, "comm", comm);
    report_set(report, "queue", queue);
    report_set(report, "seconds", seconds);
    if (world->rank == 0) report_write(report, c->output_dir);
    json_decref(report);
}
