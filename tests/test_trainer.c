/* The trainer of chapter 10, on every mesh of data, pipe and tensor, by every schedule, with every stage of ZeRO, with and
 * without sequence parallel: raw gradients, losses, norms and, after some steps, parameters are those of one device; so is the
 * evaluation. A pipeline changes no bit of it. Copies stay the same, and a copy that does not is named.
 *
 * Each mesh takes some of the combinations, such that all take part in `make test`; with TEST_ALL it takes more of them.
 *
 * TEST np: 1 2 4 6 8, all: 3 5 7
 * TEST tier: more
 * TEST variants: double */
#include "chapters/10_3d_parallel/trainer.h"
#include "tests/staged.h"
#include "tests/tensor_parallel.h"

#include <inttypes.h>

enum { STEPS = 3, VIRTUAL = 2 };
static const double limit = sizeof(real) == 8 ? 1e-10 : 2e-4;
static Comm *world;

/* ---- what is tried ---- */

typedef struct {
    int d, p, t;
    int model;
    int64_t microbatches;
    bool adam, recompute, sequence_parallel;
    int64_t zero_stage, shard_group, overlap_tensor;
    bool reduce_once;
    ScheduleKind kind;
} Case;

/* Layers that stages do not divide; more stages than layers, from 4 on. */
static ModelConfig model_for(const Case *k, const char **name) {
    ModelConfig m = model_of(k->model, k->t, name);
    m.L = k->p > 2 ? 3 : 2;
    return m;
}

static Config config_for(const Case *k) {
    const char *name;
    ModelConfig model = model_for(k, &name);
    Config c = config_of(&model, k->d);
    c.tensor_parallel = k->t;
    c.pipeline_parallel = k->p;
    c.micro_batch = 1;
    c.num_microbatches = k->microbatches;
    c.global_batch = k->microbatches * k->d;
    c.recompute = k->recompute;
    c.sequence_parallel = k->sequence_parallel;
    c.gather_again = true;
    c.overlap = OVERLAP_BACKWARD;
    c.overlap_tensor = k->overlap_tensor;
    c.zero_stage = k->zero_stage;
    c.shard_group = k->shard_group;
    c.reduce_once = k->reduce_once;
    c.optimizer = k->adam ? OPTIMIZER_ADAMW : OPTIMIZER_SGD;
    if (k->adam) c.learning_rate = 1e-3;
    return c;
}

static char *name_of(const Case *k) {
    const char *model;
    model_for(k, &model);
    return xprintf("%d x %d x %d, %s, %" PRId64 " micro-batches, stage %" PRId64 "%s%s%s%s%s: %s", k->d, k->p,
                   k->t, schedule_names[k->kind], k->microbatches, k->zero_stage,
                   k->reduce_once ? " once" : "", k->shard_group ? " in groups" : "",
                   k->sequence_parallel    ? ", sequence parallel"
                   : k->overlap_tensor > 1 ? ", overlapped"
                                           : "",
                   k->recompute ? ", recomputed" : "", k->adam ? ", adamw" : "", model);
}

/* Biases are not 0 and gains not 1, on any mesh the same: what is added too often, or never, is seen. */
static void set_values(Params *params) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        if (p->start.kind == START_CONSTANT) param_start(p, (Start){START_NORMAL, 0.5, 7});
    }
}

static Trainer *trainer_of(const Config *c, const Mesh *mesh, const Plan *plan, Device *device,
                           const Dataset *data) {
    Trainer *t = trainer_new(c, mesh, plan, device, data);
    set_values(fsdp_params(t->staged->own->fsdp));
    fsdp_updated(t->staged->own->fsdp);
    return t;
}

/* ---- one of them ---- */

/* The same devices without the others of their pipelines: each stage's do it all. */
static Record without_pipe(const Config *config, const Mesh *mesh, const Dataset *data) {
    Config c = *config;
    c.pipeline_parallel = 1;
    Comm *comm = comm_split(world, mesh->coordinate[MESH_PIPE], world->rank, "one stage");
    Mesh flat = mesh_new(comm, (int[MESH_AXES]){mesh->size[MESH_DATA], 1, mesh->size[MESH_TENSOR]});
    Plan *plan = plan_of_kind(SCHEDULE_NAIVE, 1, 1, c.num_microbatches);
    Device *device = device_new_cpu(0);
    Trainer *t = trainer_of(&c, &flat, plan, device, data);
    Record record = train_staged(t->staged, STEPS);
    trainer_delete(t);
    device_delete(device);
    plan_and_schedule_delete(plan);
    mesh_close(&flat);
    comm_close(comm);
    return record;
}

/* A value of the first parameter that another device along `tensor` holds as well is changed: there alone. */
static void test_drift(Trainer *t, const Mesh *mesh, const char *name) {
    Params *params = fsdp_params(t->staged->own->fsdp);
    int which = 0;
    while (which < params->count && !tensor_parallel_holders(t->tp, params->items[which])) which++;
    bool changes = mesh->coordinate[MESH_TENSOR] == 1 && which < params->count;
    if (changes) tensor_write(&params->items[which]->data, 0, 1, &(real){0.125});
    const char *drifted = trainer_drift(t);
    bool named = drifted && (which == params->count || strcmp(drifted, params->items[which]->name) == 0 ||
                             strcmp(drifted, "a parameter of another device") == 0);
    ok_on_all(world, named, "%s: a copy that is not the same is named (%s)", name,
              drifted ? drifted : "none");
}

