#include "chapters/10_3d_parallel/trainer_report.h"

#include "chapters/08_tensor_parallel/tp_forecast.h"
#include "chapters/09_pipeline_parallel/pp_forecast.h"
#include "common/run/dry_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- who is where ---- */

static void print_rank(const Mesh *mesh, int rank) {
    int at[MESH_AXES];
    const int *size = mesh->size;
    mesh_coordinate(mesh, rank, at);
    printf("Rank %d | DP: %d/%d | TP: %d/%d | PP: %d/%d\n", rank, at[MESH_DATA], size[MESH_DATA],
           at[MESH_TENSOR], size[MESH_TENSOR], at[MESH_PIPE], size[MESH_PIPE]);
}

void trainer_print_ranks(const Trainer *t) {
    enum { MOST = 16, FIRST = 4 };
    const Mesh *mesh = t->staged->mesh;
    const Config *c = &t->staged->own->config;
    int n = mesh->world->size;
    printf("  batch     %" PRId64 " windows a step: %d pipeline%s x %" PRId64 " micro-batch%s x %" PRId64
           "\n",
           c->global_batch, c->data_parallel, c->data_parallel > 1 ? "s" : "", c->num_microbatches,
           c->num_microbatches > 1 ? "es" : "", c->micro_batch);
    printf("World size: %d | data parallel: %d | tensor parallel: %d%s | pipeline parallel: %d, %s | ZeRO "
           "stage: "
           "%" PRId64 "\n",
           n, mesh->size[MESH_DATA], mesh->size[MESH_TENSOR],
           t->tp && c->sequence_parallel ? ", sequence parallel" : "", mesh->size[MESH_PIPE],
           t->staged->plan->schedule->name, c->zero_stage);
    for (int rank = 0; rank < n; rank++) {
        if (n > MOST && rank == FIRST) {
            printf("..\n");
            rank = n - 1;
        }
        print_rank(mesh, rank);
    }
}

/* ---- what each device has held ---- */

typedef struct {
    MemoryUse held;
    int64_t predicted;
} Held;

static bool alike(const Held *a, const Held *b) {
    return a->held.joint_peak == b->held.joint_peak && a->predicted == b->predicted &&
           memcmp(a->held.peak, b->held.peak, sizeof a->held.peak) == 0;
}

void trainer_print_memory(const Trainer *t) {
    const Sharded *own = t->staged->own;
    Comm *world = t->staged->mesh->world;
    int n = world->size;
    DryRun ahead = dry_run(trainer_dry, &own->config, world->rank, n, own->device, own->data);
    Held mine = {own->device->memory, ahead.memory.joint_peak}, *all = xmalloc((size_t)n * sizeof *all);
    comm_all_gather(world, NULL, &mine, all, sizeof *all / sizeof(int32_t), TYPE_I32);
    printf("\n%-8s", "device");
    for (int k = 0; k < MEMORY_CLASSES; k++) printf(" %13s", memory_class_names[k]);
    printf(" %13s %13s  ratio\n", "together", "predicted");
    for (int first = 0, last; first < n; first = last + 1) {
        char devices[32];
        const Held *h = &all[first];
        for (last = first; last + 1 < n && alike(&all[last + 1], h);) last++;
        snprintf(devices, sizeof devices, last > first ? "%d - %d" : "%d", first, last);
        printf("%-8s", devices);
        for (int k = 0; k < MEMORY_CLASSES; k++) printf(" %13" PRId64, h->held.peak[k]);
        printf(" %13" PRId64 " %13" PRId64 "  %.9g\n", h->held.joint_peak, h->predicted,
               (double)h->held.joint_peak / (double)h->predicted);
    }
    printf("bytes, each class at its peak; together: the most at one time; predicted: by --print-memory\n");
    free(all);
}

/* ---- what a step has moved ---- */

/* Bytes that all devices send along each axis, by the formulas of chapters 07, 08 and 09. */
static void predict_axes(const Trainer *t, double *bytes) {
    const Staged *s = t->staged;
    PpForecast f = pp_forecast_of(s);
    bytes[MESH_DATA] = f.along_data;
    bytes[MESH_PIPE] = f.along_pipe;
    double along_tensor = 0;
    if (t->tp) {
        int64_t layers = 0;
        for (int64_t l = 0; l < s->own->config.model.L; l++) layers += model_has_block(s->own->model, l);
        TpForecast part = tp_forecast_of_part(t->tp, s->own, layers, s->embeds, s->heads);
        double group = s->mesh->size[MESH_DATA] * s->mesh->size[MESH_TENSOR]; /* that has this part */
        along_tensor = (part.all_reduce + part.all_gather + part.reduce_scatter) / group;
    }
    comm_all_reduce(s->mesh->world, NULL, &along_tensor, bytes + MESH_TENSOR, 1, TYPE_F64, REDUCE_SUM);
}

void trainer_print_axes(const Trainer *t) {
    const Mesh *mesh = t->staged->mesh;
    if (mesh->world->size == 1) return;
    double predicted[MESH_AXES];
    predict_axes(t, predicted);
    printf("\n%-8s %8s %8s %16s %16s  %-6s %12s %10s\n", "along", "devices", "calls", "bytes, predicted",
           "measured", "ratio", "ms waited", "most");
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const AxisCost *own = &t->along[axis];
        int64_t calls = 0, bytes = 0;
        for (int kind = 0; kind < COMM_KINDS; kind++) {
            calls += own->counts[kind].calls;
            bytes += own->counts[kind].bytes;
        }
        double sums[2] = {(double)bytes, own->seconds}, most[2] = {(double)calls, own->seconds};
        comm_all_reduce(mesh->world, NULL, sums, sums, 2, TYPE_F64, REDUCE_SUM);
        comm_all_reduce(mesh->world, NULL, most, most, 2, TYPE_F64, REDUCE_MAX);
        printf("%-8s %8d %8.0f %16.0f %16.0f  %-6.9g %12.3f %10.3f\n", mesh_axis_names[axis],
               mesh->size[axis], most[0], predicted[axis], sums[0],
               sums[0] == predicted[axis] ? 1 : sums[0] / predicted[axis], 1e3 * sums[1] / mesh->world->size,
               1e3 * most[1]);
    }
    printf(
        "of the last step: calls of the device that makes most, bytes that all send, waiting on the mean and "
        "at most\n");
}
