/* Checkpoints of fully sharded training: what they hold is what those of chapter 05 hold, bit by bit. A run that was saved in one stage goes on in
 * another, and on another number of devices, with the bits of never having stopped.
 *
 * TEST np: 3, all: 1 2 8
 * TEST variants: float, all: double */
#include "chapters/05_data_parallel/replica.h"
#include "common/run/saver.h"
#include "tests/sharded_with.h"
#include "tests/records.h"
#include "tests/saved.h"

static Comm *world, *alone; /* alone: a group of this rank */
static Tokenizer *tokenizer;
static RandomTokens tokens;
static char *base; /* a folder of rank 0's */

enum { STOP = 3, END = 6 };

/* The same global batch on all devices, with a micro-batch each, or on one: that does one after the other. */
static Config config_on(const Comm *comm, const ModelConfig *model, int stage, const char *folder) {
    Config c = record_config(world, model, 1, 1);
    c.num_microbatches = world->size / comm->size;
    c.data_parallel = comm->size;
    c.zero_stage = stage;
    c.output_dir = folder;
    return c;
}

static Sharded *sharded_on(Comm *comm, const ModelConfig *model, int stage, int shard_group) {
    Config c = config_on(comm, model, stage, NULL);
    FsdpOptions options = {.stage = stage, .prefetch = 1, .overlap = true};
    return sharded_with(&c, &options, shard_group, comm, device_new_cpu(0), &tokens.dataset);
}

static void discard(Sharded *s) {
    Device *device = s->device;
    sharded_delete(s);
    device_delete(device);
}

static void save(const Sharded *s, const char *folder) {
    Config c = s->config;
    c.output_dir = folder;
    Parts parts = sharded_parts(s);
    Saver *saver = saver_new(&c, &parts, tokenizer);
    saver_save(saver, s->next_window);
    saver_close(saver);
}

/* Goes on from the set in `folder`. */
static void load(Sharded *s, const char *folder) {
    Parts parts = sharded_parts(s);
    Checkpoint *checkpoint = s->comm->rank == 0 ? checkpoint_find_latest(folder) : NULL;
    snapshot_load_parts(checkpoint, &parts);
    checkpoint_close(checkpoint);
    s->next_window = STOP * s->config.global_batch;
    fsdp_updated(s->fsdp); /* stages 1, 2: what was loaded are the shards */
}

static void steps(Sharded *s, int from, int to, double *losses) {
    for (int step = from; step < to; step++) {
        MetricsRow row;
        sharded_step(s, step, &row);
        losses[step] = row.loss;
    }
}

static char *in_base(const char *kind, const char *what, int stage) {
    return xprintf("%s/%s-%s%d", base, kind, what, stage);
}

/* The weights and moments of both folders' sets. Rank 0 looks. */
static bool same_sets(const char *a, const char *b, int step) {
    return world->rank > 0 || same_saved(a, b, step);
}

/* A run of chapter 05: what it has in the middle goes to one folder, what it has at the end to another. */
static void run_replicas(const ModelConfig *model, const char *stop, const char *end, double *losses) {
    Config c = config_on(world, model, 0, stop);
    Replica *r = replica_new(&c, world, device_new_cpu(0), &tokens.dataset);
    for (int step = 0; step < END; step++) {
        MetricsRow row;
        replica_step(r, step, &row);
        losses[step] = row.loss;
        if (step + 1 == END) c.output_dir = end;
        if (world->rank == 0 && (step + 1 == STOP || step + 1 == END))
            snapshot_save(&c, r->model, r->optimizer, tokenizer, r->next_window);
    }
    Device *device = r->device;
    replica_delete(r);
    device_delete(device);
    comm_barrier(world, NULL);
}

/* From the start, saved in the middle and at the end. */
static void test_save(const char *kind, const ModelConfig *model, int stage, const char *stop,
                      const char *end, const double *want) {
    char *middle = in_base(kind, "middle", stage), *last = in_base(kind, "last", stage);
    Sharded *s = sharded_on(world, model, stage, 0);
    double losses[END];
    steps(s, 0, STOP, losses);
    save(s, middle);
    steps(s, STOP, END, losses); /* saving has changed nothing */
    save(s, last);
    ok_on_all(world,
              same_sets(stop, middle, STOP) && same_sets(end, last, END) &&
                  !memcmp(losses, want, sizeof losses),
              "%s, stage %d: its checkpoints hold what chapter 05's do", kind, stage);
    discard(s);
    free(middle);
    free(last);
}

/* From what chapter 05 has saved. */
static void test_go_on(const char *kind, Comm *comm, const ModelConfig *model, int stage, const char *stop,
                       const char *end, const double *want) {
    char *last = in_base(kind, comm == alone ? "alone" : "all", stage);
    Sharded *s = sharded_on(comm, model, stage, 0);
    double losses[END];
    load(s, stop);
    steps(s, STOP, END, losses);
    if (comm == world || world->rank == 0) save(s, last); /* each group has all of it */
    ok_on_all(world,
              s->optimizer->step == END && same_sets(end, last, END) &&
                  !memcmp(losses + STOP, want + STOP, (END - STOP) * sizeof *losses),
              "%s: goes on in stage %d on %d, with the same bits", kind, stage, comm->size);
    discard(s);
    free(last);
}

static void test_model(const char *kind, const ModelConfig *model) {
    double want[END];
    char *stop = in_base(kind, "stop", 5), *end = in_base(kind, "end", 5);
    Config c = config_on(world, model, 0, NULL);
    tokens = random_tokens(&c, 1, 0.2);
    run_replicas(model, stop, end, want);
    for (int stage = 0; stage <= 3; stage++) {
        test_save(kind, model, stage, stop, end, want);
        test_go_on(kind, world, model, stage, stop, end, want);
        test_go_on(kind, alone, model, stage, stop, end, want);
    }
    free(stop);
    free(end);
}

/* Sums in groups have bits of their own: they are the same with a stop. */
static void test_groups(const ModelConfig *model) {
    for (int stage = 0; stage <= 3 && world->size > 2 && world->size % 2 == 0; stage++) {
        char *stop = in_base("groups", "stop", stage), *end = in_base("groups", "end", stage),
             *last = in_base("groups", "last", stage);
        double losses[END], again[END];
        Sharded *s = sharded_on(world, model, stage, 2), *other = sharded_on(world, model, stage, 2);
        steps(s, 0, STOP, losses);
        save(s, stop);
        steps(s, STOP, END, losses);
        save(s, end);
        load(other, stop);
        steps(other, STOP, END, again);
        save(other, last);
        ok_on_all(world, same_sets(end, last, END) && losses[END - 1] == again[END - 1],
                  "groups of 2, stage %d: goes on with the same bits", stage);
        fsdp_check(other->fsdp);
        discard(s);
        discard(other);
        free(stop);
        free(end);
        free(last);
    }
}

int main(void) {
    world = ranks_world();
    alone = comm_split(world, world->rank, 0, "alone");
    base = ranks_folder(world);
    tokenizer = small_tokenizer();
    ModelConfig untied = awkward_model(), tied = awkward_post_norm_model();
    untied.T = tied.T = 9;
    tied.tied = true;
    test_model("untied", &untied);
    test_model("post-norm, tied", &tied);
    test_groups(&tied);
    ranks_folder_remove(world, base);
    tokenizer_free(tokenizer);
    comm_close(alone);
    comm_close(world);
    return tap_done();
}
