#include "chapters/08_tensor_parallel/tp_options.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "common/base/platform.h"
#include "common/config/args.h"

static TpProgram options = {.waves = WAVES_TASK};

#define OPTION(KIND, ...) KIND##_FLAG(TpProgram, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(ENUM, "model", model, "gpt|mlp", "what is trained: MiniGPT, or a small network on noisy waves"),
    OPTION(
        ENUM, "sweep", sweep, "none|meshes|overlap|all",
        "instead of training, compare all meshes of data and tensor, or vary --overlap-tensor by the clock "
        "of --device-model"),
    OPTION(ENUM, "mistake", mistake, MISTAKE_NAMES,
           "instead of training, make a classic mistake, and show what notices it"),
    WAVES_FLAGS(TpProgram, waves),
};

/* As many devices share each layer as 4, 2 or 1 divides, the first that does. */
static void prefer(Config *preset) {
    int devices = platform_ranks();
    preset->tensor_parallel = devices % 4 == 0 ? 4 : devices % 2 == 0 ? 2 : 1;
}

TpProgram tp_options_parse(int argc, char **argv, int devices) {
    Program program = {
        .about = "trains a MiniGPT on several devices that each hold a slice of every matrix",
        .example = "--tensor-parallel-size 4 --sequence-parallel --max-steps 200",
        .groups = ARGS_ALL & ~(unsigned)ARGS_PIPELINE,
        .prefer = prefer,
        .own = flags,
        .own_count = COUNT_OF(flags),
        .values = &options,
        .devices = devices,
    };
    options.run = args_parse(argc, argv, &program);
    const Config *c = &options.run;
    CHECK_USAGE(c->pipeline_parallel == 1, "--tensor-parallel-size cuts each layer",
                "--pipeline-parallel-size is chapter 09's");
    sharded_check_flags(c);
    /* a prompt is the checkpoint's model's, whose sizes are not known yet */
    if (options.model == CUT_GPT && options.sweep == CUT_SWEEP_NONE && !c->prompt)
        sliced_check_sizes(c, NULL);
    return options;
}
