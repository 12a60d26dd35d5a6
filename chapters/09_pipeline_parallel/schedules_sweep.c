#include "chapters/09_pipeline_parallel/schedules_sweep.h"

#include "chapters/05_data_parallel/scaling.h"
#include "chapters/09_pipeline_parallel/gantt.h"
#include "chapters/09_pipeline_parallel/preview.h"
#include "chapters/09_pipeline_parallel/schedule_point.h"
#include "common/draw/pictures.h"
#include "common/draw/plots.h"
#include "common/run/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { MOST_COUNTS = 5 }; /* numbers of micro-batches */

typedef struct {
    const Config *config;
    const DeviceModel *model;
    int stages;
    int64_t counts[MOST_COUNTS];
    int count;
    SchedulePoint points[MOST_COUNTS][SCHEDULE_KINDS];
} Sweep;

/* In ascending order, each once. */
static void choose_counts(Sweep *s) {
    const int64_t p = s->stages, wanted[MOST_COUNTS] = {1, p / 2, p, 2 * p, 4 * p};
    for (int i = 0; i < MOST_COUNTS; i++)
        if (wanted[i] > (s->count ? s->counts[s->count - 1] : 0)) s->counts[s->count++] = wanted[i];
}

/* Of the step, for each micro-batch: seconds. */
static double each(const SchedulePoint *p) { return p->step / (double)p->m; }

/* From the first stage to the second one. */
static double message_seconds(const MessageModel *m) {
    MessageCost cost = message_model_cost(m, 0, 1);
    return cost.transfer + cost.latency;
}

/* ---- the table ---- */

static void print_head(const Sweep *s) {
    printf("\n---- schedules on %d stages, micro-batches of %" PRId64 " window%s, by the clock of %s ----\n",
           s->stages, s->config->micro_batch, s->config->micro_batch > 1 ? "s" : "", s->model->name);
    printf("%-5s %-12s | %-28s | %-15s | %-12s | %s\n", "", "", "       bubble of all stages", "   in flight",
           "activations", "  a step");
    printf("%5s %-12s | %8s %9s %9s | %7s %7s | %12s | %9s %12s\n", "m", "schedule", "formula", "plan",
           "measured", "formula", "counted", "MB", "ms", "ms / m");
}

static void print_point(const SchedulePoint *p) {
    if (!p->schedule) {
        printf("%5" PRId64 " %-12s | the stages do not divide the micro-batches\n", p->m,
               schedule_names[p->kind]);
        return;
    }
    printf("%5" PRId64 " %-12s | %8.4f %9.6f %9.6f | %7" PRId64 " %7" PRId64 " | %12.3f | %9.4f %12.5f\n",
           p->m, schedule_names[p->kind], p->formula, p->was.by_costs.bubble_step, p->was.times.bubble_step,
           p->in_flight_formula, p->in_flight, 1e-6 * p->activations, 1e3 * p->step, 1e3 * each(p));
}

/* What the stages' actions cost, by a schedule that does B and W apart. */
static void print_costs(const SchedulePoint *p) {
    const Schedule *s = p->schedule;
    printf("what the stages take for a micro-batch, ms:\n%7s %9s %9s %9s\n", "stage", "F", "B", "W");
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        const double *seconds = p->was.costs[chunk].seconds;
        printf("%7d %9.5f %9.5f %9.5f\n", s->stage_of[chunk], 1e3 * seconds[ACTION_FORWARD],
               1e3 * seconds[ACTION_BACKWARD], 1e3 * seconds[ACTION_WEIGHTS]);
    }
    if (s->stages == 1) return;
    printf("and a message of %.0f bytes %.5f\n", p->messages.bytes, 1e3 * message_seconds(&p->messages));
}

