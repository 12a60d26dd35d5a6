/* The memory of a device by the number of devices and the stage. */
#include "chapters/07_fsdp/forecast.h"
#include "chapters/07_fsdp/point.h"
#include "chapters/07_fsdp/sweeps.h"
#include "common/draw/memory_plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 4, MOST_SIZES = 16, MOST_POINTS = MOST_SIZES * STAGES };

/* ---- a point ---- */

/* The classes that a formula tells, from the bottom of a bar, and those that are measured alone. */
static const MemoryClass order[MEMORY_CLASSES] = {MEMORY_PARAMETERS, MEMORY_GRADIENTS, MEMORY_OPTIMIZER,
                                                  MEMORY_COMMUNICATION, MEMORY_ACTIVATIONS};
enum { FORMULAS = 3 };
static const CommKind kinds[] = {COMM_ALL_REDUCE, COMM_ALL_GATHER, COMM_REDUCE_SCATTER};
enum { KINDS = COUNT_OF(kinds) };

typedef struct {
    int devices, stage;
    double bytes
        [MEMORY_CLASSES]; /* in that order, on the device that holds most; the last two when all together are most */
    double together;
    double predicted[FORMULAS];
    double sent[KINDS], sent_predicted[KINDS]; /* by all devices in a step */
    double weights;                            /* bytes of all of them, W */
    bool exact; /* each device holds what its formula says, and all send what theirs says */
} Stage;

static Stage look(const Point *p, Comm *comm, const CommCount *moved) {
    const MemoryUse *use = &p->device->memory;
    Forecast f = forecast_of(p->sharded);
    const double own[FORMULAS] = {(double)f.parameters, (double)f.gradients, (double)f.optimizer};
    const double sends[KINDS] = {f.all_reduce, f.all_gather, f.reduce_scatter};
    Stage s = {.devices = comm->size, .stage = (int)p->sharded->config.zero_stage};
    double wrong = 0;
    for (int k = 0; k < MEMORY_CLASSES; k++) {
        int64_t bytes = k < FORMULAS ? use->peak[order[k]] : use->at_joint_peak[order[k]];
        if (k < FORMULAS) wrong = fmax(wrong, fabs((double)bytes - own[k]));
        if (k < FORMULAS) s.predicted[k] = comm_most(comm, own[k]);
        s.bytes[k] = comm_most(comm, (double)bytes);
    }
    s.together = comm_most(comm, (double)use->joint_peak);
    for (int k = 0; k < KINDS; k++) {
        s.sent[k] = comm_sum(comm, (double)moved[kinds[k]].bytes);
        s.sent_predicted[k] = sends[k];
        wrong = fmax(wrong, fabs(s.sent[k] - sends[k]));
    }
    for (int u = 0; u < fsdp_units(p->sharded->fsdp); u++)
        s.weights += (double)(fsdp_unit(p->sharded->fsdp, u).shard * comm->size * element_bytes(TYPE_REAL));
    s.exact = comm_most(comm, wrong) == 0;
    return s;
}

/* In the second step: the first one learns in which order units are needed. */
static Stage measure(const Config *config, Comm *comm, const Dataset *data, int stage) {
    Config c = *config;
    c.zero_stage = stage;
    Point p = point_open(&c, comm, data);
    point_step(&p);
    CommCount before[COMM_KINDS], moved[COMM_KINDS];
    memcpy(before, comm->counts, sizeof before);
    point_step(&p);
    comm_counts_since(comm, before, moved);
    Stage s = look(&p, comm, moved);
    point_close(&p);
    return s;
}

/* ---- tables and the picture ---- */

static double ratio(double measured, double predicted) {
    return measured == predicted ? 1 : measured / predicted;
}

