#include "chapters/05_data_parallel/dp_options.h"

#include "common/config/args.h"

static DpOptions options = {.waves = WAVES_TASK};

#define OPTION(KIND, ...) KIND##_FLAG(DpOptions, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(ENUM, "model", model, "gpt|mlp", "what is trained: MiniGPT, or a small network on noisy waves"),
    OPTION(ENUM, "sweep", sweep, "none|buckets|batch|devices|all",
           "instead of training, vary the bucket size, the batch of a device, or the number of devices, by "
           "the clock of "
           "--device-model"),
    WAVES_FLAGS(DpOptions, waves),
};

DpOptions dp_options_parse(int argc, char **argv, int devices) {
    Program program = {
        .about = "trains a MiniGPT on several devices, each with a slice of the batch",
        .example = "--overlap bucket --max-steps 200",
        .groups = ARGS_ONE_DEVICE | ARGS_DEVICES | ARGS_OVERLAP | ARGS_AHEAD | ARGS_DTYPE,
        .own = flags,
        .own_count = COUNT_OF(flags),
        .values = &options,
        .devices = devices,
    };
    options.run = args_parse(argc, argv, &program);
    options.batch_given =
        args_given(argc, argv, "micro-batch-size") || args_given(argc, argv, "global-batch-size");
    return options;
}
