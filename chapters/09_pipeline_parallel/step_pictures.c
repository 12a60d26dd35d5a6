#include "chapters/09_pipeline_parallel/step_pictures.h"

#include "chapters/09_pipeline_parallel/gantt.h"
#include "chapters/09_pipeline_parallel/in_flight.h"
#include "common/draw/memory_plot.h"
#include "common/draw/steps.h"
#include "common/model/activation_bytes.h"

#include <inttypes.h>
#include <stdlib.h>

enum { SPANS = 1200 }; /* of a step, about a pixel each */

struct StepPictures {
    const Staged *staged;
    MemoryPlot *memory;
};

StepPictures *step_pictures_new(const Staged *s) {
    StepPictures *p = xcalloc(1, sizeof *p);
    *p = (StepPictures){s, memory_plot_new(s->own->device)};
    return p;
}

void step_pictures_delete(StepPictures *p) {
    memory_plot_delete(p->memory);
    free(p);
}

void step_pictures_begin(StepPictures *p) { memory_plot_begin(p->memory); }
void step_pictures_end(StepPictures *p) { memory_plot_hold(p->memory); }

/* ---- words ---- */

typedef struct {
    double seconds;
    const char *name, *sign;
} Unit;

static Unit unit_of(const Measured *m) {
    return m->times.seconds < 1e-3 ? (Unit){1e-6, "microseconds of the step", "µs"}
                                   : (Unit){1e-3, "milliseconds of the step", "ms"};
}

/* "1f1b on 4 stages, 8 micro-batches, by the clock of h100" */
static char *title_of(const StepPictures *p) {
    const Schedule *s = p->staged->plan->schedule;
    const DeviceModel *model = message_model_of(p->staged).model;
    return xprintf("%s on %d stages, %" PRId64 " micro-batches, by the clock of %s", s->name, s->stages,
                   s->microbatches, model ? model->name : "this machine");
}

static char *file_of(const StepPictures *p, const char *name) {
    return xprintf("%s/%s", p->staged->own->config.output_dir, name);
}

/* ---- when ---- */

static void draw_actions(const StepPictures *p, const Measured *m) {
    const Schedule *s = p->staged->plan->schedule;
    Unit unit = unit_of(m);
    const PlanTimes *times[] = {&m->times, &m->by_costs};
    static const char *const names[] = {"measured", "by the plan, with the mean costs of its actions"};
    GanttPart parts[COUNT_OF(times)];
    char *titles[COUNT_OF(times)];
    for (int i = 0; i < COUNT_OF(times); i++) {
        titles[i] = xprintf("%s: %.4g %s, bubble %.3f", names[i], times[i]->seconds / unit.seconds, unit.sign,
                            times[i]->bubble_step);
        parts[i] = (GanttPart){titles[i], s, times[i]};
    }
    char *path = file_of(p, "pipeline.png"), *title = title_of(p);
    gantt_draw(&(Gantt){title, parts, COUNT_OF(parts), unit.seconds, unit.name}, path);
    for (int i = 0; i < COUNT_OF(titles); i++) free(titles[i]);
    free(title);
    free(path);
}

/* ---- how much ---- */

/* What the blocks of a stage keep for the micro-batches that the plan has in flight there, if its chunks have as many blocks
 * each, and what came out of them, which is kept until its gradient comes. */
static double bytes_kept(const Staged *s, int stage) {
    const Config *c = &s->own->config;
    const Schedule *schedule = s->plan->schedule;
    int t = s->mesh->size[MESH_TENSOR];
    ActivationCase one = {.windows = c->micro_batch,
                          .microbatches = c->num_microbatches,
                          .tensor = t > 1 ? t : 0, /* the next chapter's layers */
                          .sequence_parallel = c->sequence_parallel,
                          .gather_again = c->gather_again,
                          .overlap = c->overlap_tensor > 1,
                          .recompute = c->recompute};
    ActivationBytes bytes = activation_bytes(&c->model, &one, s->own->device);
    double blocks = 0, chunks = 0;
    for (int chunk = 0; chunk < schedule->chunks; chunk++) {
        if (schedule->stage_of[chunk] != stage) continue;
        blocks += (double)(s->parts[chunk].to - s->parts[chunk].from);
        chunks++;
    }
    return (double)bytes.fixed + (double)s->plan->in_flight[stage] *
                                     (blocks / chunks * (double)bytes.kept + message_model_of(s).bytes);
}

/* mb (stages, SPANS) */
static void draw_bytes(const StepPictures *p, const Measured *m, const double *mb) {
    int stages = p->staged->plan->schedule->stages;
    Unit unit = unit_of(m);
    StepsRow *rows = xcalloc((size_t)stages, sizeof *rows);
    char **words = xmalloc(2 * (size_t)stages * sizeof *words);
    double x[SPANS];
    for (int i = 0; i < SPANS; i++) x[i] = m->times.seconds / unit.seconds * i / (SPANS - 1);
    for (int stage = 0; stage < stages; stage++) {
        double level = 1e-6 * bytes_kept(p->staged, stage);
        words[2 * stage] = xprintf("stage %d", stage);
        words[2 * stage + 1] = xprintf("%.3g by formula", level);
        rows[stage] =
            (StepsRow){words[2 * stage], {{x, mb + stage * SPANS, SPANS}}, level, words[2 * stage + 1]};
    }
    char *path = file_of(p, "activations.png"), *title = title_of(p);
    steps_draw(
        &(Steps){
            .title = title,
            .x_label = unit.name,
            .curve_labels = {"MB of activations; the line: what is kept for the micro-batches in flight"},
            .longest = m->times.seconds / unit.seconds,
            .rows = rows,
            .count = stages},
        path);
    for (int i = 0; i < 2 * stages; i++) free(words[i]);
    free(words);
    free(rows);
    free(title);
    free(path);
}

void step_pictures_draw(StepPictures *p, const Measured *m, ScheduleKind kind) {
    const Staged *s = p->staged;
    double own[SPANS], *all = xmalloc((size_t)s->plan->schedule->stages * sizeof own);
    memory_plot_class(p->memory, MEMORY_ACTIVATIONS, m->times.begin, m->times.begin + m->times.seconds, SPANS,
                      own);
    for (int i = 0; i < SPANS; i++) own[i] *= 1e-6;
    comm_all_gather(s->mesh->axis[MESH_PIPE], NULL, own, all, SPANS, TYPE_F64);
    if (s->mesh->world->rank == 0) {
        Unit unit = unit_of(m);
        char *path = file_of(p, "in-flight.png"), *title = title_of(p);
        draw_actions(p, m);
        in_flight_draw(s->plan, kind, &m->times, title, unit.seconds, unit.name, path);
        draw_bytes(p, m, all);
        free(title);
        free(path);
    }
    free(all);
}
