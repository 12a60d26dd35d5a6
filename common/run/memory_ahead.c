#include "common/run/memory_ahead.h"

#include "common/base/size_text.h"
#include "common/config/flags.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const MemoryAhead *program;
    const Config *config; /* as the user wants it */
    Comm *world;
    const Device *device;
    const Dataset *data;
} Ahead;

/* Of each rank's device; the caller frees it. */
static DryRun *run_all(const Ahead *a, const Config *c) {
    int n = a->world->size;
    DryRun mine = dry_run(a->program->program, c, a->world->rank, n, a->device, a->data);
    DryRun *all = xmalloc((size_t)n * sizeof *all);
    comm_all_gather(a->world, NULL, &mine, all, sizeof mine / sizeof(int32_t), TYPE_I32);
    return all;
}

/* The first device of those that hold most. */
static int fullest(const DryRun *all, int n) {
    int most = 0;
    for (int d = 1; d < n; d++)
        if (all[d].memory.joint_peak > all[most].memory.joint_peak) most = d;
    return most;
}

/* ---- the table ---- */

static bool alike(const MemoryUse *a, const MemoryUse *b) {
    return a->joint_peak == b->joint_peak && memcmp(a->peak, b->peak, sizeof a->peak) == 0;
}

/* "0 - 2, 5" for the devices that hold what device d holds; "" where an earlier one does. The caller frees it. */
static char *devices_like(const DryRun *all, int n, int d) {
    Str text = {0};
    for (int first = 0; first < n; first++) {
        if (!alike(&all[first].memory, &all[d].memory)) continue;
        if (first < d && text.count == 0) return xstrdup("");
        int last = first;
        while (last + 1 < n && alike(&all[last + 1].memory, &all[d].memory)) last++;
        str_printf(&text, "%s%d", text.count ? ", " : "", first);
        if (last > first) str_printf(&text, " - %d", last);
        first = last;
    }
    return text.data;
}

static void print_table(const Ahead *a, const DryRun *all) {
    const Config *c = a->config;
    int n = a->world->size;
    printf("bytes that a device will hold, at most\n%-12s", "device");
    for (int k = 0; k < MEMORY_CLASSES; k++) printf(" %14s", memory_class_names[k]);
    printf(" %14s\n", "together");
    double seconds = 0;
    for (int d = 0; d < n; d++) {
        char *devices = devices_like(all, n, d);
        if (*devices) {
            printf("%-12s", devices);
            for (int k = 0; k < MEMORY_CLASSES; k++) printf(" %14" PRId64, all[d].memory.peak[k]);
            printf(" %14" PRId64 "\n", all[d].memory.joint_peak);
        }
        free(devices);
        if (all[d].seconds > seconds) seconds = all[d].seconds;
    }
    int64_t most = all[fullest(all, n)].memory.joint_peak;
    if (c->device_memory == 0)
        printf("no --device-memory limits it\n");
    else if (most <= c->device_memory)
        printf("--device-memory is %s: %s will be left\n", size_text((double)c->device_memory).text,
               size_text((double)(c->device_memory - most)).text);
    if (c->clock == CLOCK_MODEL && c->pipeline_parallel == 1) /* stages wait for each other */
        printf("a step takes %.6g ms by the clock of %s\n", 1e3 * seconds, c->device_model);
}

/* ---- what would fit: each change makes its next step, or there is none ---- */

typedef bool Change(const Ahead *a, Config *c);

static bool recompute(const Ahead *a, Config *c) {
    (void)a;
    if (c->recompute) return false;
    return c->recompute = true;
}

/* The largest micro-batch up to `most` that divides a device's share of the batch. */
static void cut_share(Config *c, int64_t share, int64_t most) {
    c->micro_batch = min64(most, share);
    while (share % c->micro_batch) c->micro_batch--;
    c->num_microbatches = share / c->micro_batch;
}

static bool smaller_micro_batch(const Ahead *a, Config *c) {
    (void)a;
    if (c->micro_batch == 1) return false;
    cut_share(c, c->micro_batch * c->num_microbatches, c->micro_batch - 1);
    return true;
}

static bool higher_stage(const Ahead *a, Config *c) {
    if (!(a->program->groups & ARGS_SHARDING) || c->zero_stage == 3) return false;
    c->zero_stage++;
    return true;
}

/* The next larger size of an axis with which the devices make a mesh and can share the batch. */
static bool larger_axis(const Ahead *a, Config *c, MeshAxis axis) {
    int64_t devices = a->world->size;
    for (;;) {
        int64_t *size = axis == MESH_TENSOR ? &c->tensor_parallel : &c->pipeline_parallel;
        if (++*size > devices) return false;
        int64_t others = c->tensor_parallel * c->pipeline_parallel, data = devices / others;
        if (devices % others || c->global_batch % data) continue;
        if (c->shard_group && data % c->shard_group) continue;
        c->data_parallel = (int)data;
        cut_share(c, c->global_batch / data, c->micro_batch);
        return true;
    }
}