static void print_memory(const Stage *all, int count) {
    printf("\n---- bytes on a device, and how many times the formula's they are ----\n");
    printf("%7s %5s | %12s %8s | %12s %8s | %12s %8s | %13s %12s %12s\n", "devices", "stage", "parameters",
           "ratio", "gradients", "ratio", "optimizer", "ratio", "communication", "activations", "together");
    for (int i = 0; i < count; i++) {
        const Stage *s = &all[i];
        printf("%7d %5d |", s->devices, s->stage);
        for (int k = 0; k < FORMULAS; k++)
            printf(" %12.0f %8.6f |", s->bytes[k], ratio(s->bytes[k], s->predicted[k]));
        printf(" %13.0f %12.0f %12.0f\n", s->bytes[FORMULAS], s->bytes[FORMULAS + 1], s->together);
    }
}

static void print_sent(const Stage *all, int count) {
    printf("\n---- bytes that all devices send in a step ----\n");
    printf("%7s %5s | %12s %12s %14s | %12s %12s %8s | %16s\n", "devices", "stage", "all-reduce",
           "all-gather", "reduce-scatter", "together", "predicted", "ratio", "times (n-1) W");
    for (int i = 0; i < count; i++) {
        const Stage *s = &all[i];
        double sent = 0, predicted = 0;
        for (int k = 0; k < KINDS; k++) sent += s->sent[k], predicted += s->sent_predicted[k];
        printf("%7d %5d | %12.0f %12.0f %14.0f | %12.0f %12.0f %8.6f | ", s->devices, s->stage, s->sent[0],
               s->sent[1], s->sent[2], sent, predicted, ratio(sent, predicted));
        if (s->devices > 1)
            printf("%16.3f\n", sent / (s->devices - 1) / s->weights);
        else
            printf("%16s\n", "");
    }
}

/* Bars in groups of four; the formula's marks at the upper end of each class that has one. */
static void draw_stages(const Run *run, const Stage *all, int count) {
    double x[MOST_POINTS], top[MEMORY_CLASSES][MOST_POINTS], marks_x[FORMULAS * MOST_POINTS],
        marks_y[FORMULAS * MOST_POINTS];
    static const char *const stage_names[STAGES] = {"0", "1", "2", "3"};
    PlotMark marks[MOST_POINTS + MOST_SIZES];
    char *names[MOST_SIZES];
    int mark_count = 0, groups = 0;
    for (int i = 0; i < count; i++) {
        double sum = 0, formula = 0;
        int place = i + i / STAGES; /* a gap behind each four */
        x[i] = place;
        for (int k = 0; k < MEMORY_CLASSES; k++) top[k][i] = sum += 1e-6 * all[i].bytes[k];
        for (int k = 0; k < FORMULAS; k++) {
            marks_x[i * FORMULAS + k] = x[i];
            marks_y[i * FORMULAS + k] = formula += 1e-6 * all[i].predicted[k];
        }
        marks[mark_count++] = (PlotMark){x[i], 0, stage_names[all[i].stage]};
        if (i % STAGES) continue;
        names[groups] = xprintf("%d device%s", all[i].devices, all[i].devices > 1 ? "s" : "");
        marks[mark_count++] = (PlotMark){x[i] + (STAGES - 1) / 2.0, 1, names[groups++]};
    }
    PlotSeries series[MEMORY_CLASSES + 1];
    for (int k = 0; k < MEMORY_CLASSES; k++) {
        int from_top = MEMORY_CLASSES - 1 - k;
        series[k] = (PlotSeries){
            memory_class_names[order[from_top]], x, top[from_top], count, PLOT_BARS, from_top + 1, NULL};
    }
    series[MEMORY_CLASSES] =
        (PlotSeries){"by formula", marks_x, marks_y, FORMULAS * count, PLOT_POINTS, 7, NULL};
    point_draw(run,
               &(Plot){.title = "What a device holds, by devices and stage",
                       .x_label = "stage, and devices that share the batch",
                       .y_label = "MB on a device",
                       .series = series,
                       .series_count = COUNT_OF(series),
                       .marks = marks,
                       .mark_count = mark_count},
               "stages.png");
    for (int g = 0; g < groups; g++) free(names[g]);
}

