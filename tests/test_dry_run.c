/* A dry run says what a run takes: for chapters 05, 07 and 08 the bytes of each class and of all together are those of the real
 * run, to the byte, after every change; by the model clock so is the time of a step. A rank of thousands, and a model that no
 * machine here holds, take next to no memory.
 *
 * TEST np: 1 2 4
 * TEST variants: float, all: double asan */
#include "chapters/05_data_parallel/replica.h"
#include "chapters/08_tensor_parallel/sliced.h"
#include "common/comm/dry_group.h"
#include "tests/dry.h"
#include "tests/tensor_parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static Comm *world;

/* ---- predicted and measured ---- */

static double slowest(double seconds) {
    comm_all_reduce(world, NULL, &seconds, &seconds, 1, TYPE_F64, REDUCE_MAX);
    return seconds;
}

static void compare(DryProgram *program, const Config *c, const char *name) {
    DryPair pair = dry_compare(world, program, c, name);
    /* ranks with other pieces of the weights and of the vocabulary wait for each other a little */
    double limit = c->zero_stage || c->model.V % c->tensor_parallel ? 1e-2 : 1e-9;
    double off = fabs(slowest(pair.predicted.seconds) / slowest(pair.measured.seconds) - 1);
    ok_on_all(world, off <= limit, "%s: seconds of a step, off by %.1g", name, off);
}

/* A run of more steps, with an evaluation between them, holds no more. */
static double long_run(const Config *c, Comm *group, Device *device, const Dataset *data) {
    Mesh mesh = mesh_new(group, (int[MESH_AXES]){0, 1, 1});
    Sharded *s = sharded_new(c, mesh.axis[MESH_DATA], device, data);
    MetricsRow row;
    for (int64_t step = 0; step < 5; step++) {
        if (step % 3 == 0) evaluate(s->model, data, 0, c->micro_batch, s->comm);
        sharded_step(s, step, &row);
    }
    evaluate(s->model, data, 0, c->micro_batch, s->comm);
    sharded_delete(s);
    mesh_close(&mesh);
    return 0;
}

static void compare_long(const Config *c, const char *name) {
    DryPair pair = dry_pair(world, sharded_dry, long_run, c);
    ok_on_all(world, dry_same_memory(&pair, world->rank), "%s: also of a longer run", name);
}

static Config config_for(const ModelConfig *model, int tensor) {
    Config c = config_of(model, world->size / tensor);
    c.tensor_parallel = tensor;
    c.device_model = "a100";
    c.optimizer = OPTIMIZER_ADAMW;
    c.sample_interval = 0;
    return c;
}

static void test_replicas(void) {
    const char *kind;
    for (int which = 0; which < MODELS; which++) {
        ModelConfig model = model_of(which, 1, &kind);
        model.T = 144; /* products of so many rows take scratch */
        Config c = config_for(&model, 1);
        c.recompute = which % 2;
        c.overlap = (Overlap)(which % 3);
        char *name = xprintf("chapter 05, %s", kind);
        compare(replica_dry, &c, name);
        free(name);
    }
}

static void test_stages(void) {
    const char *kind;
    for (int stage = 0; stage <= 3; stage++)
        for (int way = 0; way < 4; way++) {
            ModelConfig model = model_of(stage + way, 1, &kind);
            Config c = config_for(&model, 1);
            c.zero_stage = stage;
            c.prefetch = way;
            c.recompute = way == 1;
            c.reduce_once = way == 2;
            c.overlap = way == 3 ? OVERLAP_NONE : OVERLAP_BACKWARD;
            c.shard_group = way == 1 && world->size == 4 ? 2 : 0;
            if (way == 0) c.num_microbatches = 1, c.global_batch /= 2;
            if (way == 3) c.max_steps = 1, c.eval_windows = 1;
            char *name = xprintf("chapter 07, stage %d, prefetch %d, %s", stage, way, kind);
            compare(sharded_dry, &c, name);
            if (c.max_steps > 1) compare_long(&c, name);
            free(name);
        }
}

