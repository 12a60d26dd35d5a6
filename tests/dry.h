/* dry: what the tests of dry runs share: a program run dry, and the same for real, by the same clock; of both what the device
 * held after every change. */
#ifndef DRY_TESTS_H
#define DRY_TESTS_H

#include "common/comm/clock.h"
#include "common/run/dry_run.h"
#include "tests/ranks.h"
#include "tests/training.h"

#include <inttypes.h>

enum { VALIDATION_WINDOWS = 41 };
static inline int64_t dry_validation_windows(const Dataset *data, int64_t T) {
    (void)data, (void)T;
    return VALIDATION_WINDOWS;
}

typedef struct {
    const Device *device;
    uint64_t all; /* of all changes, in their order */
    int64_t count;
} Watch;

static inline void dry_changed(void *context) {
    Watch *w = context;
    for (int k = 0; k < MEMORY_CLASSES; k++)
        w->all = (w->all ^ (uint64_t)w->device->memory.now[k]) * 0x9e3779b97f4a7c15u;
    w->count++;
}

static DryProgram *dry_watched_program;
static Watch dry_watch;

static inline double dry_watched(const Config *c, Comm *group, Device *device, const Dataset *data) {
    dry_watch = (Watch){.device = device};
    device->observer = (MemoryObserver){dry_changed, &dry_watch};
    double seconds = dry_watched_program(c, group, device, data);
    device->observer.changed = NULL;
    return seconds;
}

/* The same on a real device and in the real world. */
static inline DryRun dry_for_real(DryProgram *program, const Config *c, Comm *world, const Dataset *data) {
    Device *device = device_new_cpu(0);
    Clock clock;
    clock_attach(device, &clock, device_model(c->device_model));
    comm_account(world, device);
    DryRun run = {.seconds = program(c, world, device, data)};
    comm_account(world, NULL);
    run.memory = device->memory;
    clock_detach(&clock);
    device_delete(device);
    return run;
}

typedef struct {
    DryRun predicted, measured;
    Watch dry, real;
} DryPair;

/* `dry` run dry and `actual` for real; NULL: the same. On random tokens. */
static inline DryPair dry_pair(Comm *world, DryProgram *dry, DryProgram *actual, const Config *c) {
    RandomTokens tokens = random_tokens(c, 1, 0.2);
    tokens.dataset.validation_windows = dry_validation_windows;
    Device *like = device_new_cpu(0);
    DryPair pair;
    dry_watched_program = dry;
    pair.predicted = dry_run(dry_watched, c, world->rank, world->size, like, &tokens.dataset);
    pair.dry = dry_watch;
    device_delete(like);
    if (actual) dry_watched_program = actual;
    pair.measured = dry_for_real(dry_watched, c, world, &tokens.dataset);
    pair.real = dry_watch;
    return pair;
}

static inline bool dry_same_memory(const DryPair *pair, int rank) {
    const MemoryUse *a = &pair->predicted.memory, *b = &pair->measured.memory;
    bool same = a->joint_peak == b->joint_peak;
    for (int k = 0; k < MEMORY_CLASSES; k++) {
        bool alike = a->peak[k] == b->peak[k] && a->at_joint_peak[k] == b->at_joint_peak[k];
        if (!alike)
            fprintf(stderr, "# rank %d, %s: predicted %" PRId64 ", measured %" PRId64 "\n", rank,
                    memory_class_names[k], a->peak[k], b->peak[k]);
        same = same && alike;
    }
    return same;
}

/* Run dry, the program holds what it holds for real. */
static inline DryPair dry_compare(Comm *world, DryProgram *program, const Config *c, const char *name) {
    DryPair pair = dry_pair(world, program, NULL, c);
    ok_on_all(world, dry_same_memory(&pair, world->rank), "%s: bytes of each class", name);
    ok_on_all(world,
              pair.dry.all == pair.real.all && pair.dry.count == pair.real.count && pair.real.count > 20,
              "%s: ... and after each of %" PRId64 " changes", name, pair.real.count);
    return pair;
}

#endif