/* ---- over the time of a step ---- */

static const struct {
    int stage, prefetch;
    const char *title, *picture;
} ways[] = {{0, 0, "Stage 0: all of it is there all the time", "memory-stage-0.png"},
            {3, 0, "Stage 3, --prefetch 0: a unit is gathered when it is wanted", "memory-prefetch-0.png"},
            {3, 1, "Stage 3, --prefetch 1: and the next one beside it", "memory-prefetch-1.png"}};

/* A second step on all devices. Each picture has the height of stage 0's, which is the first. */
static void draw_time(const Run *run, const Config *config) {
    double most = NAN;
    for (int w = 0; w < COUNT_OF(ways); w++) {
        Config c = *config;
        c.zero_stage = ways[w].stage;
        c.prefetch = ways[w].prefetch;
        Comm *comm = comm_split(run->job.world, 0, run->job.world->rank, "data");
        Point p = point_open(&c, comm, run->data);
        MemoryPlot *plot = memory_plot_new(p.device);
        point_step(&p);
        memory_plot_begin(plot);
        point_step(&p);
        memory_plot_hold(plot);
        if (w == 0) most = memory_plot_most(plot);
        char *label = xprintf("most in stage 0: %.1f MB", 1e-6 * most);
        char *path = xprintf("%s/%s", c.output_dir, ways[w].picture);
        if (run_speaks(run)) memory_plot_draw(plot, ways[w].title, most, label, path);
        free(path);
        free(label);
        memory_plot_delete(plot);
        point_close(&p);
        comm_close(comm);
    }
}

/* ---- all of it ---- */

static json_t *stage_json(const Stage *s) {
    json_t *measured = json_object(), *predicted = json_object();
    for (int k = 0; k < MEMORY_CLASSES; k++) {
        json_object_set_new(measured, memory_class_names[order[k]], json_integer((json_int_t)s->bytes[k]));
        if (k < FORMULAS)
            json_object_set_new(predicted, memory_class_names[order[k]],
                                json_integer((json_int_t)s->predicted[k]));
    }
    json_t *sent = json_object();
    for (int k = 0; k < KINDS; k++)
        json_object_set_new(sent, comm_kind_names[kinds[k]], json_integer((json_int_t)s->sent[k]));
    return json_pack("{s:i, s:i, s:o, s:o, s:I, s:o, s:b}", "devices", s->devices, "stage", s->stage,
                     "measured", measured, "predicted", predicted, "joint_peak", (json_int_t)s->together,
                     "sent", sent, "exact", s->exact);
}

json_t *sweep_memory(const Run *run, const Config *config) {
    Comm *world = run->job.world;
    Stage all[MOST_POINTS] = {0};
    int count = 0;
    bool exact = true;
    for (int n = 1; n <= world->size && count < MOST_POINTS; n++) {
        if (n & (n - 1) && n != world->size) continue;
        Comm *comm = comm_split(world, world->rank < n ? 0 : -1, world->rank, "data"); /* the others wait */
        for (int stage = 0; stage < STAGES && comm; stage++)
            exact &= (all[count + stage] = measure(config, comm, run->data, stage)).exact;
        count += STAGES;
        if (comm) comm_close(comm);
        comm_barrier(world, NULL);
    }
    json_t *list = json_array();
    if (run_speaks(run)) {
        print_memory(all, count);
        print_sent(all, count);
        printf("W: the bytes of all weights. Without the slots of 1 MB through which these processes "
               "send.\n%s\n",
               exact ? "every device holds and sends what the formulas say, to the byte"
                     : "a device does not hold or send what its formula says");
        for (int i = 0; i < count; i++) json_array_append_new(list, stage_json(&all[i]));
        draw_stages(run, all, count);
    }
    draw_time(run, config);
    return list;
}