static bool more_stages(const Ahead *a, Config *c) {
    return a->program->groups & ARGS_PIPELINE && larger_axis(a, c, MESH_PIPE);
}

static bool more_to_a_layer(const Ahead *a, Config *c) {
    return a->program->groups & ARGS_TENSOR && larger_axis(a, c, MESH_TENSOR);
}

/* The next step of a change after which the program can run. */
static bool make(Change *change, const Ahead *a, Config *c) {
    for (Config next = *c; change(a, &next);) {
        if (a->program->possible && !a->program->possible(&next)) continue;
        *c = next;
        return true;
    }
    return false;
}

static Change *const changes[] = {recompute, smaller_micro_batch, higher_stage, more_stages, more_to_a_layer};

static int64_t most_bytes(const Ahead *a, const Config *c) {
    DryRun *all = run_all(a, c);
    int64_t most = all[fullest(all, a->world->size)].memory.joint_peak;
    free(all);
    return most;
}

/* The first config that fits, with the bytes that a device then holds at most; else the one with all changes. */
static Config find_fit(const Ahead *a, int64_t *most) {
    for (int i = 0; i < COUNT_OF(changes); i++) { /* one of them alone */
        Config c = *a->config;
        while (make(changes[i], a, &c))
            if ((*most = most_bytes(a, &c)) <= c.device_memory) return c;
    }
    Config all = *a->config;
    for (int i = 0; i < COUNT_OF(changes); i++)
        while (make(changes[i], a, &all))
            if ((*most = most_bytes(a, &all)) <= all.device_memory) return all;
    *most = most_bytes(a, &all);
    return all;
}

/* The flags that make the user's config this one. The caller frees it. */
static char *flags_of(const Ahead *a, const Config *c) {
    const Config *before = a->config;
    Str text = {0};
    if (c->recompute != before->recompute) str_printf(&text, "--recompute ");
    if (c->pipeline_parallel != before->pipeline_parallel)
        str_printf(&text, "--pipeline-parallel-size %" PRId64 " ", c->pipeline_parallel);
    if (c->tensor_parallel != before->tensor_parallel)
        str_printf(&text, "--tensor-parallel-size %" PRId64 " ", c->tensor_parallel);
    if (c->micro_batch != before->micro_batch || c->num_microbatches != before->num_microbatches)
        str_printf(&text, "--micro-batch-size %" PRId64 " --num-microbatches %" PRId64 " ", c->micro_batch,
                   c->num_microbatches);
    if (c->zero_stage != before->zero_stage) str_printf(&text, "--zero-stage %" PRId64 " ", c->zero_stage);
    return text.count ? text.data : xstrdup("");
}

#define MORE_HINT "try a smaller model, more devices, or a larger --device-memory"

static void refuse(const Ahead *a, const DryRun *all) {
    int64_t budget = a->config->device_memory, most;
    int device = fullest(all, a->world->size);
    const MemoryUse *use = &all[device].memory;
    Str held = {0};
    for (int k = 0; k < MEMORY_CLASSES; k++)
        if (use->at_joint_peak[k])
            str_printf(&held, "%s%s %s", held.count ? ", " : "", memory_class_names[k],
                       size_text((double)use->at_joint_peak[k]).text);
    Config c = find_fit(a, &most);
    char *flags = flags_of(a, &c), *would;
    if (most <= budget)
        would = xprintf("with %sit holds %s", flags, size_text((double)most).text);
    else if (*flags && most < use->joint_peak)
        would = xprintf("even with %sit holds %s: %s", flags, size_text((double)most).text, MORE_HINT);
    else
        would = xstrdup(MORE_HINT);
    comm_refuse(a->world, would,
                xprintf("device %d will hold %s and passes the budget of %s by %s; at its fullest: %s",
                        device, size_text((double)use->joint_peak).text, size_text((double)budget).text,
                        size_text((double)(use->joint_peak - budget)).text, held.data));
}

bool memory_ahead(const MemoryAhead *program, const Config *config, Comm *world, const Device *device,
                  const Dataset *data) {
    Ahead a = {program, config, world, device, data};
    if (!config->print_memory && !config->device_memory) return false;
    DryRun *all = run_all(&a, config);
    if (config->print_memory) print_table(&a, all);
    int64_t most = all[fullest(all, world->size)].memory.joint_peak;
    if (config->device_memory && most > config->device_memory) {
        fflush(stdout);
        refuse(&a, all);
    }
    free(all);
    return config->print_memory;
}
