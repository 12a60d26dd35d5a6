#include "chapters/07_fsdp/fsdp_options.h"

#include "common/config/args.h"

static FsdpProgram options = {.waves = WAVES_TASK};

#define OPTION(KIND, ...) KIND##_FLAG(FsdpProgram, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(ENUM, "model", model, "gpt|mlp", "what is trained: MiniGPT, or a small network on noisy waves"),
    OPTION(ENUM, "sweep", sweep, "none|memory|prefetch|all",
           "instead of training, vary devices and stage and measure memory, or the batch of a device and "
           "--prefetch by the clock of --device-model"),
    WAVES_FLAGS(FsdpProgram, waves),
};

/* All that the chapter is about. */
static void prefer(Config *preset) { preset->zero_stage = 3; }

FsdpProgram fsdp_options_parse(int argc, char **argv, int devices) {
    Program program = {
        .about = "trains a MiniGPT on several devices that each keep a shard of it",
        .example = "--zero-stage 2 --max-steps 200",
        .groups = ARGS_ONE_DEVICE | ARGS_CLOCK | ARGS_OVERLAP | ARGS_SHARDING,
        .own = flags,
        .own_count = COUNT_OF(flags),
        .values = &options,
        .devices = devices,
        .prefer = prefer,
    };
    options.run = args_parse(argc, argv, &program);
    const Config *c = &options.run;
    CHECK_USAGE(c->overlap != OVERLAP_BUCKET, "the buckets of this program are its units: none, or backward",
                "--overlap bucket is chapter 05's");
    CHECK_USAGE(options.model == SHARDED_GPT || !c->shard_group, "leave one of them out",
                "--model mlp is cut among all devices, without --shard-group");
    if (c->shard_group && devices % c->shard_group) {
        int64_t below = c->shard_group;
        while (devices % below) below--;
        CHECK_USAGE(false, xprintf("--shard-group %lld does, or %d", (long long)below, devices),
                    "--shard-group %lld does not divide %d devices", (long long)c->shard_group, devices);
    }
    return options;
}
