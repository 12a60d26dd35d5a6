#include "chapters/05_data_parallel/account.h"

#include "common/comm/clock.h"
#include "common/run/report.h"
#include "common/run/trace_devices.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

void account_begin(Account *a, Comm *world, Replica *r, bool trace) {
    Queue *q = &r->device->queue;
    *a = (Account){.world = world};
    if (trace) a->trace = trace_new_among(world, q, r->config.output_dir);
    r->profile = profile_new(r->device, trace ? r->tape : NULL, NULL, NULL, a->trace);
    a->timeline = timeline_new(r->comm, r->profile, a->trace);
}

void account_step_begin(Account *a, Replica *r, int64_t step) {
    timeline_clear(a->timeline);
    profile_step_begin(r->profile, step);
    a->before = r->comm->counts[COMM_ALL_REDUCE];
    a->comm_before = r->comm->seconds;
    a->idle_before = r->comm->idle_seconds;
    a->began = queue_now(&r->device->queue);
}

void account_step_end(Account *a, Replica *r) {
    a->seconds += queue_now(&r->device->queue) - a->began;
    a->comm_seconds += r->comm->seconds - a->comm_before;
    a->idle_seconds += r->comm->idle_seconds - a->idle_before;
    a->all_reduces.calls += r->comm->counts[COMM_ALL_REDUCE].calls - a->before.calls;
    a->all_reduces.bytes += r->comm->counts[COMM_ALL_REDUCE].bytes - a->before.bytes;
    a->steps++;
    profile_step_end(r->profile);
    timeline_hold(a->timeline);
}

/* ---- the tables ---- */

/* What a device has spent in a phase. */
typedef struct {
    double seconds, core_seconds;
} Spent;

static void print_time(const Account *a, const Replica *r) {
    int n = a->world->size;
    Spent mine[PHASES], *all = xmalloc((size_t)n * sizeof mine), sum = {0, 0};
    for (Phase phase = 0; phase < PHASES; phase++)
        mine[phase] = (Spent){profile_seconds(r->profile, phase), profile_core_seconds(r->profile, phase)};
    comm_all_gather(a->world, NULL, mine, all, PHASES * (int64_t)(sizeof(Spent) / sizeof(double)), TYPE_F64);

    bool modelled = r->device->queue.clock;
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
               100 * spent.seconds / a->seconds, per_step * least, per_step * most);
        printf(modelled ? "\n" : "  %20.3f\n", per_step * spent.core_seconds);
    }
    printf("%-22s %9.3f %8.1f %18s", "step", per_step * sum.seconds, 100 * sum.seconds / a->seconds, "");
    printf(modelled ? "\n" : "  %20.3f\n", per_step * sum.core_seconds);
    free(all);
}

/* Two numbers more than the gradients are summed in a step: tokens that count, and the loss. */
static void print_bytes(const Account *a, const Replica *r) {
    double n = r->comm->size, S = (double)data_parallel_bytes(r->dp) + 2 * sizeof(double);
    double moved = (double)a->all_reduces.bytes;
    comm_all_reduce(r->comm, NULL, &moved, &moved, 1, TYPE_F64, REDUCE_SUM);
    double predicted = 2 * (n - 1) * S, measured = moved / (double)max64(a->steps, 1);
    printf("\nall-reduces of a step: %" PRId64 ", of %.0f bytes in all, S\n",
           a->all_reduces.calls / max64(a->steps, 1), S);
    if (n > 1)
        printf("sent by all devices: 2 (n-1) S = %.0f bytes, counted %.0f, ratio %.9g\n", predicted, measured,
               measured / predicted);
}

void account_end(Account *a, Replica *r) {
    if (a->steps > 0) {
        char *path = xprintf("%s/timeline.png", r->config.output_dir);
        char *title = xprintf("One step on %d device%s%s%s", a->world->size, a->world->size > 1 ? "s" : "",
                              r->device->queue.clock ? ", clock of " : "",
                              r->device->queue.clock ? r->device->queue.clock->model->name : "");
        timeline_draw(a->timeline, title, path);
        free(title);
        free(path);
    }
    timeline_delete(a->timeline);
    trace_join(a->trace, a->world);
    if (a->steps > 0) {
        print_time(a, r);
        print_bytes(a, r);
    }
    profile_delete(r->profile);
    r->profile = NULL;
}

/* ---- the report ---- */

/* For each device {compute, comm, idle} of the steps. */
static json_t *seconds_of_devices(const Account *a) {
    double mine[] = {a->seconds - a->comm_seconds, a->comm_seconds - a->idle_seconds, a->idle_seconds};
    double *all = xmalloc((size_t)a->world->size * sizeof mine);
    comm_all_gather(a->world, NULL, mine, all, COUNT_OF(mine), TYPE_F64);
    json_t *list = json_array();
    for (int d = 0; d < a->world->size; d++)
        json_array_append_new(list, json_pack("{s:f, s:f, s:f}", "compute", all[3 * d], "comm",
                                              all[3 * d + 1], "idle", all[3 * d + 2]));
    free(all);
    return list;
}

void account_report(const Account *a, const Replica *r, const Mesh *mesh, const Result *result, int argc,
                    char **argv) {
    const Config *c = &r->config;
    const MetricsRow *row = &result->row;
    const int *size = mesh->size;
    json_t *memory = report_memory_of_all(a->world, &r->device->memory);
    json_t *comm = report_comm(a->world, r->comm->counts), *spent = seconds_of_devices(a);
    json_t *report = report_new("05_data_parallel", argc, argv);
    double tokens = (double)(result->steps * c->global_batch * c->model.T),
           flops = model_flops_per_token(r->model);
    double time = c->clock == CLOCK_MODEL ? a->seconds : result->seconds;
    report_set_integer(report, "devices", a->world->size);
    report_set_integer(report, "threads_per_device", r->device->queue.threads);
    report_set(report, "mesh",
               json_pack("{s:i, s:i, s:i}", "data", size[MESH_DATA], "pipe", size[MESH_PIPE], "tensor",
                         size[MESH_TENSOR]));
    report_set_integer(report, "parameters", params_count(&r->model->params));
    report_set_integer(report, "matmul_parameters", params_matmul_count(&r->model->params));
    report_set_real(report, "flops_per_token", flops);
    report_set_integer(report, "steps", row->step);
    report_set_integer(report, "tokens", row->tokens);
    report_set_real(report, "wall_s", result->seconds);
    if (c->clock == CLOCK_MODEL) report_set_real(report, "model_s", time);
    report_set_real(report, "tokens_per_s", tokens / time);
    report_set_real(report, "peak_gflops", result->peak_gflops);
    report_set_real(report, "mfu", flops * tokens / time * 1e-9 / result->peak_gflops);
    report_set_real(report, "loss", row->loss);
    report_set_real(report, "val_loss", row->val_loss);
    report_set_real(report, "bits_per_byte", row->val_loss / log(2) / result->bytes_per_token);
    report_set_real(report, "entropy_floor", r->data->entropy_floor);
    report_set_real(report, "trigram_loss", r->data->trigram_loss);
    report_set(report, "memory", memory);
    report_set(report, "comm", comm);
    report_set(report, "seconds", spent);
    if (a->world->rank == 0) report_write(report, c->output_dir);
    json_decref(report);
}
