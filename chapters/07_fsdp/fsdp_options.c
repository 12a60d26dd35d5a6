#include "chapters/07_fsdp/fsdp_options.h"

#include "chapters/07_fsdp/sharded.h"
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
        .groups = ARGS_ONE_DEVICE | ARGS_DEVICES | ARGS_OVERLAP | ARGS_SHARDING | ARGS_AHEAD | ARGS_DTYPE,
        .own = flags,
        .own_count = COUNT_OF(flags),
        .values = &options,
        .devices = devices,
        .prefer = prefer,
    };
    options.run = args_parse(argc, argv, &program);
    const Config *c = &options.run;
    CHECK_USAGE(options.model == SHARDED_GPT || !c->shard_group, "leave one of them out",
                "--model mlp is cut among all devices, without --shard-group");
    sharded_check_flags(c);
    return options;
}
