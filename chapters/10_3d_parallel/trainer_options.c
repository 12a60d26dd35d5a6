#include "chapters/10_3d_parallel/trainer_options.h"

#include "chapters/08_tensor_parallel/sliced.h"
#include "chapters/09_pipeline_parallel/pp_options.h"
#include "common/base/platform.h"
#include "common/config/args.h"

#include <string.h>

static TrainerProgram options = {.find = {.run_meshes = 3}};

#define OPTION(KIND, ...) KIND##_FLAG(TrainerProgram, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(ENUM, "sweep", sweep, "none|axes",
           "instead of training, compare meshes of data, pipe and tensor by the clock of --device-model"),
    OPTION(ENUM, "mesh", mesh, "given|auto",
           "auto: instead of training, list all meshes, the best one first, by the clock of --device-model"),
    OPTION(INT, "devices", find.devices, 0, 16 * 1024,
           "with --mesh auto, for so many devices; 0: as many as run the program"),
    OPTION(
        INT, "run-meshes", find.run_meshes, 0, 1000,
        "with --mesh auto, so many of them are run, and what was predicted is held against what is measured"),
};

/* The larger models have meshes of their own, those of the seed that they come from, where the devices are enough for one. */
static const struct {
    const char *preset;
    int tensor, pipe;
} known_meshes[] = {{"medium", 2, 1}, {"large", 4, 2}, {"xl", 4, 4}};

/* 2 along `tensor` and 2 along `pipe`, as far as they divide the devices: 8 are 2 x 2 x 2. */
static void prefer(Config *preset) {
    int devices = platform_ranks(), tensor = devices % 2 ? 1 : 2, pipe = devices / tensor % 2 ? 1 : 2;
    for (int i = 0; i < COUNT_OF(known_meshes); i++)
        if (strcmp(preset->preset, known_meshes[i].preset) == 0 &&
            devices % (known_meshes[i].tensor * known_meshes[i].pipe) == 0) {
            tensor = known_meshes[i].tensor;
            pipe = known_meshes[i].pipe;
        }
    preset->tensor_parallel = tensor;
    preset->pipeline_parallel = pipe;
    pp_prefer_batch(preset, devices / (tensor * pipe));
}

TrainerProgram trainer_options_parse(int argc, char **argv, int devices) {
    Program program = {
        .about = "trains a MiniGPT on any mesh of data, pipe and tensor",
        .example = "--tensor-parallel-size 2 --pipeline-parallel-size 2 --zero-stage 1 --max-steps 200",
        .groups = ARGS_ALL,
        .prefer = prefer,
        .own = flags,
        .own_count = COUNT_OF(flags),
        .values = &options,
        .devices = devices,
    };
    options.run = args_parse(argc, argv, &program);
    Config *c = &options.run;
    if (options.sweep == TRAINER_SWEEP_AXES && !args_given(argc, argv, "global-batch-size"))
        c->global_batch = 4 * devices; /* any mesh can share it, and pipelines have enough micro-batches */
    sharded_check_flags(c);
    /* a prompt is the checkpoint's model's, whose sizes are not known yet */
    if (options.sweep == TRAINER_SWEEP_NONE && options.mesh == MESH_GIVEN && !c->prompt)
        sliced_check_sizes(c, NULL);
    return options;
}
