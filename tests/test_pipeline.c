/* A model in stages, by every schedule, has the bits of one device with the same micro-batches: raw gradients, losses, norms,
 * and parameters after some steps. All kinds of model, tied tables on two stages, stages without blocks, fewer micro-batches
 * than stages, blocks recomputed; beside `data`, with every stage of ZeRO. Copies stay the same, and one that does not is
 * named. What is kept at once is what the plan says.
 *
 * TEST np: 1 2 3 4, all: 5 6 8
 * TEST variants: double, all: float asan */
#include "tests/staged.h"

#include <inttypes.h>

enum { STEPS = 3, VIRTUAL = 2 };
static const double limit = sizeof(real) == 8 ? 1e-10 : 2e-4;
static Comm *world;

/* ---- the models ---- */

enum { MODELS = 4 };
static ModelConfig model_of(int which, const char **name) {
    ModelConfig m = awkward_model(), post = awkward_post_norm_model();
    m.T = post.T = 20;
    switch (which) {
    case 0: *name = "rope, grouped heads, swiglu, dropout"; return m;
    case 1:
        *name = "tied, learned positions, layernorm";
        m.norm = NORM_LAYERNORM;
        m.positions = POSITIONS_LEARNED;
        m.activation = ACTIVATION_GELU;
        m.tied = true;
        return m;
    case 2: *name = "post-norm, relu"; return post;
    default:
        *name = "tied, post-norm, one block, no biases";
        post.tied = true;
        post.bias = false;
        post.L = 1;
        return post;
    }
}

/* Biases and gains start at 0 and 1, which hides what is added once too often or never: other values, the same on all
 * devices. */
static void set_values(Params *params) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        if (p->start.kind == START_CONSTANT) param_start(p, (Start){START_NORMAL, 0.5, 7});
    }
}

/* ---- one mesh, one schedule ---- */

/* What nobody would do: the first chunk is on the last stage, backward takes the micro-batches in another order than forward,
 * every second one in halves, and all that is left for the end comes in a third order. */
static Plan *backwards_plan(int p, int64_t m) {
    Schedule *s = schedule_empty("backwards", p, p, m);
    for (int chunk = 0; chunk < p; chunk++) {
        int stage = s->stage_of[chunk] = p - 1 - chunk;
        for (int64_t i = 0; i < m; i++)
            schedule_add(s, stage, (Action){.kind = ACTION_FORWARD, .chunk = chunk, .microbatch = i});
        for (int64_t i = m; i-- > 0;)
            schedule_add(s, stage, (Action){.kind = ACTION_BACKWARD, .chunk = chunk, .microbatch = i});
        for (int64_t i = 0; i < m; i += 2)
            schedule_add(s, stage, (Action){.kind = ACTION_WEIGHTS, .chunk = chunk, .microbatch = i});
    }
    schedule_finish(s);
    char *problem, *hint;
    Plan *plan = plan_new(s, &problem, &hint);
    CHECK(plan, hint, "%s", problem);
    return plan;
}

typedef struct {
    ScheduleKind kind; /* SCHEDULE_KINDS: backwards_plan */
    bool recompute;
    int64_t zero_stage;
    bool reduce_once;
} Case;

static Staged *staged_of(const Config *c, const Mesh *mesh, const Plan *plan, Device *device,
                         const Dataset *data) {
    Staged *s = staged_new(c, mesh, plan, device, data);
    set_values(fsdp_params(s->own->fsdp));
    fsdp_updated(s->own->fsdp);
    return s;
}

