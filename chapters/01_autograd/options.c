#include "chapters/01_autograd/options.h"

#include "common/config/args.h"

static Options options = {
    .gemm_sizes = "64,128,256,512,1000,333x1000x77",
    .gemm_seconds = 0.1,
    .check_step = sizeof(real) == sizeof(float) ? 1e-2 : 1e-3,
    .check_tolerance = sizeof(real) == sizeof(float) ? 1e-3 : 1e-8,
    .check_each = 4,
    .hidden = 2048,
    .run = {.global_batch = 256,
            .max_steps = 2000,
            .optimizer = OPTIMIZER_ADAMW,
            .learning_rate = 1e-2,
            .warmup_ratio = 0.05,
            .beta1 = 0.9,
            .beta2 = 0.999,
            .eps = 1e-8,
            .weight_decay = 1e-4,
            .log_interval = 200,
            .eval_interval = 50},
};

#define OPTION(KIND, ...) KIND##_FLAG(Options, 0, __VA_ARGS__)
static const Flag flags[] = {
    OPTION(ENUM, "part", part, "all|gemm|tape|check|train", "which part to run"),
    OPTION(TEXT, "gemm-sizes", gemm_sizes, 1, 400, "LIST", "products to time: N for NxNxN, or MxNxK"),
    OPTION(REAL, "gemm-seconds", gemm_seconds, 0, 60, ENDS_INCLUDED,
           "how long each program is repeated at each size"),
    OPTION(REAL, "check-step", check_step, 1e-12, 1, ENDS_INCLUDED,
           "how far a weight is moved for a finite difference"),
    OPTION(REAL, "check-tolerance", check_tolerance, 0, 1, ENDS_INCLUDED,
           "error at which the gradient check fails"),
    OPTION(INT, "check-each", check_each, 1, 1000, "elements of each parameter to check"),
    OPTION(INT, "hidden-size", hidden, 1, 16384, "width of the hidden layer"),
    OPTION(INT, "global-batch-size", run.global_batch, 1, 16384, "waves in one step"),
    OPTION(INT, "max-steps", run.max_steps, 1, 1e9, "steps; the learning rate comes down until then"),
    OPTION(INT, "stop-at-step", run.stop_at_step, 0, 1e9, "end early, as if interrupted; 0: at --max-steps"),
    OPTION(ENUM, "optimizer", run.optimizer, "adamw|sgd", "AdamW, or SGD with momentum"),
    OPTION(REAL, "learning-rate", run.learning_rate, 0, 1000, ENDS_INCLUDED,
           "highest learning rate, at the end of the warm-up"),
    OPTION(REAL, "min-lr", run.min_lr, 0, 1000, ENDS_INCLUDED, "lowest learning rate, at the end"),
    OPTION(REAL, "warmup-ratio", run.warmup_ratio, 0, 1, ENDS_INCLUDED,
           "share of --max-steps in which the learning rate rises"),
    OPTION(REAL, "beta1", run.beta1, 0, 1, HIGH_EXCLUDED, "decay of the first moment; momentum of sgd"),
    OPTION(REAL, "beta2", run.beta2, 0, 1, HIGH_EXCLUDED, "decay of the second moment"),
    OPTION(REAL, "weight-decay", run.weight_decay, 0, 1000, ENDS_INCLUDED,
           "how strongly matrices are pulled to zero; biases are not"),
    OPTION(INT, "log-interval", run.log_interval, 0, 1e9, "steps between lines of progress; 0: never"),
    OPTION(INT, "eval-interval", run.eval_interval, 0, 1e9, "steps between evaluations; 0: never"),
};

static const Program program = {
    .about = "matrix products, the tape, a gradient check, and a small network fitted to noisy waves",
    .example = "--part gemm --gemm-sizes 1000,333x777x55",
    .groups = ARGS_RUN,
    .own = flags,
    .own_count = COUNT_OF(flags),
    .values = &options,
};

Options options_parse(int argc, char **argv) {
    Config config = args_parse(argc, argv, &program);
    options.run.output_dir = config.output_dir;
    options.run.seed = config.seed;
    options.run.device = config.device;
    options.run.device_memory = config.device_memory;
    options.run.gemm = config.gemm;
    options.size_count = ladder_parse(options.gemm_sizes, options.sizes);
    return options;
}