static void print_agreement(const Sweep *s) {
    int all = 0, explained = 0, formula = 0, flight = 0;
    for (int i = 0; i < s->count; i++)
        for (int kind = 0; kind < SCHEDULE_KINDS; kind++) {
            const SchedulePoint *p = &s->points[i][kind];
            if (!p->schedule) continue;
            all++;
            explained += p->explained;
            formula += fabs(p->was.times.bubble_step - p->formula) < 1e-6;
            flight += p->in_flight == p->in_flight_formula;
        }
    printf("of %d steps, in %d all waiting is for messages that take what the links say, to 1e-5; %d have "
           "the bubble of "
           "the formula,\nfor which all stages and F, B and W cost the same; %d have as many micro-batches "
           "in flight as "
           "the formula says\n",
           all, explained, formula, flight);
}

/* ---- who wins ---- */

/* Of those before `end`. */
static const SchedulePoint *quickest(const SchedulePoint *points, ScheduleKind end) {
    const SchedulePoint *best = &points[SCHEDULE_1F1B]; /* there is always one */
    for (int kind = 0; kind < (int)end; kind++)
        if (points[kind].schedule && points[kind].step < best->step * (1 - 1e-6)) best = &points[kind];
    return best;
}

/* a beside b */
static void print_beside(const SchedulePoint *a, const SchedulePoint *b) {
    printf("%.3f of the time of %s, and %.2f of its activations", a->step / b->step, schedule_names[b->kind],
           a->activations / b->activations);
}

static void print_winners(const Sweep *s) {
    printf("\n---- who wins ----\n");
    const SchedulePoint *before = NULL;
    for (int i = 0; i < s->count; i++) {
        const SchedulePoint *best = quickest(s->points[i], SCHEDULE_KINDS);
        printf("m = %-3" PRId64 " %s: ", s->counts[i], schedule_names[best->kind]);
        print_beside(best, &s->points[i][SCHEDULE_1F1B]);
        printf("%s\n", before && before->kind != best->kind ? " <- another than before" : "");
        before = best;
    }
    int losses = 0;
    for (int i = 0; i < s->count; i++)
        for (ScheduleKind kind = SCHEDULE_ZB_H1; kind <= SCHEDULE_ZB_V; kind++) {
            const SchedulePoint *p = &s->points[i][kind], *best = quickest(s->points[i], SCHEDULE_ZB_H1);
            if (p->step < best->step) continue;
            printf("%s does not pay with m = %" PRId64 ": ", schedule_names[kind], p->m);
            print_beside(p, best);
            printf("\n");
            losses++;
        }
    if (losses == 0) printf("zb-h1 and zb-v pay with each of these numbers of micro-batches\n");
}

static double mean_forward(const SchedulePoint *p) {
    double sum = 0;
    for (int chunk = 0; chunk < p->schedule->chunks; chunk++)
        sum += p->was.costs[chunk].seconds[ACTION_FORWARD];
    return sum / p->schedule->stages;
}

static ScheduleKind quickest_planned(const SchedulePoint *points, double slower) {
    ScheduleKind best = SCHEDULE_KINDS;
    double least = INFINITY;
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        if (!points[kind].schedule) continue;
        double seconds = schedule_point_seconds(&points[kind], slower);
        if (seconds >= least * (1 - 1e-6)) continue;
        least = seconds;
        best = kind;
    }
    return best;
}

/* By the plans, with the costs that were measured: which schedule would win if messages took longer, or less? */
static void print_flips(const SchedulePoint *points) {
    enum { STEPS = 300 };
    static const double STEP = 1.03, LONGEST = 30; /* in forwards of a stage */
    if (points[0].schedule->stages == 1) return;
    double message = message_seconds(&points[0].messages), forward = mean_forward(&points[SCHEDULE_ZB_H1]);
    if (!(message > 0 && forward > 0)) return;
    printf("with m = %" PRId64
           ", by the plans, if a message took not %.3g of a stage's forward but another time: ",
           points[0].m, message / forward);
    ScheduleKind before = quickest_planned(points, 0);
    for (int step = STEPS; step >= 0; step--) {
        double forwards = LONGEST * pow(STEP, -step);
        ScheduleKind best = quickest_planned(points, forwards * forward / message);
        if (best != before) printf("%s up to %.2g, ", schedule_names[before], forwards);
        before = best;
    }
    printf("%s from there on\n", schedule_names[before]);
}