static void test_slices(void) {
    const char *kind;
    for (int t = 1; t <= world->size; t *= 2)
        for (int which = 0; which < MODELS; which++)
            for (int way = 0; way < (t > 1 ? 4 : 1); way++) {
                ModelConfig model = model_of(which, t, &kind);
                if (way == 1) model.V = 64 * t;
                Config c = config_for(&model, t);
                c.sequence_parallel = way > 0 && way < 3;
                c.gather_again = way == 1;
                c.recompute = way == 2;
                c.overlap_tensor = way == 3 ? 3 : 1;
                c.zero_stage = (which + way) % 4;
                char *name = xprintf("chapter 08, %d x %d, way %d, %s", world->size / t, t, way, kind);
                compare(sliced_dry, &c, name);
                free(name);
            }
}

/* ---- what is not there ---- */

/* 2.1 billion parameters and their moments, on one of so many devices; nothing of it is held. */
static void test_large(int devices, int tensor, int stage) {
    Config c = *config_preset("xl");
    c.model.H = c.model.K = 32;
    c.tensor_parallel = tensor;
    c.zero_stage = stage;
    c.data_parallel = devices / tensor;
    c.num_microbatches = 2;
    c.micro_batch = 1;
    c.global_batch = c.data_parallel * c.num_microbatches;
    c.sample_interval = 0;
    RandomTokens tokens = random_tokens(&c, 1, 0);
    tokens.dataset.validation_windows = dry_validation_windows;
    Device *like = device_new_cpu(0);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    DryRun run = dry_run(sliced_dry, &c, devices / 2, devices, like, &tokens.dataset);
    getrusage(RUSAGE_SELF, &after);
    device_delete(like);
    int64_t largest = run.memory.peak[MEMORY_PARAMETERS] + run.memory.peak[MEMORY_OPTIMIZER];
    double expected = 3.0 * 4 * 2.13e9 / tensor / (stage == 3 ? c.data_parallel : 1);
    ok((double)largest > 0.95 * expected && (double)largest < 1.05 * expected * sizeof(real) / 4 &&
           run.seconds > 0,
       "xl on %d devices, %d sharing a layer, stage %d: %.3g MB of weights and moments", devices, tensor,
       stage, 1e-6 * (double)largest);
    ok(after.ru_maxrss - before.ru_maxrss < 100 << 10, "... for which this process took %ld KB",
       after.ru_maxrss - before.ru_maxrss);
}

/* The groups of a rank of 4096, each with its members. */
static void test_groups(void) {
    enum { DEVICES = 4096, RANK = 2741 };
    Comm *dry = comm_dry(RANK, DEVICES);
    Mesh mesh = mesh_new(dry, (int[MESH_AXES]){0, 8, 16});
    bool good = mesh.size[MESH_DATA] == DEVICES / 8 / 16 && mesh_rank(&mesh, mesh.coordinate) == RANK;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const Comm *group = mesh.axis[axis];
        good &= group->size == mesh.size[axis] && group->rank == mesh.coordinate[axis];
        for (int r = 0; r < group->size; r++) {
            int other[MESH_AXES];
            memcpy(other, mesh.coordinate, sizeof other);
            other[axis] = r;
            good &= group->world_rank[r] == mesh_rank(&mesh, other);
        }
    }
    double x = 3;
    comm_all_reduce(mesh.axis[MESH_PIPE], NULL, &x, &x, 1, TYPE_F64, REDUCE_SUM);
    good &= x == 3 && mesh.axis[MESH_PIPE]->counts[COMM_ALL_REDUCE].calls == 1 &&
            dry->counts[COMM_ALL_REDUCE].bytes == mesh.axis[MESH_PIPE]->counts[COMM_ALL_REDUCE].bytes;
    mesh_close(&mesh);
    comm_close(dry);
    ok(good, "rank %d of %d knows whom its groups hold", RANK, DEVICES);
}

int main(void) {
    world = ranks_world();
    if (world->size == 1) {
        test_groups();
        test_large(8, 1, 3);
        test_large(8, 8, 0);
        test_large(4096, 8, 3);
    }
    test_replicas();
    test_stages();
    test_slices();
    comm_close(world);
    return tap_done();
}
