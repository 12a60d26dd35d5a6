/* Checkpoints on any mesh: what is saved on one mesh of data, pipe and tensor, in any stage of ZeRO, loads on any other, bit by
 * bit, weights, moments, step and data position; what one device wrote as well, and the other way round. A later step
 * changes nothing of a save that is under way. What is missing is refused by name.
 *
 * TEST np: 4, all: 8
 * TEST variants: float, all: double
 * TEST seconds: 1200 */
#include "chapters/10_3d_parallel/trainer.h"
#include "common/run/saver.h"
#include "common/run/stored.h"
#include "tests/ranks.h"
#include "tests/saved.h"
#include "tests/staged.h"
#include "tests/training.h"

#include <stdlib.h>
#include <string.h>

/* Devices along data, pipe and tensor, the stage along data, and the devices that state is cut among (0: all). With four stages
 * one has no blocks, and the middle two of a tied model may have nothing that another has not. */
typedef struct {
    int data, pipe, tensor, stage, group;
} Layout;
static const Layout layouts[] = {
    {1, 1, 1, 0, 0}, {2, 1, 1, 1, 0}, {1, 1, 2, 0, 0}, {3, 1, 1, 2, 0}, {2, 1, 2, 0, 0}, {2, 1, 2, 3, 0},
    {4, 1, 1, 3, 2}, {1, 1, 4, 0, 0}, {4, 1, 1, 2, 0}, {1, 2, 1, 0, 0}, {2, 2, 1, 1, 0}, {1, 2, 2, 0, 0},
    {1, 4, 1, 0, 0}, {2, 2, 1, 3, 0}, {4, 1, 2, 3, 2}, {2, 1, 4, 1, 0}, {8, 1, 1, 3, 0}, {1, 1, 8, 0, 0},
    {3, 1, 2, 3, 0}, {2, 2, 2, 0, 0}, {2, 2, 2, 3, 0}, {4, 2, 1, 3, 2}, {1, 8, 1, 0, 0}, {2, 4, 1, 2, 0}};
enum { STEP = 7, WINDOW = 91, WEIGHT = 0, KINDS = 3 };

static Comm *world;
static Tokenizer *tokenizer;
static char *base; /* a folder that all see */

/* ---- elements whose value says where they belong ---- */

static real value(const Param *p, int kind, int64_t index) {
    return (real)rng_uniform(17, rng_stream(p->name) + (uint64_t)kind, (uint64_t)index) + (real)kind;
}

static Tensor *tensor_of(const Optimizer *o, int i, int kind) {
    return kind == WEIGHT ? &o->params->items[i]->data : kind == 1 ? &o->m[i] : &o->v[i];
}

/* Each element becomes its own value, and padding 0; or all become `poison`. */
static void set_all(const Optimizer *o, const real *poison) {
    for (int i = 0; i < o->params->count; i++) {
        const Param *p = o->params->items[i];
        int64_t count = tensor_count(&p->data);
        real *elements = xmalloc((size_t)count * sizeof *elements);
        for (int kind = 0; kind < KINDS; kind++) {
            for (int64_t at = 0, run; at < count; at += run) {
                int64_t index = param_whole_index(p, at, &run);
                for (int64_t k = 0; k < run; k++)
                    elements[at + k] = poison ? *poison : index < 0 ? 0 : value(p, kind, index + k);
            }
            tensor_write(tensor_of(o, i, kind), 0, count, elements);
        }
        free(elements);
    }
}

/* How many elements are not their own value. */
static int64_t wrong(const Optimizer *o) {
    int64_t bad = 0;
    for (int i = 0; i < o->params->count; i++) {
        const Param *p = o->params->items[i];
        int64_t count = tensor_count(&p->data);
        for (int kind = 0; kind < KINDS; kind++) {
            real *elements = tensor_to_host(tensor_of(o, i, kind));
            for (int64_t at = 0, run; at < count; at += run) {
                int64_t index = param_whole_index(p, at, &run);
                for (int64_t k = 0; k < run; k++)
                    bad += elements[at + k] != (index < 0 ? 0 : value(p, kind, index + k));
            }
            free(elements);
        }
    }
    return bad;
}

/* ---- a layout, on the first ranks of the world ---- */

typedef struct {
    Config config;
    RandomTokens tokens;
    Comm *comm; /* NULL: this rank is none of them */
    Mesh mesh;
    Device *device;
    Plan *plan;
    Trainer *trainer;
    Parts parts;
} Site;

static int devices(const Layout *l) { return l->data * l->pipe * l->tensor; }

static Config layout_config(const ModelConfig *model, const Layout *l) {
    Config c = *config_preset("tiny");
    c.model = *model;
    c.micro_batch = 1;
    c.num_microbatches = 1;
    c.data_parallel = l->data;
    c.global_batch = l->data;
    c.pipeline_parallel = l->pipe;
    c.tensor_parallel = l->tensor;
    c.zero_stage = l->stage;
    c.shard_group = l->group;
    return c;
}

static void open_site(Site *at, const ModelConfig *model, const Layout *l) {
    *at = (Site){.config = layout_config(model, l)};
    at->tokens = random_tokens(&at->config, 1, 0.2);
    at->comm = comm_split(world, world->rank < devices(l) ? 0 : -1, world->rank, "part of the world");
    if (!at->comm) return;
    at->mesh = mesh_new(at->comm, (int[MESH_AXES]){l->data, l->pipe, l->tensor});
    at->device = device_new_cpu(0);
    at->plan = plan_of_kind(l->pipe > 1 ? SCHEDULE_GPIPE : SCHEDULE_NAIVE, l->pipe, 1, 1);
    at->trainer = trainer_new(&at->config, &at->mesh, at->plan, at->device, &at->tokens.dataset);
    at->parts = staged_parts(at->trainer->staged);
}

