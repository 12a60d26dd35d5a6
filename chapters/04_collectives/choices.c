#include "chapters/04_collectives/choices.h"

#include "common/config/args.h"

static Choices choices = {
    .rows = 8192,
    .columns = 8192,
    .count = 1000003,
    .largest = 4 << 20,
    .tries = 5,
    .playground = {.layers = 2, .D = 240, .F = 960, .batch = 240},
};

#define CHOICE(KIND, ...) KIND##_FLAG(Choices, 0, __VA_ARGS__)
static const Flag flags[] = {
    CHOICE(ENUM, "part", part, "all|devices|shardings|products|collectives|ring|costs|playground",
           "which part to run"),
    CHOICE(INT, "tensor-parallel-size", tensor_size, 0, 1024,
           "columns of the mesh, and devices that share a layer in the playground; 0: a mesh that is as "
           "square as "
           "possible, and every number of devices"),
    CHOICE(INT, "matrix-rows", rows, 1, 1 << 20, "rows of the matrix that is spread over the mesh"),
    CHOICE(INT, "matrix-columns", columns, 1, 1 << 20, "columns of the matrix that is spread over the mesh"),
    CHOICE(INT, "ring-count", count, 0, 1 << 28, "numbers that ring and tree add up"),
    CHOICE(BYTES, "largest-message", largest, 4096, 1 << 30,
           "largest message for which collectives are measured"),
    CHOICE(INT, "tries", tries, 1, 1000, "how often each measurement is repeated; the median counts"),
    CHOICE(INT, "num-layers", playground.layers, 1, 1024, "layers of the playground"),
    CHOICE(INT, "hidden-size", playground.D, 1, 1 << 17, "D of the playground's weights (D, F)"),
    CHOICE(INT, "intermediate-size", playground.F, 1, 1 << 20, "F of the playground's weights (D, F)"),
    CHOICE(INT, "global-batch-size", playground.batch, 1, 1 << 24, "rows of the playground's input"),
    CHOICE(INT, "data-parallel-size", playground.data, 0, 1024,
           "devices that share the batch in the playground; 0: every number"),
    CHOICE(INT, "fsdp-size", playground.fsdp, 0, 1024,
           "devices that share the weights in the playground; 0: every number"),
};

static const Program program = {
    .about = "devices, meshes, matrices in pieces, collectives and what they cost",
    .example = "--part playground --num-layers 4 --fsdp-size 2",
    .groups = ARGS_RUN | ARGS_DEVICES,
    .own = flags,
    .own_count = COUNT_OF(flags),
    .values = &choices,
};

Choices choices_parse(int argc, char **argv) {
    choices.run = args_parse(argc, argv, &program);
    choices.playground.tensor = choices.tensor_size;
    choices.playground.tries = choices.tries;
    choices.playground.run = &choices.run;
    return choices;
}