/* ---- pictures ---- */

/* What the step takes for each micro-batch, and below it what the fullest stage holds. */
static void draw_counts(const Sweep *s) {
    PlotMark marks[MOST_COUNTS];
    char numbers[MOST_COUNTS][24];
    double x[MOST_COUNTS], ms[SCHEDULE_KINDS][MOST_COUNTS], mb[SCHEDULE_KINDS][MOST_COUNTS];
    PlotSeries upper[SCHEDULE_KINDS], lower[SCHEDULE_KINDS];
    for (int kind = 0; kind < SCHEDULE_KINDS; kind++) {
        for (int i = 0; i < s->count; i++) {
            const SchedulePoint *p = &s->points[i][kind];
            x[i] = i; /* each twice the one before, or nearly so */
            ms[kind][i] = p->schedule ? 1e3 * each(p) : NAN;
            mb[kind][i] = p->schedule ? 1e-6 * p->activations : NAN;
        }
        upper[kind] = (PlotSeries){schedule_names[kind], x, ms[kind], s->count, PLOT_LINE_POINTS, 0, NULL};
        lower[kind] = (PlotSeries){NULL, x, mb[kind], s->count, PLOT_LINE_POINTS, 0, NULL};
    }
    for (int i = 0; i < s->count; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%" PRId64, s->counts[i]);
        marks[i] = (PlotMark){x[i], 0, numbers[i]};
    }
    char *title = xprintf("Schedules on %d stages, by the clock of %s", s->stages, s->model->name),
         *path = xprintf("%s/micro-batches.png", s->config->output_dir);
    Plot below = {.x_label = "micro-batches of a step",
                  .y_label = "MB of activations",
                  .y_from_zero = true,
                  .series = lower,
                  .series_count = SCHEDULE_KINDS,
                  .marks = marks,
                  .mark_count = s->count};
    Plot plot = {.title = title,
                 .y_label = "ms of a step for each micro-batch",
                 .log_y = true,
                 .series = upper,
                 .series_count = SCHEDULE_KINDS,
                 .marks = marks,
                 .mark_count = s->count,
                 .below = &below};
    plot_draw(&plot, path);
    free(title);
    free(path);
}

/* naive would make all others small */
static void draw_gantt(const Sweep *s, const SchedulePoint *points) {
    GanttPart parts[SCHEDULE_KINDS];
    char *titles[SCHEDULE_KINDS], *path = xprintf("%s/schedules.png", s->config->output_dir);
    bool micro = points[SCHEDULE_GPIPE].was.times.seconds < 1e-3;
    double unit = micro ? 1e-6 : 1e-3;
    int count = 0;
    for (int kind = SCHEDULE_GPIPE; kind < SCHEDULE_KINDS; kind++) {
        const SchedulePoint *p = &points[kind];
        if (!p->schedule) continue;
        titles[count] =
            xprintf("%s: %.4g %s, bubble %.3f (by formula %.3f)", schedule_names[kind],
                    p->was.times.seconds / unit, micro ? "µs" : "ms", p->was.times.bubble_step, p->formula);
        parts[count] = (GanttPart){titles[count], p->schedule, &p->was.times};
        count++;
    }
    char *title = xprintf("%" PRId64 " micro-batches on %d stages, by the clock of %s", points[0].m,
                          s->stages, s->model->name);
    gantt_draw(&(Gantt){title, parts, count, unit, micro ? "microseconds" : "milliseconds"}, path);
    for (int i = 0; i < count; i++) free(titles[i]);
    free(title);
    free(path);
}

/* ---- all of it ---- */