static void close_site(Site *at) {
    if (!at->comm) return;
    trainer_delete(at->trainer);
    plan_and_schedule_delete(at->plan);
    device_delete(at->device);
    mesh_close(&at->mesh);
    comm_close(at->comm);
}

static char *folder_of(const char *kind, int source) { return xprintf("%s/%s-%d", base, kind, source); }

/* ---- saving ---- */

static void save(Site *at, const char *folder) {
    static const real moved_on = 0.25;
    at->config.output_dir = folder;
    set_all(at->parts.optimizer, NULL);
    at->parts.optimizer->step = STEP;
    Saver *saver = saver_new(&at->config, &at->parts, tokenizer);
    saver_save(saver, WINDOW);
    set_all(at->parts.optimizer, &moved_on);
    saver_close(saver);
}

/* As chapter 02 saves it. */
static void save_alone(const ModelConfig *model, const char *folder) {
    Config c = layout_config(model, &layouts[0]);
    c.output_dir = folder;
    Training t = training_new(&c, model->T, 1, 0.2);
    set_all(t.optimizer, NULL);
    t.optimizer->step = STEP;
    snapshot_save(&c, t.model, t.optimizer, tokenizer, WINDOW);
    training_delete(&t);
}

/* ---- loading ---- */

static int64_t load(const Site *at, const char *folder) {
    static const real garbage = 0.75;
    set_all(at->parts.optimizer, &garbage);
    at->parts.optimizer->step = 0;
    Checkpoint *checkpoint = at->comm->rank == 0 ? checkpoint_find_latest(folder) : NULL;
    snapshot_load_parts(checkpoint, &at->parts);
    bool position = true;
    if (checkpoint) {
        json_t *state = checkpoint_read_json(checkpoint, "state.json");
        position = json_integer_value(json_object_get(state, "next_window")) == WINDOW;
        json_decref(state);
    }
    checkpoint_close(checkpoint);
    return wrong(at->parts.optimizer) + (at->parts.optimizer->step != STEP) + !position;
}

static int64_t load_alone(const ModelConfig *model, const char *folder) {
    static const real garbage = 0.75;
    Config c = layout_config(model, &layouts[0]);
    Training t = training_new(&c, model->T, 1, 0.2);
    set_all(t.optimizer, &garbage);
    Checkpoint *checkpoint = checkpoint_open_latest(folder);
    snapshot_load(checkpoint, t.model, t.optimizer, tokenizer);
    checkpoint_close(checkpoint);
    int64_t bad = wrong(t.optimizer) + (t.optimizer->step != STEP);
    training_delete(&t);
    return bad;
}

/* Every pair of those that the world has room for; the last of all is the single device of chapter 02. */
static void test_pairs(const char *kind, const ModelConfig *model) {
    int sources = COUNT_OF(layouts) + 1, alone = COUNT_OF(layouts), used = 0;
    for (int i = 0; i < alone; i++) {
        if (devices(&layouts[i]) > world->size) continue;
        char *folder = folder_of(kind, i);
        Site at;
        open_site(&at, model, &layouts[i]);
        if (at.comm) save(&at, folder);
        close_site(&at);
        free(folder);
        used++;
    }
    char *single = folder_of(kind, alone);
    if (world->rank == 0) save_alone(model, single);
    comm_barrier(world, NULL);
    for (int to = 0; to < alone; to++) {
        const Layout *l = &layouts[to];
        if (devices(l) > world->size) continue;
        int64_t bad = 0;
        Site at;
        open_site(&at, model, l);
        for (int from = 0; from < sources && at.comm; from++) {
            if (from < alone && devices(&layouts[from]) > world->size) continue;
            char *folder = folder_of(kind, from);
            bad += load(&at, folder);
            free(folder);
        }
        ok_on_all(world, bad == 0,
                  "%s: %d x %d x %d, stage %d, groups of %d, loads what each of %d has saved", kind, l->data,
                  l->pipe, l->tensor, l->stage, l->group, used + 1);
        close_site(&at);
    }
    int64_t bad = 0;
    for (int from = 0; from < alone && world->rank == 0; from++) {
        if (devices(&layouts[from]) > world->size) continue;
        char *folder = folder_of(kind, from);
        bad += load_alone(model, folder) + !same_saved(folder, single, STEP);
        free(folder);
    }
    ok_on_all(world, bad == 0, "%s: and one device what all the others have", kind);
    free(single);
}

int main(void) {
    world = ranks_world();
    base = ranks_folder(world);
    tokenizer = small_tokenizer();

    /* sizes that 8 devices divide, but for the words; fewer heads of keys than devices */
    ModelConfig untied = awkward_model(), tied = awkward_post_norm_model();
    untied.L = tied.L = 2;
    untied.H = tied.H = 8;
    untied.C = tied.C = 48;
    untied.K = 2;
    tied.K = 8;
    untied.F = tied.F = 104;
    untied.T = tied.T = 8;
    tied.tied = true;
    test_pairs("untied, swiglu, two key heads", &untied);
    test_pairs("tied, post-norm", &tied);
    ranks_folder_remove(world, base);
    tokenizer_free(tokenizer);
    comm_close(world);
    return tap_done();
}