static void run_case(const Case *k, const Mesh *mesh, const Record *one, const Training *alone,
                     double one_evaluates) {
    Config c = config_for(k);
    char *name = name_of(k);
    const Dataset *data = &alone->data.dataset;
    Plan *plan = plan_of_kind(k->kind, k->p, VIRTUAL, k->microbatches);
    Device *device = device_new_cpu(0);
    Trainer *t = trainer_of(&c, mesh, plan, device, data);
    double evaluates = trainer_evaluate(t);
    Record record = train_staged(t->staged, STEPS);
    RecordErrors e = record_errors(&record, one);
    /* Adam divides by what may be rounding alone */
    double parameters = k->adam ? 1e3 * limit : limit;
    ok_on_all(world,
              e.gradients <= limit && e.losses <= limit && e.norms <= limit && e.parameters <= parameters,
              "%s: gradients by %.2g, losses by %.2g, norms by %.2g, parameters by %.2g", name, e.gradients,
              e.losses, e.norms, e.parameters);
    bool in_order = k->d == 1 || (k->microbatches == 1 && !k->shard_group); /* sums along `data` */
    if (k->t == 1 && in_order)
        ok_on_all(world, same_bits(&record, one), "%s: the bits of one device (%s differs)", name,
                  first_difference(&record, one, &t->staged->whole->params));
    if (k->p > 1) {
        Record flat = without_pipe(&c, mesh, data);
        ok_on_all(world, same_bits(&record, &flat), "%s: the bits of one stage (%s differs)", name,
                  first_difference(&record, &flat, &t->staged->whole->params));
        record_free(&flat);
    }
    ok_on_all(world, fabs(evaluates / one_evaluates - 1) <= limit, "%s: evaluation by %.2g", name,
              fabs(evaluates / one_evaluates - 1));
    const char *drifted = trainer_drift(t);
    ok_on_all(world, !drifted, "%s: copies are the same (%s)", name, drifted ? drifted : "all");
    if (k->t > 1 && k->zero_stage == 0) test_drift(t, mesh, name);
    record_free(&record);
    trainer_delete(t);
    device_delete(device);
    plan_and_schedule_delete(plan);
    free(name);
}

/* ---- all of them ---- */

/* Choices that differ from case to case, each by a count of its own, so that all pairs come about. */
static Case case_of(int d, int p, int t, int number) {
    Case k = {.d = d, .p = p, .t = t, .model = number % MODELS};
    const int64_t counts[] = {p + 1, 1, p, 2 * p + 1, max64(p - 1, 1)};
    k.microbatches = counts[(number + number / MODELS) % COUNT_OF(counts)];
    k.adam = number % 3 == 1;
    k.recompute = number % 4 == 2;
    k.sequence_parallel = t > 1 && number % 2 == 0;
    k.zero_stage = d > 1 ? (number / 2 + d) % 4 : 0;
    k.reduce_once = k.zero_stage >= 2 && number % 3 == 0;
    k.shard_group = k.zero_stage && d > 2 && d % 2 == 0 && number % 2 ? 2 : 0;
    k.overlap_tensor = k.sequence_parallel || number % 3 == 0 ? 1 : 3;
    return k;
}

static void test_case(const Mesh *mesh, Case k, int number) {
    Config c = config_for(&k), alone_config = config_alone(&c);
    alone_config.tensor_parallel = alone_config.pipeline_parallel = 1;
    Training alone = training_new(&alone_config, c.model.T, 1, 0.2);
    alone.data.dataset.validation_windows = nine_windows;
    set_values(&alone.model->params);
    double evaluates = evaluate(alone.model, &alone.data.dataset, c.eval_windows, c.micro_batch, NULL);
    Record one = train_on_one(world, &alone, STEPS);
    int found = 0, some = getenv("TEST_ALL") ? SCHEDULE_KINDS : 1;
    for (int i = 0; i < SCHEDULE_KINDS && found < some; i++) {
        k.kind = (ScheduleKind)((number + i) % SCHEDULE_KINDS);
        char *hint, *problem = schedule_problem(k.kind, k.p, VIRTUAL, k.microbatches, &hint);
        if (problem) {
            free(problem);
            free(hint);
            continue;
        }
        if (k.p == 1 && found > 0) break; /* they are all the same */
        run_case(&k, mesh, &one, &alone, evaluates);
        found++;
    }
    record_free(&one);
    training_delete(&alone);
}

/* In `make test` a few: where there are stages and shards as well, two of three with a tied table. */
static void test_mesh(int d, int p, int t) {
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){d, p, t});
    bool all = getenv("TEST_ALL");
    int cases = all ? 12 : p == 1 || world->size < 4 ? 2 : 3;
    int first = all ? 0 : MODELS * (p + 3 * t + d) + (p > 1 && d > 1 ? 2 : 4);
    for (int i = 0; i < cases; i++) test_case(&mesh, case_of(d, p, t, first + i), first + i);
    mesh_close(&mesh);
}

int main(void) {
    world = ranks_world();
    int n = world->size;
    for (int p = 1; p <= n; p++)
        for (int t = 1; t <= n / p; t++)
            if (n % (p * t) == 0) test_mesh(n / (p * t), p, t);
    comm_close(world);
    return tap_done();
}