static json_t *point_json(const SchedulePoint *p) {
    return json_pack("{s:I, s:s, s:f, s:f, s:f, s:b, s:I, s:I, s:f, s:f}", "microbatches", (json_int_t)p->m,
                     "schedule", schedule_names[p->kind], "bubble_formula", p->formula, "bubble_plan",
                     p->was.by_costs.bubble_step, "bubble", p->was.times.bubble_step, "explained",
                     p->explained, "in_flight_formula", (json_int_t)p->in_flight_formula, "in_flight",
                     (json_int_t)p->in_flight, "activations", p->activations, "step_s", p->step);
}

/* On the mesh of the config: what the report says of it. */
static json_t *sweep(const Config *config, Comm *world, const Dataset *data) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){config->data_parallel, (int)config->pipeline_parallel, 1});
    Sweep s = {.config = config, .model = device_model(config->device_model), .stages = mesh.size[MESH_PIPE]};
    choose_counts(&s);
    print_head(&s);
    json_t *list = json_array();
    for (int i = 0; i < s.count; i++)
        for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
            SchedulePoint *p = &s.points[i][kind];
            *p = schedule_point(config, &mesh, data, kind, s.counts[i]);
            print_point(p);
            if (p->schedule) json_array_append_new(list, point_json(p));
        }
    const SchedulePoint *some = s.points[s.count > 1 ? s.count - 2 : 0]; /* twice as many as stages */
    print_costs(&some[SCHEDULE_ZB_H1]);
    print_agreement(&s);
    print_winners(&s);
    print_flips(some);
    if (world->rank == 0) {
        draw_counts(&s);
        draw_gantt(&s, some);
    }
    for (int i = 0; i < s.count; i++)
        for (int kind = 0; kind < SCHEDULE_KINDS; kind++) schedule_point_free(&s.points[i][kind]);
    mesh_close(&mesh);
    return list;
}

/* All micro-batches of all schedules are done by this machine: of a size with which that is a few seconds. */
static void fit_windows(const Run *run, Config *c) {
    const double STEPS = 10; /* scaling_windows fits one */
    int64_t p = c->pipeline_parallel, asked = c->micro_batch, microbatches = SCHEDULE_KINDS * (1 + 8 * p);
    double flops = run->flops_per_token * (double)(c->model.T * microbatches) / STEPS;
    c->micro_batch = scaling_windows(asked, c->data_parallel, flops);
    if (c->micro_batch < asked)
        printf("fitted to a minute: micro-batches of %" PRId64 " window%s instead of %" PRId64 "\n",
               c->micro_batch, c->micro_batch > 1 ? "s" : "", asked);
}

static json_t *measured_schedules(const Run *run) {
    Config c = run->config;
    Comm *world = run->job.world;
    if (c.pipeline_parallel == 1)
        comm_refuse(world, "--pipeline-parallel-size 2, on as many devices",
                    xstrdup("--sweep schedules compares pipelines, and there is one stage"));
    scaling_check_devices(world, NULL);
    fit_windows(run, &c);
    return sweep(&c, world, run->data);
}

static json_t *planned_schedules(const Config *c) {
    return preview_run((int)c->pipeline_parallel, c->virtual_stages ? (int)c->virtual_stages : 2,
                       c->num_microbatches, c->schedule_file, c->output_dir);
}

void schedules_run(const PpProgram *options, const Run *run) {
    json_t *report = report_new(run->chapter, run->argc, run->argv), *result = NULL;
    run_take_folder(run);
    if (options->sweep == PP_SWEEP_SCHEDULES)
        result = measured_schedules(run);
    else if (run_speaks(run))
        result = planned_schedules(&run->config);
    json_object_set_new(report, "sweep", result);
    report_set_integer(report, "devices", run->job.world->size);
    if (run_speaks(run)) {
        report_write(report, run->config.output_dir);
        pictures_print_place(run->config.output_dir, NULL, "schedules.png");
    }
    json_decref(report);
}