/* one, alone, validation: what one device has trained, with what, and its loss on other windows in the end. */
static void run_case(Config c, const Mesh *mesh, Case what, const Record *one, const Training *alone,
                     double validation, const char *model) {
    c.recompute = what.recompute;
    c.eval_windows = 0;
    c.zero_stage = what.zero_stage;
    c.reduce_once = what.reduce_once;
    int p = mesh->size[MESH_PIPE];
    Plan *plan = what.kind == SCHEDULE_KINDS ? backwards_plan(p, c.num_microbatches)
                                             : plan_of_kind(what.kind, p, VIRTUAL, c.num_microbatches);
    char *name =
        xprintf("%d x %d, %s, %" PRId64 " micro-batches%s, stage %" PRId64 "%s: %s", mesh->size[MESH_DATA], p,
                plan->schedule->name, c.num_microbatches, what.recompute ? ", recomputed" : "",
                what.zero_stage, what.reduce_once ? " once" : "", model);
    Device *device = device_new_cpu(0);
    Staged *s = staged_of(&c, mesh, plan, device, &alone->data.dataset);
    Record record = train_staged(s, STEPS);
    if (mesh->size[MESH_DATA] == 1 || c.num_microbatches == 1) {
        const char *where = first_difference(&record, one, &s->whole->params);
        ok_on_all(world, same_bits(&record, one), "%s: same bits (%s differs)", name, where);
    } else {
        RecordErrors e = record_errors(&record, one);
        ok_on_all(world,
                  e.gradients <= limit && e.losses <= limit && e.norms <= limit && e.parameters <= limit,
                  "%s: gradients by %.2g, losses by %.2g, norms by %.2g, parameters by %.2g", name,
                  e.gradients, e.losses, e.norms, e.parameters);
    }
    double loss = staged_evaluate(s), off = fabs(loss / validation - 1);
    ok_on_all(world, mesh->size[MESH_DATA] == 1 ? loss == validation : off <= limit, "%s: evaluated, by %.2g",
              name, off);
    const char *drifted = staged_drift(s);
    ok_on_all(world, !drifted, "%s: copies are the same (%s)", name, drifted ? drifted : "all");
    ok_on_all(world, pipeline_in_flight(s->pipeline) == plan->in_flight[mesh->coordinate[MESH_PIPE]],
              "%s: %" PRId64 " in flight", name, pipeline_in_flight(s->pipeline));
    record_free(&record);
    staged_delete(s);
    device_delete(device);
    plan_and_schedule_delete(plan);
    free(name);
}

/* m micro-batches on each of d pipelines of p stages. */
static void test_mesh(int d, int p, int which, int64_t m) {
    const char *name;
    ModelConfig model = model_of(which, &name);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){d, p, 1});
    Config c = record_config(world, &model, 1, m);
    c.data_parallel = d;
    c.pipeline_parallel = p;
    c.global_batch = c.micro_batch * m * d;
    Config alone_config = config_alone(&c);
    Training alone = training_new(&alone_config, model.T, 1, 0.2);
    set_values(&alone.model->params);
    alone.data.dataset.validation_windows = nine_windows;
    Record one = train_on_one(world, &alone, STEPS);
    double validation =
        evaluate(alone.model, &alone.data.dataset, 0, c.micro_batch, NULL); /* rank 0 has trained it */
    comm_broadcast(world, NULL, &validation, 1, TYPE_F64, 0);
    for (ScheduleKind kind = 0; kind < SCHEDULE_KINDS; kind++) {
        char *hint, *problem = schedule_problem(kind, p, VIRTUAL, m, &hint);
        if (problem) {
            free(problem);
            free(hint);
            continue;
        }
        int stages = d > 1 ? 4 : 1;
        int zero = (int)(((int64_t)kind + which + m) % stages); /* one of them with each schedule */
        run_case(c, &mesh, (Case){kind, ((int)kind + which) % 2, zero, false}, &one, &alone, validation,
                 name);
        if (zero >= 2) run_case(c, &mesh, (Case){kind, false, zero, true}, &one, &alone, validation, name);
    }
    int zero = d > 1 ? (int)(m % 4) : 0;
    run_case(c, &mesh, (Case){SCHEDULE_KINDS, which % 2, zero, zero > 1}, &one, &alone, validation, name);
    record_free(&one);
    training_delete(&alone);
    mesh_close(&mesh);
}

int main(void) {
    world = ranks_world();
    int n = world->size;
    for (int which = 0; which < MODELS; which++) {
        int64_t counts[] = {1, n - 1, n, n + 1, 2 * n + 1};
        for (int i = which % 2; i < COUNT_OF(counts); i += 2) /* each number with two models */
            if (counts[i] > 0) test_mesh(1, n, which, counts[i]);
        for (int p = 1; p < n; p++)
            if (n % p == 0) test_mesh(n / p, p, which, 1 + 2 * (which % 2));
    }
    comm_close(world);
    return tap_done();
}
