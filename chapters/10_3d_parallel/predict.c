#include "chapters/10_3d_parallel/predict.h"

#include "chapters/09_pipeline_parallel/measured.h"
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "chapters/09_pipeline_parallel/stages.h"
#include "chapters/10_3d_parallel/trainer.h"
#include "common/comm/clock.h"
#include "common/run/dry_run.h"

#include <math.h>
#include <stdlib.h>

/* ---- a stage, alone ---- */

/* What a dry step has shown of its stage. */
typedef struct {
    ChunkCost *costs; /* (chunks): its own are set */
    double
        around; /* seconds before its first action, and behind its last one until its gradient is complete */
    double update; /* ... and from there on, where all stages wait for one another's norm */
    int64_t slots; /* bytes that it holds for the calls of its groups */
} Shown;
static Shown *shown; /* a DryProgram has no context */

/* The means over the micro-batches. */
static void read_costs(const Pipeline *pipeline, int chunks, ChunkCost *costs) {
    int64_t count;
    const ActionEvent *events = pipeline_events(pipeline, &count);
    ChunkCost *counts = xcalloc((size_t)chunks, sizeof *counts);
    for (int64_t i = 0; i < count; i++) {
        const Action *a = &events[i].action;
        costs[a->chunk].seconds[a->kind] += events[i].end - events[i].begin;
        counts[a->chunk].seconds[a->kind]++;
    }
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int kind = 0; kind < ACTION_KINDS; kind++)
            if (counts[chunk].seconds[kind] > 0) costs[chunk].seconds[kind] /= counts[chunk].seconds[kind];
    free(counts);
}

static double show_stage(const Config *c, Comm *world, Device *device, const Dataset *data) {
    Plan *plan = pp_plan(c);
    Mesh mesh = trainer_mesh(c, world);
    Trainer *t = trainer_new(c, &mesh, plan, device, data);
    double seconds = staged_run_dry(t->staged), began = queue_now(&device->queue);
    staged_gradient(t->staged); /* once more, for what ends before the update */
    double gradient = queue_now(&device->queue) - began;
    int64_t count;
    const ActionEvent *events = pipeline_events(t->staged->pipeline, &count);
    shown->around = gradient - (events[count - 1].end - events[0].begin);
    shown->update = seconds - gradient;
    shown->slots = world->memory_of_all;
    read_costs(t->staged->pipeline, plan->schedule->chunks, shown->costs);
    trainer_delete(t);
    mesh_close(&mesh);
    pp_plan_delete(plan);
    return seconds;
}

/* ---- all stages ---- */

typedef struct {
    Config config; /* with no more micro-batches than show what one costs, and the most that is held */
    const Schedule *schedule;
    ModelPart *parts; /* (chunks) */
    Shown *stages;
    int64_t bytes, kept; /* as Prediction has them */
} Stages;

static int chunk_of(const Schedule *s, int stage, int k) {
    for (int chunk = 0; chunk < s->chunks; chunk++)
        if (s->stage_of[chunk] == stage && k-- == 0) return chunk;
    return -1;
}

static bool same_part(const ModelPart *a, const ModelPart *b) {
    return a->to - a->from == b->to - b->from && a->embedding == b->embedding && a->head == b->head;
}

/* A stage before this one that has as many blocks, chunk by chunk; -1: there is none. */
static int twin_of(const Stages *all, int stage) {
    const Schedule *s = all->schedule;
    for (int other = 1; other < stage; other++) {
        int k = 0, chunk;
        while ((chunk = chunk_of(s, stage, k)) >= 0 &&
               same_part(&all->parts[chunk], &all->parts[chunk_of(s, other, k)]))
            k++;
        if (chunk < 0) return other;
    }
    return -1;
}

static void show(Stages *all, int stage, const Device *like, const Dataset *data) {
    const Schedule *s = all->schedule;
    const Config *c = &all->config;
    Shown *own = &all->stages[stage];
    own->costs = xcalloc((size_t)s->chunks, sizeof *own->costs);
    int twin = twin_of(all, stage), chunk;
    if (twin >= 0) {
        own->around = all->stages[twin].around;
        own->update = all->stages[twin].update;
        for (int k = 0; (chunk = chunk_of(s, stage, k)) >= 0; k++)
            own->costs[chunk] = all->stages[twin].costs[chunk_of(s, twin, k)];
        return;
    }
    shown = own;
    int devices = c->data_parallel * (int)(c->pipeline_parallel * c->tensor_parallel);
    DryRun run = dry_run(show_stage, c, stage * (int)c->tensor_parallel, devices, like, data);
    all->bytes = max64(all->bytes, run.memory.joint_peak);
    all->kept = max64(all->kept, run.memory.joint_peak - own->slots);
}

/* ---- together ---- */

static Config with_microbatches(const Config *config, int64_t m) {
    Config c = *config;
    c.num_microbatches = m;
    c.global_batch = m * c.micro_batch * c.data_parallel;
    return c;
}

/* Seconds of a step of m micro-batches; *idle and *busy: those of all stages together. */
static double step_of(const Config *config, const Stages *all, int64_t m, double *idle, double *busy) {
    Config c = with_microbatches(config, m);
    Plan *plan = pp_plan(&c);
    const Schedule *s = plan->schedule;
    ChunkCost *costs = xcalloc((size_t)s->chunks, sizeof *costs);
    for (int chunk = 0; chunk < s->chunks; chunk++)
        costs[chunk] = all->stages[s->stage_of[chunk]].costs[chunk];
    /* of the first device along `data` and `tensor` */
    Mesh mesh = {.size = {c.data_parallel, (int)c.pipeline_parallel, (int)c.tensor_parallel}};
    int64_t sent = c.micro_batch * c.model.T * c.model.C / (c.sequence_parallel ? c.tensor_parallel : 1);
    MessageModel messages = {&mesh, device_model(c.device_model),
                             (double)(sent * element_bytes(model_type(&c.model))), 1};
    PlanTimes times =
        plan_times(plan, &(PlanCosts){.chunks = costs, .message = message_model_cost, .context = &messages});
    double gradient = 0, update = 0;
    *busy = 0;
    for (int stage = 0; stage < s->stages; stage++) {
        const Shown *own = &all->stages[stage];
        gradient = fmax(gradient, times.span[stage].end - times.begin + own->around);
        update = fmax(update, own->update);
        *busy += times.busy[stage];
    }
    *idle = s->stages * times.seconds - *busy;
    plan_times_free(&times, plan);
    pp_plan_delete(plan);
    free(costs);
    return gradient + update;
}

Prediction predict(const Config *config, const Device *like, const Dataset *data) {
    int64_t m = config->num_microbatches, p = config->pipeline_parallel;
    Stages all = {.config = with_microbatches(config, min64(m, 2 * p))};
    all.config.max_steps = 2;
    all.config.stop_at_step = all.config.sample_interval = 0;
    all.config.eval_windows = config->micro_batch * config->data_parallel;
    Plan *plan = pp_plan(&all.config);
    all.schedule = plan->schedule;
    all.parts = xcalloc((size_t)all.schedule->chunks, sizeof *all.parts);
    all.stages = xcalloc((size_t)p, sizeof *all.stages);
    stages_cut(&config->model, all.schedule, all.parts);
    for (int stage = 0; stage < p; stage++) show(&all, stage, like, data);

    /* from 4 p micro-batches on each round of p takes what the one before took */
    Prediction result;
    double idle, busy, most_idle, more_busy;
    if (m <= 4 * p) {
        result.seconds = step_of(config, &all, m, &idle, &busy);
    } else {
        double three = step_of(config, &all, 3 * p, &idle, &busy),
               four = step_of(config, &all, 4 * p, &most_idle, &more_busy);
        double rounds = (double)(m - 4 * p) / (double)p;
        result.seconds = four + rounds * (four - three);
        idle = most_idle + rounds * (most_idle - idle);
        busy = more_busy + rounds * (more_busy - busy);
    }
    result.bubble = idle / busy;
    int64_t rows = (m - all.config.num_microbatches) * config->micro_batch; /* of ids and targets */
    int64_t more = 2 * rows * config->model.T * element_bytes(TYPE_I32);
    result.bytes = all.bytes + more;
    result.kept = all.kept + more;
    for (int stage = 0; stage < p; stage++) free(all.stages[stage].costs);
    free(all.stages);
    free(all.parts);
    pp_plan_delete(plan);
    return result;
}
